//! What will happen, host by host, as a value: made before anything happens, printed by `ship plan`,
//! carried out by `execute`.
//!
//! Everything here is pure: facts, manifests and rendered steps in, tasks out. Deliberately absent: the
//! network, the clock, the environment.

use serde::Serialize;

use crate::command::Command;
use crate::event::{Action as RunAction, Phase};
use crate::layout::{Layout, ReleaseId};
use crate::step::{Action, Task};

mod compose_files;
pub mod deploy;
pub mod env;
pub mod env_files;
pub mod interrupted;
pub mod lot;
#[cfg(test)]
mod on_shell;
pub mod prune;
pub mod receive;
#[cfg(test)]
mod receive_tests;
pub mod record;
pub mod render;
pub mod rights;
pub mod rollback;
pub mod services;
pub mod setup;
#[cfg(test)]
mod setup_tests;
pub mod setup_text;
mod sharing;
pub mod show;
pub mod stack;
pub mod sudoers;
pub mod transfer;

pub use transfer::Transfer;

/// A whole run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Deploy or rollback.
    pub action: RunAction,
    /// The application.
    pub app: String,
    /// The environment.
    pub environment: Option<String>,
    /// The release that will be live.
    pub release: ReleaseId,
    /// What it was made from.
    pub revision: String,
    /// Its branch, author and title, for people.
    pub description: String,
    /// The hosts, in the order of the inventory.
    pub hosts: Vec<HostPlan>,
    /// Indices of [`Plan::hosts`]: what is published together.
    pub batches: Vec<Vec<usize>>,
    /// How many hosts may fail to publish before all are put back.
    pub max_failures: usize,
}

/// What will happen on one host.
#[derive(Clone, Debug)]
pub struct HostPlan {
    /// Its name in the inventory.
    pub host: String,
    /// Its paths.
    pub layout: Layout,
    /// The release that is live now.
    pub before: Option<ReleaseId>,
    /// What `current` points at where no release of ship is live: a deployer's from before, or by hand.
    pub foreign: Option<String>,
    /// What is sent.
    pub transfer: Option<Transfer>,
    /// Nothing is visible to users yet.
    pub prepare: Vec<Task>,
    /// What users see changes.
    pub publish: Vec<Task>,
    /// After every batch is live.
    pub finish: Vec<Task>,
    /// After `publish` failed: publishes the release from before.
    pub put_back: Vec<Task>,
    /// After `prepare` failed: removes what its steps made outside the release.
    pub discard: Vec<Task>,
    /// Behind `discard`: removes the release.
    pub removal: Option<Task>,
    /// In its place, after an upload was cut: leaves what was sent to the next deploy.
    pub keeping: Option<Task>,
    /// The releases that `finish` removes.
    pub prune: Vec<ReleaseId>,
}

impl HostPlan {
    /// What users see now, for people.
    pub fn live_before(&self) -> Option<String> {
        self.before.as_ref().map(ToString::to_string).or_else(|| self.foreign.clone())
    }

    /// The tasks of a phase.
    pub fn tasks(&self, phase: Phase) -> &[Task] {
        match phase {
            Phase::Prepare => &self.prepare,
            Phase::Publish => &self.publish,
            Phase::Finish => &self.finish,
            Phase::PutBack => &self.put_back,
            Phase::Connect | Phase::Build | Phase::Setup => &[],
        }
    }

    /// The tasks of one stage of `prepare`; stages never go down.
    pub fn stage(&self, stage: u32) -> &[Task] {
        let start = self.prepare.partition_point(|task| task.stage < stage);
        let end = self.prepare.partition_point(|task| task.stage <= stage);
        self.prepare.get(start..end).unwrap_or_default()
    }

    /// What a person can do on the host by hand when ship could neither publish nor put back.
    pub fn by_hand(&self) -> Vec<String> {
        self.put_back
            .iter()
            .flat_map(|task| match &task.action {
                Action::Command(command) => vec![command.display()],
                Action::Derive(derive) => derive.decide.by_hand().iter().map(Command::display).collect(),
                Action::Poll(_) | Action::Detached(_) | Action::Feed(_) | Action::Send(_) | Action::Transfer => {
                    Vec::new()
                }
            })
            .collect()
    }

    /// Every command that sudo runs, in order, each once.
    pub fn sudo_commands(&self) -> Vec<Vec<String>> {
        let mut all: Vec<Vec<String>> = Vec::new();
        for task in self.prepare.iter().chain(&self.publish).chain(&self.finish).chain(&self.put_back) {
            if let Some(argv) = task.command().and_then(Command::sudo_rule)
                && !all.contains(&argv)
            {
                all.push(argv);
            }
        }
        all
    }
}

/// Something on a host that has to be mended before a plan can be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// The host.
    pub host: String,
    /// What is wrong, as a sentence without its full stop.
    pub text: String,
    /// What to do.
    pub advice: Option<String>,
}

impl Obstacle {
    fn new(host: &str, text: impl Into<String>, advice: Option<String>) -> Self {
        Self { host: host.to_owned(), text: text.into(), advice }
    }
}
