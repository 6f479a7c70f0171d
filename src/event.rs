//! What happened, as values: the only thing that `execute` says and the only thing that `report` hears.
//!
//! The JSON form of these types is the documented output of `--output json`; [`VERSION`] grows when a
//! reader would have to change.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;

use crate::secret::Masker;

/// The version of the event stream.
pub const VERSION: u32 = 1;

/// The part of a run, in the order in which they happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Connecting, taking the lock, looking.
    Connect,
    /// On this machine, in a clean checkout.
    Build,
    /// On every host; nothing is visible to users yet.
    Prepare,
    /// Batch by batch; what users see changes.
    Publish,
    /// After every batch is live; a failure here is reported and undoes nothing.
    Finish,
    /// Publishing the release that each reached host had before.
    PutBack,
    /// The recipe's `setup`.
    Setup,
}

impl Phase {
    /// The name in messages and recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Build => "build",
            Self::Prepare => "prepare",
            Self::Publish => "publish",
            Self::Finish => "finish",
            Self::PutBack => "put back",
            Self::Setup => "setup",
        }
    }
}

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Which task of which host. Tasks on this machine have the host [`LOCAL`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct TaskRef {
    /// The host's name in the inventory.
    pub host: String,
    /// The task's number, unique on that host in this run.
    pub task: u32,
}

/// The host name of tasks that run on this machine.
pub const LOCAL: &str = "local";

/// Why a task failed, with all that a person needs to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What it came to: `exit status 3`, `killed by SIGKILL`, `timed out after 30 s`, `connection lost`.
    pub status: String,
    /// The command, as it would be typed.
    pub command: Option<String>,
    /// The last lines it printed.
    pub last_lines: Vec<String>,
    /// What to try.
    pub advice: Option<String>,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum TaskResult {
    /// It did what it should.
    Done,
    /// It failed.
    Failed(Failure),
    /// It failed, and the run goes on because nothing depends on it.
    Tolerated(Failure),
}

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// `ship deploy`.
    Deploy,
    /// `ship rollback`.
    Rollback,
    /// `ship setup`.
    Setup,
    /// `ship run`.
    Run,
    /// `ship env`, which tells no events: only the history speaks of it.
    Env,
}

impl Action {
    /// The word in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Setup => "setup",
            Self::Run => "run",
            Self::Env => "env",
        }
    }
}

/// The state a host is left in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// The run's release is live and passed its checks.
    Live,
    /// `ship setup` changed it, and it is as the recipe wants it as far as the run came.
    Changed,
    /// Nothing that users see was changed.
    Unchanged,
    /// The release from before is live again.
    PutBack,
    /// In neither state: a person has to look.
    Unknown,
}

impl HostState {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::PutBack => "put back",
            Self::Unknown => "needs a person",
        }
    }
}

/// A row of the table at the end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostSummary {
    /// The host's name in the inventory.
    pub host: String,
    /// The release that was live before; `None` where there was none.
    pub before: Option<String>,
    /// The release that is live now; `None` where there is none or nobody knows.
    pub after: Option<String>,
    /// The state it is left in.
    pub state: HostState,
    /// Why, where something went wrong.
    pub why: Option<String>,
    /// Commands for the person who has to look, where the state is [`HostState::Unknown`].
    pub commands: Vec<String>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done on every host.
    Done,
    /// Failed, and every host was put back or never changed.
    Failed,
    /// A host was unreachable, refused or locked; nothing was changed.
    Refused,
    /// Some host is in neither state.
    NeedsPerson,
    /// Interrupted, and put back.
    Interrupted,
}

