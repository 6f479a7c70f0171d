//! The session room against real OpenSSH servers on loopback, without root, port 22 or Docker.

mod commands;
mod host_keys;
pub mod sshd;
