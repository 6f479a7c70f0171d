//! Tasks: what steps become on a host, one by one, as values that `plan` orders and `execute` carries out.
//!
//! Deliberately absent: which tasks a step becomes (each kind's own file).

use std::time::Duration;

use super::{compose, detach, systemd, wait};
use crate::artifact::Load;
use crate::command::Command;
use crate::secret::Secret;

/// The pause before a task is tried again, where the step says nothing else.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// One thing that a host does.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its name, for people.
    pub name: String,
    /// What is done.
    pub action: Action,
    /// How often it may be tried in all, 1 or more.
    pub attempts: u32,
    /// The pause before it is tried again.
    pub pause: Duration,
    /// In `prepare`, no host begins a stage before every host has ended the one before: a step that runs
    /// once (a migration) waits until every host has come so far.
    pub stage: u32,
    /// ship's own bookkeeping, of which people want to see the name and no command.
    pub own: bool,
    /// A failure is reported and the run goes on.
    pub tolerate: bool,
    /// Of a tolerated task: why its failure matters little. It is told in one line, without the command's words.
    pub unimportant: Option<&'static str>,
    /// What each exit status of ship's own commands means.
    pub meanings: &'static [(i32, &'static str)],
    /// Run after a failure; its output is shown with it.
    pub explain: Option<Command>,
}

impl Task {
    /// A task that is tried once and must not fail.
    pub fn new(name: impl Into<String>, action: Action) -> Self {
        Self {
            name: name.into(),
            action,
            attempts: 1,
            pause: RETRY_PAUSE,
            stage: 0,
            own: false,
            tolerate: false,
            unimportant: None,
            meanings: &[],
            explain: None,
        }
    }

    /// A task of ship's own bookkeeping.
    pub fn own(name: impl Into<String>, command: Command) -> Self {
        Self { own: true, ..Self::new(name, Action::Command(command)) }
    }

    /// What the exit statuses of the command mean.
    pub fn meanings(mut self, meanings: &'static [(i32, &'static str)]) -> Self {
        self.meanings = meanings;
        self
    }

    /// The task with another time limit.
    pub fn limited(mut self, limit: Duration) -> Self {
        self.action = match self.action {
            Action::Command(command) => Action::Command(command.timeout(limit)),
            other => other,
        };
        self
    }

    /// What it runs detached, itself or in a task that follows from it.
    pub fn detached(&mut self) -> Option<&mut detach::Detached> {
        match &mut self.action {
            Action::Detached(detached) => Some(detached),
            Action::Derive(derive) => derive.decide.detached(),
            _ => None,
        }
    }

    /// Nothing depends on this task: its failure becomes a warning.
    pub fn tolerated(mut self) -> Self {
        self.tolerate = true;
        self
    }

    /// The command of the task, where it has one.
    pub fn command(&self) -> Option<&Command> {
        match &self.action {
            Action::Command(command) => Some(command),
            Action::Poll(poll) => Some(&poll.probe),
            Action::Derive(derive) => Some(&derive.question),
            Action::Feed(feed) => Some(&feed.command),
            Action::Detached(detached) => Some(&detached.command),
            Action::Send(sending) => Some(&sending.command),
            Action::Transfer => None,
        }
    }
}

/// What a task does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Runs a command; status 0 is success.
    Command(Command),
    /// Runs a read-only command until it is judged.
    Poll(Poll),
    /// Asks one question, from whose answer the next tasks follow.
    Derive(Derive),
    /// Runs a command with text as its standard input.
    Feed(Feed),
    /// Runs a command that goes on when the connection is gone; status 0 is success.
    Detached(Box<detach::Detached>),
    /// Sends the release: what is in it stands in the host's plan.
    Transfer,
    /// Sends images.
    Send(Sending),
}

/// Images on their way to a host.
#[derive(Clone, Debug, PartialEq)]
pub struct Sending {
    /// Receives them on its standard input.
    pub command: Command,
    /// What is sent.
    pub load: Load,
}

/// A question whose answer decides which tasks follow: where only the host knows, at that very moment.
///
/// The answer is never shown: it may hold secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct Derive {
    /// The question: a command that changes nothing.
    pub question: Command,
    /// How the answer decides.
    pub decide: Decide,
}

