//! The services that a command is about: which hosts have which, from the words of the command line.

use super::args::SelectArgs;
use super::look::Look;
use super::project::Project;
use crate::command::Command;
use crate::config::inventory::Inventory;
use crate::config::selection::Host;
use crate::error::{Error, Kind};
use crate::facts::Facts;
use crate::layout::Layout;
use crate::plan::services::{self, Act, Entry, Excerpt, State};
use crate::plan::stack::{self, Stack};
use crate::step::Task;

/// The chosen services of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Units of systemd.
    pub units: Vec<String>,
    /// The live release of a Compose project.
    pub stack: Option<Stack>,
}

/// What is missing where the login may not read the journal.
const UNREADABLE: &str = "the login may not read the whole journal, so that lines of other users and of systemd itself are missing; \
                          as root: usermod --append --groups systemd-journal USER. `ship logs --sudo` reads it as root, where sudo allows it";

impl Place {
    /// Whether the host has none of the services.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty() && self.stack.as_ref().is_none_or(|stack| stack.chosen.is_empty())
    }

    /// The names of all that is chosen.
    pub fn names(&self) -> Vec<String> {
        let of_stack = self.stack.iter().flat_map(|stack| &stack.chosen);
        self.units.iter().chain(of_stack).cloned().collect()
    }

    /// Whether root's processes show the logs, which nobody else can end.
    pub fn is_roots(&self, sudo: bool) -> bool {
        sudo || self.stack.as_ref().is_some_and(|stack| stack.docker.sudo)
    }

    /// The command that shows their logs.
    pub fn logs(&self, excerpt: Excerpt, sudo: bool) -> Command {
        let command = match &self.stack {
            Some(stack) => stack.logs(excerpt),
            None => services::journal(&self.units, excerpt),
        };
        if sudo { command.sudo() } else { command }
    }

    /// A question whether all of the logs can be read, and what to say where it fails.
    pub fn may_read(&self, sudo: bool) -> Option<(Command, &'static str)> {
        (!sudo && !self.units.is_empty()).then(|| (services::journal_is_readable(), UNREADABLE))
    }

    /// Reads a line of the logs, and what it is known by when it comes again.
    pub fn entry(&self, line: &[u8]) -> (Entry, Option<(String, String)>) {
        match &self.stack {
            Some(_) => stack::entry(line),
            None => (services::journal_entry(line), None),
        }
    }

    /// The question after the state of the services.
    pub fn question(&self) -> Command {
        match &self.stack {
            Some(stack) => stack.docker.containers(),
            None => services::states(&self.units),
        }
    }

    /// Reads the answer to [`Place::question`].
    pub fn states(&self, answer: &str) -> Vec<State> {
        match &self.stack {
            Some(stack) => stack.states(answer),
            None => services::read_states(&self.units, answer),
        }
    }

    /// What is done to containers; units have a step of their own.
    pub fn act(&self, act: Act) -> Vec<Task> {
        self.stack.as_ref().map(|stack| stack.act(act)).unwrap_or_default()
    }

    /// Asks for what [`Place::run`] needs to know; nothing, where it needs nothing.
    pub fn settings(&self) -> Command {
        match self.units.first() {
            Some(unit) => services::unit_settings(unit),
            None => Command::argv(["true"]),
        }
    }

    /// What runs `words` where the first service runs.
    pub fn run(&self, settings: &str, words: &[String], how: How, layout: &Layout) -> Result<Command, String> {
        match (&self.stack, self.units.first()) {
            (Some(stack), _) => Ok(stack.run(words, how.in_running, how.terminal)),
            (None, Some(_)) if how.in_running => Err("--exec is for containers".to_owned()),
            (None, Some(unit)) => services::in_unit(unit, settings, words, &layout.current()).map(Command::shell),
            (None, None) => Err("the host has no such service".to_owned()),
        }
    }
}

/// How a command is run where a service runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// In a container that runs already.
    pub in_running: bool,
    /// On a terminal, for a person.
    pub terminal: bool,
}

/// `[ENV] [NAME]…`: the first word is an environment only where the inventory has one of that name.
pub fn words(inventory: &Inventory, select: &SelectArgs, names: &[String]) -> (SelectArgs, Vec<String>) {
    let mut names = names.to_vec();
    let mut select = select.clone();
    if let Some(word) = select.environment.take_if(|word| inventory.environment(word).is_none()) {
        names.insert(0, word);
    }
    (select, names)
}

/// Whether the services of any of the chosen hosts are containers: which there are, the hosts know.
pub fn are_containers(project: &Project) -> bool {
    project.selection.hosts.iter().any(|host| project.compose(host).is_some())
}

/// The chosen services of each of `hosts`, which look like `facts` where that is known. A name that no host has is
/// a mistake.
pub fn of_hosts(project: &Project, hosts: &[&Host], facts: &[&Facts], names: &[String]) -> Result<Vec<Place>, Error> {
    let mut places = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        let stack = match (project.compose(host), facts.get(index)) {
            (Some(step), Some(facts)) => Some(
                Stack::of(&step, &Project::layout(host), facts)
                    .map_err(|why| Error::new(Kind::Refused, format!("{}: {why}", host.name)))?,
            ),
            _ => None,
        };
        let units = if stack.is_some() { Vec::new() } else { project.services(host)? };
        places.push(Place { units, stack });
    }
    let known: Vec<Vec<String>> = places.iter().map(Place::names).collect();
    for (place, chosen) in places.iter_mut().zip(services::choose(&known, names).map_err(Error::usage)?) {
        match &mut place.stack {
            Some(stack) => stack.chosen = chosen,
            None => place.units = chosen,
        }
    }
    Ok(places)
}

/// The chosen services of each host that answered.
pub async fn places(look: &mut Look, names: &[String]) -> Result<Vec<Place>, Error> {
    let facts = if are_containers(&look.project) { look.facts().await? } else { Vec::new() };
    let hosts: Vec<&Host> = look.members.iter().filter_map(|member| look.project.host(&member.name)).collect();
    let facts: Vec<&Facts> = facts.iter().map(|(_, facts)| facts).collect();
    of_hosts(&look.project, &hosts, &facts, names)
}

/// Whether what is to be known of the services of `host` needs sudo.
pub fn need_sudo(project: &Project, host: &Host) -> bool {
    project.compose(host).is_some_and(|step| step.sudo)
}
