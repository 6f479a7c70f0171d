//! The session room against real OpenSSH servers on loopback, without root, port 22 or Docker.

mod commands;
mod host_keys;
mod login;
mod shells;
pub mod sshd;
mod sudo;
mod vanish;
