//! Where and as whom to connect: what the inventory says of a host, for the session.

use std::path::PathBuf;

use crate::secret::Secret;

/// Where and as whom to connect. Made by `config` from the inventory; `~/.ssh/config` fills the gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The host's name in the inventory, for messages.
    pub name: String,
    /// Host name, address, or a `Host` of `~/.ssh/config`.
    pub address: String,
    /// The port, where the inventory says one.
    pub port: Option<u16>,
    /// The user, where the inventory says one.
    pub user: Option<String>,
    /// The private key, where the inventory says one; offered first.
    pub identity_file: Option<PathBuf>,
    /// The only host keys that are accepted, in OpenSSH's public-key format or as `SHA256:…`, where the
    /// inventory pins any.
    pub host_keys: Vec<String>,
    /// The host to go through, where the inventory says one.
    pub jump: Option<Box<Target>>,
    /// The password for password and keyboard-interactive logins, where the inventory has one.
    pub password: Option<Secret>,
    /// Where sudo's password on the host comes from, where its rules ask for one and the run needs sudo.
    pub sudo: Option<SudoPassword>,
    /// Whether the host may use our agent.
    pub forward_agent: bool,
}

/// Where the password comes from that sudo wants on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SudoPassword {
    /// A person types it, once for all the hosts of a run.
    Ask,
    /// It is known.
    Known(Secret),
}
