//! The step kinds: what each is in a recipe, and which tasks it becomes on a host.
//!
//! Adding a kind is one new file here and one arm in each `match` of this file. Deliberately absent:
//! templates (`config` renders a step's body before it is read here) and the order of things (`plan`).

use std::time::Duration;

use crate::command::{Command, EnvValue};
use crate::document::{Node, Problems};
use crate::event::Phase;
use crate::facts::Facts;
use crate::layout::{Layout, ReleaseId};

pub mod compose;
pub mod detach;
pub mod diff;
pub mod directory;
pub mod file;
pub mod free_ports;
pub mod ground;
pub mod images;
pub mod link;
pub mod local;
pub mod nginx;
pub mod owned;
pub mod packages;
pub mod run;
pub mod settings;
pub mod sudo;
pub mod sudoers;
pub mod swap;
pub mod systemd;
mod task;
pub mod upload;
pub mod wait;

pub use task::{Action, Decide, Derive, Feed, Judge, Poll, Sample, Sending, Task, Verdict};

/// What a step does: the one action key of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Runs a command on this machine, in the clean checkout.
    Local,
    /// Puts files of the checkout into the release.
    Upload,
    /// Writes a settings file into the release.
    Settings,
    /// Links shared files and folders into the release.
    Link,
    /// Sends container images.
    Images,
    /// Runs a command on the host.
    Run,
    /// Runs one exact command as root.
    Sudo,
    /// Restarts, reloads, starts or stops units and watches them.
    Systemd,
    /// Freezes and publishes a release of Docker Compose.
    Compose,
    /// Switches `current` to the release.
    Swap,
    /// Waits until something answers.
    Wait,
    /// Makes folders.
    Directory,
    /// Writes a file of the host.
    File,
    /// Installs an nginx site.
    Nginx,
    /// Installs packages.
    Packages,
    /// Installs the sudo rules that deploys need.
    Sudoers,
    /// Refuses while ports are in use.
    FreePorts,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: &[Self] = &[
        Self::Local,
        Self::Upload,
        Self::Settings,
        Self::Link,
        Self::Images,
        Self::Run,
        Self::Sudo,
        Self::Systemd,
        Self::Compose,
        Self::Swap,
        Self::Wait,
        Self::Directory,
        Self::File,
        Self::Nginx,
        Self::Packages,
        Self::Sudoers,
        Self::FreePorts,
    ];

    /// The action key.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Upload => "upload",
            Self::Settings => "settings",
            Self::Link => "link",
            Self::Images => "images",
            Self::Run => "run",
            Self::Sudo => "sudo",
            Self::Systemd => "systemd",
            Self::Compose => "compose",
            Self::Swap => "swap",
            Self::Wait => "wait",
            Self::Directory => "directory",
            Self::File => "file",
            Self::Nginx => "nginx",
            Self::Packages => "packages",
            Self::Sudoers => "sudoers",
            Self::FreePorts => "free_ports",
        }
    }

    /// One line for the documentation.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Local => local::SUMMARY,
            Self::Upload => upload::SUMMARY,
            Self::Settings => settings::SUMMARY,
            Self::Link => link::SUMMARY,
            Self::Images => images::SUMMARY,
            Self::Run => run::SUMMARY,
            Self::Sudo => sudo::SUMMARY,
            Self::Systemd => systemd::SUMMARY,
            Self::Compose => compose::SUMMARY,
            Self::Swap => swap::SUMMARY,
            Self::Wait => wait::SUMMARY,
            Self::Directory => directory::SUMMARY,
            Self::File => file::SUMMARY,
            Self::Nginx => nginx::SUMMARY,
            Self::Packages => packages::SUMMARY,
            Self::Sudoers => sudoers::SUMMARY,
            Self::FreePorts => free_ports::SUMMARY,
        }
    }

    /// The value of the action key, as an example in TOML.
    pub fn example(self) -> &'static str {
        match self {
            Self::Local => local::EXAMPLE,
            Self::Upload => upload::EXAMPLE,
            Self::Settings => settings::EXAMPLE,
            Self::Link => link::EXAMPLE,
            Self::Images => images::EXAMPLE,
            Self::Run => run::EXAMPLE,
            Self::Sudo => sudo::EXAMPLE,
            Self::Systemd => systemd::EXAMPLE,
            Self::Compose => compose::EXAMPLE,
            Self::Swap => swap::EXAMPLE,
            Self::Wait => wait::EXAMPLE,
            Self::Directory => directory::EXAMPLE,
            Self::File => file::EXAMPLE,
            Self::Nginx => nginx::EXAMPLE,
            Self::Packages => packages::EXAMPLE,
            Self::Sudoers => sudoers::EXAMPLE,
            Self::FreePorts => free_ports::EXAMPLE,
        }
    }

    /// The phases in which the kind may stand.
    pub fn phases(self) -> &'static [Phase] {
        match self {
            Self::Local => &[Phase::Build],
            Self::Upload | Self::Settings | Self::Link | Self::Images => &[Phase::Prepare],
            Self::Swap => &[Phase::Publish],
            Self::Compose => &[Phase::Prepare, Phase::Publish, Phase::Finish],
            Self::Run | Self::Sudo | Self::Systemd | Self::Wait => {
                &[Phase::Prepare, Phase::Publish, Phase::Finish, Phase::Setup]
            }
            Self::Directory | Self::File | Self::Nginx | Self::Packages | Self::Sudoers | Self::FreePorts => {
                &[Phase::Setup]
            }
        }
    }

    /// Whether the strings of the body are shell text, in which inserted values are quoted.
    pub fn is_shell(self) -> bool {
        matches!(self, Self::Local | Self::Run)
    }

    /// Whether its commands can run detached.
    pub fn can_detach(self) -> bool {
        matches!(self, Self::Run | Self::Compose)
    }

    /// Checks the body as it stands in the recipe, before templates are rendered.
    pub fn check(self, body: &Node, problems: &mut Problems) {
        let _ = Step::read(self, body, problems);
    }
}

