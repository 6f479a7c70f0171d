//! The lab tier: real servers with systemd, sshd and sudo.
