//! The session room against real OpenSSH servers on loopback, without root, port 22 or Docker.

mod commands;
pub mod sshd;