/// A step with everything known but the host's facts.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// See [`local`].
    Local(local::Local),
    /// See [`upload`].
    Upload(upload::Upload),
    /// See [`settings`].
    Settings(settings::Settings),
    /// See [`link`].
    Link(link::Link),
    /// See [`images`].
    Images(images::Images),
    /// See [`run`].
    Run(run::Run),
    /// See [`sudo`].
    Sudo(sudo::Sudo),
    /// See [`systemd`].
    Systemd(systemd::Systemd),
    /// See [`compose`].
    Compose(compose::Compose),
    /// See [`swap`].
    Swap(swap::Swap),
    /// See [`wait`].
    Wait(wait::Wait),
    /// See [`directory`].
    Directory(directory::Directory),
    /// See [`file`].
    File(file::File),
    /// See [`nginx`].
    Nginx(nginx::Nginx),
    /// See [`packages`].
    Packages(packages::Packages),
    /// See [`sudoers`].
    Sudoers(sudoers::Sudoers),
    /// See [`free_ports`].
    FreePorts(free_ports::FreePorts),
}

impl Step {
    /// Reads a body, noting every problem.
    pub fn read(kind: Kind, body: &Node, problems: &mut Problems) -> Option<Self> {
        match kind {
            Kind::Local => local::Local::read(body, problems).map(Self::Local),
            Kind::Upload => upload::Upload::read(body, problems).map(Self::Upload),
            Kind::Settings => settings::Settings::read(body, problems).map(Self::Settings),
            Kind::Link => link::Link::read(body, problems).map(Self::Link),
            Kind::Images => images::Images::read(body, problems).map(Self::Images),
            Kind::Run => run::Run::read(body, problems).map(Self::Run),
            Kind::Sudo => sudo::Sudo::read(body, problems).map(Self::Sudo),
            Kind::Systemd => systemd::Systemd::read(body, problems).map(Self::Systemd),
            Kind::Compose => compose::Compose::read(body, problems).map(Self::Compose),
            Kind::Swap => swap::Swap::read(body, problems).map(Self::Swap),
            Kind::Wait => wait::Wait::read(body, problems).map(Self::Wait),
            Kind::Directory => directory::Directory::read(body, problems).map(Self::Directory),
            Kind::File => file::File::read(body, problems).map(Self::File),
            Kind::Nginx => nginx::Nginx::read(body, problems).map(Self::Nginx),
            Kind::Packages => packages::Packages::read(body, problems).map(Self::Packages),
            Kind::Sudoers => sudoers::Sudoers::read(body, problems).map(Self::Sudoers),
            Kind::FreePorts => free_ports::FreePorts::read(body, problems).map(Self::FreePorts),
        }
    }

