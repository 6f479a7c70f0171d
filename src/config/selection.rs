//! Which hosts a command is about.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::batch::Batch;
use crate::config::inventory::Inventory;
use crate::config::located::Vars;
use crate::config::secrets::SecretSpec;
use crate::document::Problems;
use crate::secret::Secret;
use crate::session::Target;

/// What the command line says about hosts. Patterns of one kind widen the choice, kinds narrow it:
/// `--host 'web*' --host db1 --role app` is every `web*` and `db1` that has the role `app`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The environment.
    pub environment: Option<String>,
    /// Names or globs of hosts.
    pub hosts: Vec<String>,
    /// Names or globs of roles.
    pub roles: Vec<String>,
    /// Names or globs of groups.
    pub groups: Vec<String>,
}

/// The hosts of a run, and what the environment says about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// The environment, where the inventory has any.
    pub environment: Option<String>,
    /// The environment's branch.
    pub branch: Option<String>,
    /// How many hosts are published at once.
    pub batch: Batch,
    /// How many hosts may fail.
    pub max_failures: u32,
    /// Whether a person has to confirm a deploy.
    pub confirm: bool,
    /// Variables for what happens on this machine: inventory < environment.
    pub vars: Vars,
    /// The secrets: those of the inventory, with the environment's in their place.
    pub secrets: Vec<SecretSpec>,
    /// The hosts, in the order of the inventory; never empty.
    pub hosts: Vec<Host>,
}

/// A host of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Its name in the inventory.
    pub name: String,
    /// What it does.
    pub roles: Vec<String>,
    /// The groups that it belongs to.
    pub groups: Vec<String>,
    /// Where its releases live.
    pub deploy_to: String,
    /// Its variables: inventory < group < environment < host.
    pub vars: Vars,
    /// How to connect. Passwords are put in by [`Selection::give_passwords`].
    pub target: Target,
    /// The secrets that are passwords: name of the target (the host, or one it jumps through) → name of
    /// the secret.
    pub passwords: BTreeMap<String, String>,
}

impl Selection {
    /// The names of the secrets that logins need.
    pub fn password_secrets(&self) -> BTreeSet<String> {
        self.hosts.iter().flat_map(|host| host.passwords.values().cloned()).collect()
    }

    /// Puts resolved secrets into the targets.
    pub fn give_passwords(&mut self, secrets: &BTreeMap<String, Secret>) {
        for host in &mut self.hosts {
            let mut target = Some(&mut host.target);
            while let Some(each) = target {
                each.password = host.passwords.get(&each.name).and_then(|name| secrets.get(name)).cloned();
                target = each.jump.as_deref_mut();
            }
        }
    }
}

/// The hosts that `choice` names. `dynamic` runs a `hosts_from` command and returns what it printed, or
/// a sentence that says why it failed.
pub fn select(
    _inventory: &Inventory,
    _choice: &Choice,
    _dynamic: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Selection, Problems> {
    Err(Problems::new())
}