/// How the answer to a [`Derive`] decides. Pure, so that every case is a test.
#[derive(Clone, Debug, PartialEq)]
pub enum Decide {
    /// See [`compose`].
    Compose(Box<compose::Decide>),
    /// Each line is a program to run; `!` is no answer.
    #[cfg(test)]
    Lines,
}

impl Decide {
    /// The tasks that follow from `answer`, or why there are none, as a sentence.
    pub fn tasks(&self, answer: &str) -> Result<Vec<Task>, String> {
        match self {
            Self::Compose(decide) => decide.tasks(answer),
            #[cfg(test)]
            Self::Lines if answer.contains('!') => Err("no answer".to_owned()),
            #[cfg(test)]
            Self::Lines => {
                Ok(answer.lines().map(|word| Task::new(word, Action::Command(Command::argv([word])))).collect())
            }
        }
    }

    /// What may be shown of a line that the question printed on standard error.
    pub fn shown(&self, line: &str) -> Option<String> {
        match self {
            Self::Compose(decide) => decide.shown(line),
            #[cfg(test)]
            Self::Lines => Some(line.to_owned()),
        }
    }

    /// What may follow, for plans: a line each.
    pub fn follows(&self) -> Vec<String> {
        match self {
            Self::Compose(decide) => decide.follows(),
            #[cfg(test)]
            Self::Lines => Vec::new(),
        }
    }

    /// The command that a task which follows runs detached.
    pub fn detached(&mut self) -> Option<&mut detach::Detached> {
        match self {
            Self::Compose(decide) => decide.detached(),
            #[cfg(test)]
            Self::Lines => None,
        }
    }

    /// What a person who has no ship types in its place.
    pub fn by_hand(&self) -> Vec<Command> {
        match self {
            Self::Compose(decide) => decide.by_hand(),
            #[cfg(test)]
            Self::Lines => vec![Command::argv(["by", "hand"])],
        }
    }
}

/// A command with text as its standard input, which is never shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Feed {
    /// The command.
    pub command: Command,
    /// What it reads.
    pub text: Secret,
}

/// A question asked again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct Poll {
    /// The question: a command that changes nothing.
    pub probe: Command,
    /// How answers are judged.
    pub judge: Judge,
    /// The pause between questions.
    pub interval: Duration,
    /// How long until a missing answer is a failure.
    pub within: Duration,
}

impl Poll {
    /// The question as a command whose status is the verdict on the first answer: 0 where it is as it should be. None
    /// where one answer does not say, or only this machine can tell.
    pub fn decisive(&self) -> Option<Command> {
        match &self.judge {
            Judge::Success => Some(self.probe.clone()),
            Judge::HttpStatus(wanted) => {
                let wanted: Vec<String> = wanted.iter().map(u16::to_string).collect();
                Some(self.probe.clone().printing(&wanted))
            }
            Judge::Steady { .. } | Judge::Compose(_) => None,
        }
    }
}

/// How the answers to a [`Poll`] are judged. Pure, so that every case is a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judge {
    /// Status 0 is the answer.
    Success,
    /// The output is one of these HTTP status codes.
    HttpStatus(Vec<u16>),
    /// Every unit stays up for the window. See [`systemd::judge`].
    Steady {
        /// The units, in the order of the answer.
        units: Vec<String>,
        /// How long they must stay up.
        window: Duration,
    },
    /// See [`compose::Watch`].
    Compose(compose::Watch),
}

/// One answer to a [`Poll`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Since the first question.
    pub elapsed: Duration,
    /// Whether the probe ended with status 0.
    pub success: bool,
    /// What it printed on standard output.
    pub output: String,
}

/// What the answers so far mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be.
    Done,
    /// Nothing is decided; the text says what was seen last.
    Again(String),
    /// It will not get better; the text says why.
    Failed(String),
}

impl Judge {
    /// Judges the answers so far, oldest first.
    pub fn verdict(&self, samples: &[Sample]) -> Verdict {
        let Some(last) = samples.last() else { return Verdict::Again("no answer yet".to_owned()) };
        match self {
            Self::Success if last.success => Verdict::Done,
            Self::Success => Verdict::Again("not yet".to_owned()),
            Self::HttpStatus(wanted) => wait::judge_http(wanted, last),
            Self::Steady { units, window } => systemd::judge(units, *window, samples),
            Self::Compose(watch) => watch.verdict(samples),
        }
    }
}