    /// The name of a step whose author gave it none.
    pub fn title(&self) -> String {
        match self {
            Self::Local(step) => step.command.clone(),
            Self::Upload(_) => "Upload the release".to_owned(),
            Self::Settings(step) => format!("Write {}", step.to),
            Self::Link(_) => "Link shared files".to_owned(),
            Self::Images(step) => step.title(),
            Self::Run(step) => step.command.clone(),
            Self::Sudo(step) => format!("sudo {}", step.argv.join(" ")),
            Self::Systemd(step) => step.title(),
            Self::Compose(step) => step.title(),
            Self::Swap(_) => "Switch current".to_owned(),
            Self::Wait(step) => step.title(),
            Self::Directory(step) => format!("Make {}", step.paths.join(", ")),
            Self::File(step) => format!("Write {}", step.to),
            Self::Nginx(step) => format!("Write {}", step.to),
            Self::Packages(step) => format!("Install {}", step.names.join(", ")),
            Self::Sudoers(_) => "Allow what deploys need".to_owned(),
            Self::FreePorts(_) => "Look for free ports".to_owned(),
        }
    }

    /// The programs that the host needs for this step; facts say where they are.
    pub fn programs(&self) -> Vec<String> {
        match self {
            Self::Images(step) => step.programs(),
            Self::Sudo(step) => vec!["sudo".to_owned(), step.program().to_owned()],
            Self::Systemd(_) => vec!["sudo".to_owned(), "systemctl".to_owned(), "journalctl".to_owned()],
            Self::Compose(step) => step.programs(),
            Self::Wait(step) => step.programs(),
            Self::Nginx(_) => vec!["nginx".to_owned(), "systemctl".to_owned()],
            Self::File(step) => vec!["systemctl".to_owned()].into_iter().chain(step.check.first().cloned()).collect(),
            Self::Packages(_) => vec!["apt-get".to_owned()],
            Self::Sudoers(_) => vec!["visudo".to_owned()],
            _ => Vec::new(),
        }
    }

    /// The files of settings that the step reads: relative to the release, and to `shared/`, where they may be.
    pub fn env_files(&self) -> &[String] {
        match self {
            Self::Compose(step) => &step.env_files,
            _ => &[],
        }
    }

    /// Whether the step makes sense in `phase`; the error says why not. `guarded` is a step that says how to see
    /// that it is done.
    pub fn suits(&self, phase: Phase, guarded: bool) -> Result<(), &'static str> {
        let setup = phase == Phase::Setup;
        match self {
            Self::Systemd(step)
                if setup && !(step.restart.is_empty() && step.reload.is_empty() && step.stop.is_empty()) =>
            {
                Err("in `setup`, `systemd` takes `enable` and `start`: a second run must find nothing to do \
                     (`file` has `restart` and `reload`, for after a change)")
            }
            Self::Systemd(step) if !setup && !step.enable.is_empty() => {
                Err("`enable` stands in `setup` alone: a deploy starts and restarts")
            }
            Self::Run(_) | Self::Sudo(_) if setup && !guarded => {
                Err("a command in `setup` needs `creates` or `done_when`, so that a second run finds nothing to do")
            }
            _ => Ok(()),
        }
    }

    /// Whether any of its commands is run through sudo.
    pub fn needs_sudo(&self) -> bool {
        self.programs().iter().any(|program| program == "sudo")
    }

    /// The file of the host that must be readable for this step; facts say whether it is.
    pub fn host_file(&self) -> Option<&str> {
        match self {
            Self::Settings(step) => step.host_file(),
            _ => None,
        }
    }

    /// The tasks on a host, in order. The error names what the host lacks, as a sentence.
    ///
    /// Steps that only contribute to the transfer of the release (`upload`, `settings` from a template) and those
    /// of this machine (`local`) have no tasks of their own; those that stand in `setup` alone have changes, which
    /// depend on what is there.
    pub fn tasks(&self, context: &Context<'_>) -> Result<Vec<Task>, String> {
        match self {
            Self::Local(_) | Self::Upload(_) => Ok(Vec::new()),
            Self::Directory(_)
            | Self::File(_)
            | Self::Nginx(_)
            | Self::Packages(_)
            | Self::Sudoers(_)
            | Self::FreePorts(_) => Ok(Vec::new()),
            Self::Settings(step) => step.tasks(context),
            Self::Link(step) => Ok(step.tasks(context)),
            Self::Images(step) => step.tasks(context),
            Self::Run(step) => Ok(step.tasks(context)),
            Self::Sudo(step) => step.tasks(context),
            Self::Systemd(step) => step.tasks(context),
            Self::Compose(step) => step.tasks(context),
            Self::Swap(step) => Ok(step.tasks(context)),
            Self::Wait(step) => step.tasks(context),
        }
    }

    /// What removes from the host, after `prepare` failed, all that the step made there outside of the release's
    /// folder. `first` says that no release was live, so that also what was started goes.
    pub fn discard(&self, context: &Context<'_>, first: bool) -> Result<Vec<Task>, String> {
        match self {
            Self::Compose(step) if context.phase == Phase::Prepare => step.discard(context, first),
            _ => Ok(Vec::new()),
        }
    }

    /// What takes a first release off the host again, after its `publish` failed: there is no release to put back.
    pub fn unpublish(&self, context: &Context<'_>) -> Result<Vec<Task>, String> {
        match self {
            Self::Compose(step) if context.phase == Phase::Publish => step.unpublish(context),
            _ => Ok(Vec::new()),
        }
    }

    /// What removes, once a release is live, `old` releases and what the step made outside of the folders of
    /// releases that are not among `kept`; nothing, where the step has no say in that.
    pub fn prune(
        &self,
        context: &Context<'_>,
        kept: &[ReleaseId],
        old: &[(ReleaseId, Task)],
    ) -> Result<Vec<Task>, String> {
        match self {
            Self::Compose(step) if context.phase == Phase::Prepare => step.prune(context, kept, old),
            _ => Ok(Vec::new()),
        }
    }
}

