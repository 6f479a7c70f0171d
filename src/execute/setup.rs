//! Carries out a setup on one host, change by change.
//!
//! What was changed stays when a later change fails, and the next setup goes on from there; only what its own
//! trial refused is put back at once.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::host::{Host, Stop};
use crate::command::Command;
use crate::event::{Phase, Sink};
use crate::plan::setup::HostSetup;
use crate::session::Session;
use crate::step::ground::Change;
use crate::step::{Action, Task};

/// How far a host came.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// What was changed.
    pub done: Vec<Change>,
    /// Why it stopped before its end.
    pub stop: Option<Stop>,
    /// What stands in the way of the rest, found after packages were installed.
    pub obstacle: Option<String>,
    /// The change that its own trial refused.
    pub refused: Option<Refused>,
}

/// A change that its own trial refused.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The file.
    pub path: String,
    /// What puts back the former state by hand, where that failed.
    pub by_hand: Vec<String>,
}

/// Carries out the changes of `setup`: its packages alone, where there are any.
pub async fn carry_out(
    setup: &HostSetup,
    session: Arc<dyn Session>,
    sink: &Sink,
    cancel: &CancellationToken,
) -> Progress {
    let host = Host::new(setup.host.clone(), session, sink.clone());
    let mut run = Run { host, cancel, progress: Progress::default() };
    if let Some(packages) = &setup.packages {
        run.change(packages).await;
        return run.progress;
    }
    if setup.transfer.is_some() {
        let send = Task::new("Send files", Action::Transfer);
        run.progress.stop = run.host.carry_out(Phase::Setup, &[send], setup.transfer.as_ref(), cancel).await.err();
    }
    if let Some(foundation) = &setup.foundation {
        run.change(foundation).await;
    }
    run.tasks(&setup.begin).await;
    for change in &setup.changes {
        run.change(change).await;
    }
    run.tasks(&setup.finish).await;
    if !matches!(run.progress.stop, Some(Stop::Lost { .. })) {
        let clean: Vec<Task> = setup.clean.iter().cloned().map(Task::tolerated).collect();
        let _ = run.host.carry_out(Phase::Setup, &clean, None, &CancellationToken::new()).await;
    }
    run.progress
}

struct Run<'a> {
    host: Host,
    cancel: &'a CancellationToken,
    progress: Progress,
}

impl Run<'_> {
    /// Does a change as a whole, unless something stopped the host before: an interrupt waits for its end.
    async fn change(&mut self, change: &Change) {
        if self.progress.stop.is_some() {
            return;
        }
        if self.cancel.is_cancelled() {
            self.progress.stop = Some(Stop::Cancelled);
            return;
        }
        let never = CancellationToken::new();
        if let Err(stop) = self.host.carry_out(Phase::Setup, &change.tasks, None, &never).await {
            self.progress.stop = Some(stop);
            return;
        }
        let trial = self.host.carry_out(Phase::Setup, &change.trial, None, &never).await;
        match trial {
            Ok(()) => self.progress.done.push(change.clone()),
            Err(stop) => {
                if !change.undo.is_empty() {
                    let back = self.host.carry_out(Phase::PutBack, &change.undo, None, &never).await.is_ok();
                    let by_hand = if back { Vec::new() } else { commands(&change.undo) };
                    self.progress.refused = Some(Refused { path: change.file.clone().unwrap_or_default(), by_hand });
                }
                self.progress.stop = Some(stop);
            }
        }
    }

    async fn tasks(&mut self, tasks: &[Task]) {
        if self.progress.stop.is_none() {
            self.progress.stop = self.host.carry_out(Phase::Setup, tasks, None, &CancellationToken::new()).await.err();
        }
    }
}

fn commands(tasks: &[Task]) -> Vec<String> {
    tasks.iter().filter_map(|task| task.command().map(Command::display)).collect()
}
