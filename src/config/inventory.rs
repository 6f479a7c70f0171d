//! `inventory.toml`: who is deployed to.

use std::path::{Path, PathBuf};

use crate::config::batch::Batch;
use crate::config::located::{Located, Vars};
use crate::config::secrets::SecretSpec;
use crate::config::{inventory_checks, inventory_file};
use crate::document::{Place, Problems, parse};

/// How many releases are kept where the inventory does not say.
pub const KEEP_RELEASES: u32 = 5;

/// A checked `inventory.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct Inventory {
    /// The file.
    pub path: PathBuf,
    /// The folder that it stands in: the project.
    pub folder: PathBuf,
    /// The recipe's name.
    pub recipe: Located<String>,
    /// The application's name, made of `[A-Za-z0-9._-]`.
    pub app: String,
    /// Where releases live on each host: an absolute path without `..`, or a template of one.
    pub deploy_to: Located<String>,
    /// The environment that is meant where none is named.
    pub default: Option<Located<String>>,
    /// How many releases are kept on each host, 1 or more.
    pub keep_releases: u32,
    /// Patterns of files that are never uploaded.
    pub exclude: Vec<String>,
    /// Variables of every host.
    pub vars: Vars,
    /// The hosts, in the order of the file.
    pub hosts: Vec<HostSpec>,
    /// The groups, in the order of the file.
    pub groups: Vec<GroupSpec>,
    /// The environments, in the order of the file.
    pub environments: Vec<EnvironmentSpec>,
    /// The secrets, in the order of the file.
    pub secrets: Vec<SecretSpec>,
    /// The file as a place, for problems of the whole.
    pub place: Place,
}

/// A host as the inventory describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct HostSpec {
    /// Its name in the inventory.
    pub name: Located<String>,
    /// Host name, address, or a `Host` of `~/.ssh/config`; its name where the inventory gives none.
    pub address: String,
    /// The login.
    pub user: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The private key; relative paths are already joined to the project's folder, `~/` is kept.
    pub identity_file: Option<PathBuf>,
    /// The host to go through.
    pub jump: Option<Located<Jump>>,
    /// The only host keys that are accepted.
    pub host_keys: Vec<String>,
    /// Whether the host may use our agent.
    pub forward_agent: bool,
    /// The secret that holds the login's password.
    pub password: Option<Located<String>>,
    /// Where sudo's password comes from.
    pub sudo_password: Option<SudoPasswordSpec>,
    /// What it does.
    pub roles: Vec<String>,
    /// Where its releases live, where that differs from the rest; a path or a template of one.
    pub deploy_to: Option<Located<String>>,
    /// Its variables.
    pub vars: Vars,
}

/// Where the password comes from that sudo wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SudoPasswordSpec {
    /// A person types it.
    Ask,
    /// This secret.
    Secret(Located<String>),
}

/// The host to go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jump {
    /// A host of the inventory, by name.
    Host(String),
    /// `user@host:port`, of which user and port may be left out, but not both.
    Address {
        /// The login.
        user: Option<String>,
        /// Host name or address.
        host: String,
        /// The port.
        port: Option<u16>,
    },
}

/// A named set of hosts with variables.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSpec {
    /// Its name.
    pub name: Located<String>,
    /// Names and globs of hosts, and names of groups.
    pub hosts: Vec<Located<String>>,
    /// Roles that each of its hosts has.
    pub roles: Vec<String>,
    /// Variables of its hosts.
    pub vars: Vars,
}

/// A named set of hosts with variables and a branch.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvironmentSpec {
    /// Its name.
    pub name: Located<String>,
    /// Names and globs of hosts and groups.
    pub hosts: Vec<Located<String>>,
    /// The command that prints hosts in the form of Ansible's dynamic inventory.
    pub hosts_from: Option<Located<String>>,
    /// The branch that is deployed where none is named.
    pub branch: Option<String>,
    /// How many hosts are published at once.
    pub batch: Batch,
    /// How many hosts may fail.
    pub max_failures: u32,
    /// Whether a person has to confirm each deploy.
    pub confirm: bool,
    /// Where releases live, where that differs from the rest; a path or a template of one.
    pub deploy_to: Option<Located<String>>,
    /// Variables of its hosts.
    pub vars: Vars,
    /// Secrets that only this environment has, or has in another way.
    pub secrets: Vec<SecretSpec>,
}

impl Inventory {
    /// Reads the `text` of the file at `path`. All problems are returned at once.
    pub fn read(path: &Path, text: String) -> Result<Self, Problems> {
        let document = parse(path, text)?;
        let mut problems = Problems::new();
        let inventory = inventory_file::read(path, &document, &mut problems);
        if let Some(inventory) = &inventory {
            inventory_checks::check(inventory, &mut problems);
        }
        inventory.filter(|_| problems.is_empty()).ok_or(problems)
    }

    /// The host `name`.
    pub fn host(&self, name: &str) -> Option<&HostSpec> {
        self.hosts.iter().find(|host| host.name.value == name)
    }

    /// The environment `name`.
    pub fn environment(&self, name: &str) -> Option<&EnvironmentSpec> {
        self.environments.iter().find(|environment| environment.name.value == name)
    }

    /// Whether the host `name` is only a way to others: a jump host without roles. Such a host is not
    /// deployed to unless it is named.
    pub fn is_only_jump(&self, name: &str) -> bool {
        let jumped = |host: &HostSpec| matches!(&host.jump, Some(jump) if jump.value == Jump::Host(name.to_owned()));
        self.hosts.iter().any(jumped) && self.host(name).is_some_and(|host| host.roles.is_empty())
    }
}