/// What a step knows of the host and the run when it makes its tasks.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// Paths on the host.
    pub layout: &'a Layout,
    /// What the host looked like.
    pub facts: &'a Facts,
    /// The release that is prepared or published.
    pub release: &'a ReleaseId,
    /// What `current` may be for the switch to be right.
    pub expected: &'a swap::Expected,
    /// The phase in which the step stands.
    pub phase: Phase,
    /// The release is published because another one failed.
    pub put_back: bool,
    /// The step's name.
    pub name: &'a str,
    /// The working directory of commands, absolute.
    pub directory: &'a str,
    /// The environment of commands.
    pub environment: &'a [(String, EnvValue)],
    /// The step's own time limit.
    pub timeout: Option<Duration>,
    /// How often a command may be tried in all.
    pub attempts: u32,
    /// Its place in the recipe, where its commands run detached.
    pub detach: Option<usize>,
}

impl Context<'_> {
    /// `command` in the step's directory, environment and time limit.
    pub fn bound(&self, command: Command) -> Command {
        let mut command = command.directory(self.directory);
        for (name, value) in self.environment {
            command = command.env(name.clone(), value.clone());
        }
        self.limited(command)
    }

    /// `command` with the step's time limit only.
    pub fn limited(&self, command: Command) -> Command {
        match self.timeout {
            Some(timeout) => command.timeout(timeout),
            None => command,
        }
    }

    /// A task of this step.
    pub fn task(&self, action: Action) -> Task {
        Task { name: self.name.to_owned(), attempts: self.attempts.max(1), ..Task::new("", action) }
    }

    /// `command` as it runs detached, where the step says so.
    pub fn detached(&self, command: Command) -> Option<detach::Detached> {
        let made = |place| detach::Detached::new(command, self.name, place, self.layout, self.release);
        self.detach.map(made)
    }

    /// What runs `command`: detached, where the step says so.
    pub fn runs(&self, command: Command) -> Action {
        match self.detached(command.clone()) {
            Some(detached) => Action::Detached(Box::new(detached)),
            None => Action::Command(command),
        }
    }

    /// Where `program` is on the host, or a sentence that says that it is missing.
    pub fn program(&self, program: &str) -> Result<String, String> {
        if program.starts_with('/') {
            return Ok(program.to_owned());
        }
        self.facts
            .program(program)
            .map(str::to_owned)
            .ok_or_else(|| format!("the step \"{}\" needs `{program}`, which is not on the host's PATH", self.name))
    }
}
