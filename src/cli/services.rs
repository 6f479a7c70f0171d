//! The services that a command is about: which hosts have which, from the words of the command line.

use super::args::SelectArgs;
use super::look::Look;
use super::project::Project;
use crate::command::Command;
use crate::config::inventory::Inventory;
use crate::config::selection::Host;
use crate::error::Error;
use crate::layout::Layout;
use crate::plan::services::{self, Entry, Excerpt};

/// The chosen services of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Units of systemd.
    pub units: Vec<String>,
}

/// What is missing where the login may not read the journal.
const UNREADABLE: &str = "the login may not read the whole journal, so that lines of other users and of systemd itself are missing; \
                          as root: usermod --append --groups systemd-journal USER. `ship logs --sudo` reads it as root, where sudo allows it";

impl Place {
    /// Whether the host has none of the services.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// The command that shows their logs; none where there are none.
    pub fn logs(&self, excerpt: Excerpt, sudo: bool) -> Option<Command> {
        if self.is_empty() {
            return None;
        }
        let journal = services::journal(&self.units, excerpt);
        Some(if sudo { journal.sudo() } else { services::leashed(&journal) })
    }

    /// A question whether all of the logs can be read, and what to say where it fails.
    pub fn may_read(&self, sudo: bool) -> Option<(Command, &'static str)> {
        (!sudo && !self.units.is_empty()).then(|| (services::journal_is_readable(), UNREADABLE))
    }

    /// Asks for what [`Place::run`] needs to know.
    pub fn settings(&self) -> Command {
        services::unit_settings(self.units.first().map(String::as_str).unwrap_or_default())
    }

    /// The shell text that runs `words` where the service runs.
    pub fn run(&self, settings: &str, words: &[String], layout: &Layout) -> Result<String, String> {
        let unit = self.units.first().map(String::as_str).unwrap_or_default();
        services::in_unit(unit, settings, words, &layout.current())
    }

    /// Reads a line of the logs.
    pub fn entry(&self, line: &[u8]) -> Entry {
        services::journal_entry(line)
    }
}

/// `[ENV] [NAME]…`: the first word is a service where no environment has that name.
pub fn words(inventory: &Inventory, select: &SelectArgs, names: &[String]) -> (SelectArgs, Vec<String>) {
    let mut names = names.to_vec();
    let mut select = select.clone();
    if let Some(word) = select.environment.take_if(|word| inventory.environment(word).is_none()) {
        names.insert(0, word);
    }
    (select, names)
}

/// The chosen services of each of `hosts`. A name that no host has is a mistake.
pub fn of_hosts(project: &Project, hosts: &[&Host], names: &[String]) -> Result<Vec<Place>, Error> {
    let known = hosts.iter().map(|host| project.services(host)).collect::<Result<Vec<_>, _>>()?;
    let chosen = services::choose(&known, names).map_err(Error::usage)?;
    Ok(chosen.into_iter().map(|units| Place { units }).collect())
}

/// The chosen services of each host that answered.
pub fn places(look: &Look, names: &[String]) -> Result<Vec<Place>, Error> {
    let selected = &look.project.selection.hosts;
    let hosts: Vec<&Host> =
        look.members.iter().filter_map(|member| selected.iter().find(|host| host.name == member.name)).collect();
    of_hosts(&look.project, &hosts, names)
}
