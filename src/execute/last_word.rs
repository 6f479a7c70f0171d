//! What a host is told at the end of a run: how it ended, for its history, and that its lock is free.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::conclusion::{Progress, Standing, conclude, outcome_word};
use crate::command::Command;
use crate::event::{Outcome, Sink, millis};
use crate::lock;
use crate::plan::Plan;
use crate::plan::record::{HistoryEntry, append_history};

/// What it is made of.
pub(super) struct LastWord {
    /// The host's index in the plan.
    pub(super) index: usize,
    /// How the run ends.
    pub(super) outcome: Outcome,
    /// How far the host has come when it hears of it.
    pub(super) progress: Progress,
    /// The plan.
    pub(super) plan: Arc<Plan>,
    /// How far the others have come.
    pub(super) standings: Arc<Mutex<Vec<Standing>>>,
    /// Masks what is written down.
    pub(super) sink: Sink,
    /// Who, and when.
    pub(super) history: Arc<dyn Fn() -> HistoryEntry + Send + Sync>,
    /// When the run began.
    pub(super) began: Instant,
}

impl LastWord {
    /// The commands, as of now.
    pub(super) fn commands(&self) -> Vec<Command> {
        self.entry().map(Command::tolerated).into_iter().chain([lock::release()]).collect()
    }

    fn entry(&self) -> Option<Command> {
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        standings.get_mut(self.index)?.progress = self.progress.clone();
        let summary = conclude(&self.plan, self.outcome, &standings).hosts.into_iter().nth(self.index)?;
        let entry = HistoryEntry {
            action: Some(self.plan.action),
            environment: self.plan.environment.clone(),
            release: self.plan.release.to_string(),
            revision: self.plan.revision.clone(),
            description: self.plan.description.clone(),
            outcome: outcome_word(self.outcome).to_owned(),
            state: summary.state.name().to_owned(),
            why: summary.why.map(|why| self.sink.masker().mask(&why)),
            before: summary.before,
            millis: millis(self.began.elapsed()),
            ..(self.history)()
        };
        Some(append_history(&self.plan.hosts.get(self.index)?.layout, &entry))
    }
}