/// `time` in whole milliseconds, as events and the history tell it.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first event of every run.
    RunStarted {
        /// What is done.
        action: Action,
        /// The application.
        app: String,
        /// The environment, where the inventory has any.
        environment: Option<String>,
        /// The hosts, in the order of the inventory.
        hosts: Vec<String>,
        /// The revision, where one is deployed: full commit id, or the digest of an artifact.
        revision: Option<String>,
        /// For people: branch, author and title of the commit, or the artifact's path.
        description: Option<String>,
    },
    /// The release's name is known.
    ReleaseChosen {
        /// Its id.
        release: String,
    },
    /// A phase, or one batch of it, begins.
    PhaseStarted {
        /// Which.
        phase: Phase,
        /// Its hosts.
        hosts: Vec<String>,
        /// Number and count of batches, where there are several.
        batch: Option<(usize, usize)>,
    },
    /// A phase, or one batch of it, ended.
    PhaseFinished {
        /// Which.
        phase: Phase,
        /// How long it took, in milliseconds.
        millis: u64,
    },
    /// A host answered and let us in.
    HostConnected {
        /// Which.
        host: String,
        /// `user@address:port`.
        address: String,
        /// From the first packet to the login, in milliseconds.
        millis: u64,
    },
    /// A task begins.
    TaskStarted {
        /// Which.
        #[serde(flatten)]
        task: TaskRef,
        /// In which phase.
        phase: Phase,
        /// Its name.
        name: String,
        /// The command, as it would be typed.
        command: Option<String>,
        /// Whether it is ship's own bookkeeping.
        own: bool,
    },
    /// A task printed a line.
    TaskOutput {
        /// Which.
        #[serde(flatten)]
        task: TaskRef,
        /// Where.
        stream: Stream,
        /// The line, safe to show, secrets masked.
        line: String,
    },
    /// A task sent bytes.
    TaskProgress {
        /// Which.
        #[serde(flatten)]
        task: TaskRef,
        /// Bytes sent so far.
        sent: u64,
        /// Bytes to send in all.
        total: u64,
    },
    /// A task ended.
    TaskFinished {
        /// Which.
        #[serde(flatten)]
        task: TaskRef,
        /// In which phase.
        phase: Phase,
        /// Its name.
        name: String,
        /// How.
        #[serde(flatten)]
        result: TaskResult,
        /// Whether it is ship's own bookkeeping.
        own: bool,
        /// How long it took, in milliseconds.
        millis: u64,
    },
    /// Something worth knowing.
    Notice {
        /// Of which host, where it is one host's.
        host: Option<String>,
        /// What.
        text: String,
    },
    /// Something that a person should mend, though the run goes on.
    Warning {
        /// Of which host, where it is one host's.
        host: Option<String>,
        /// What.
        text: String,
    },
    /// The last event of every run.
    RunFinished {
        /// How it ended.
        outcome: Outcome,
        /// The process's exit code.
        exit_code: u8,
        /// What was done.
        action: Action,
        /// A row for each host.
        hosts: Vec<HostSummary>,
        /// How long it took, in milliseconds.
        millis: u64,
        /// What to do next, where something went wrong.
        hints: Vec<String>,
    },
}

/// An event with its number and time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stamped {
    /// [`VERSION`].
    pub v: u32,
    /// Counts from 0 in each run.
    pub seq: u64,
    /// When, as RFC 3339 in UTC.
    pub time: String,
    /// Milliseconds since the run began.
    pub at_millis: u64,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// Where events go. Cloned into every task; the receiving end is a reporter.
///
/// The channel is bounded, so a host that prints without end slows its own task down and costs no memory.
#[derive(Clone, Debug)]
pub struct Sink {
    sender: mpsc::Sender<Event>,
    masker: Masker,
}

impl Sink {
    /// A sink and its receiving end. `masker` is applied to every text that came from outside.
    pub fn new(masker: Masker) -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(1024);
        (Self { sender, masker }, receiver)
    }

    /// Sends `event`, masked. A reporter that has gone away is no reason to stop a deploy.
    pub async fn emit(&self, mut event: Event) {
        mask(&mut event, &self.masker);
        let _ = self.sender.send(event).await;
    }

    /// The mask, for texts that do not travel as events.
    pub fn masker(&self) -> &Masker {
        &self.masker
    }
}

/// Masks every text in `event` that a host, a recipe or a command line could have put a secret into.
fn mask(event: &mut Event, masker: &Masker) {
    let apply = |text: &mut String| *text = masker.mask(text);
    let failure = |failure: &mut Failure| {
        failure.last_lines.iter_mut().for_each(apply);
        failure.command.iter_mut().for_each(apply);
        failure.advice.iter_mut().for_each(apply);
        apply(&mut failure.status);
    };
    match event {
        Event::TaskOutput { line, .. } => apply(line),
        Event::TaskStarted { name, command, .. } => {
            apply(name);
            command.iter_mut().for_each(apply);
        }
        Event::TaskFinished { name, result, .. } => {
            apply(name);
            match result {
                TaskResult::Failed(f) | TaskResult::Tolerated(f) => failure(f),
                TaskResult::Done => {}
            }
        }
        Event::Notice { text, .. } | Event::Warning { text, .. } => apply(text),
        Event::RunFinished { hosts, hints, .. } => {
            hints.iter_mut().for_each(apply);
            for host in hosts {
                host.why.iter_mut().for_each(apply);
                host.commands.iter_mut().for_each(apply);
            }
        }
        Event::RunStarted { description, .. } => description.iter_mut().for_each(apply),
        Event::ReleaseChosen { .. }
        | Event::PhaseStarted { .. }
        | Event::PhaseFinished { .. }
        | Event::HostConnected { .. }
        | Event::TaskProgress { .. } => {}
    }
}
