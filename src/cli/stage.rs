//! The stage of a run: where its events go, how it is interrupted, how it ends.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::args::{Global, Output};
use super::machine::Machine;
use super::prompt::Terminal;
use crate::error::{Error, Kind};
use crate::event::{Action, Event, HostSummary, Outcome, Phase, Sink, millis};
use crate::execute::Conclusion;
use crate::fleet::{self, Member, Refused};
use crate::layout::Layout;
use crate::plan::Obstacle;
use crate::report;
use crate::secret::{Masker, Secret};
use crate::session::{Connector, NoPrompt, Prompt};
use crate::target::Target;

/// The stage of one run.
pub struct Stage {
    /// Where events go.
    pub sink: Sink,
    /// Set by the first interrupt.
    pub cancel: CancellationToken,
    /// Set by the second.
    pub abort: CancellationToken,
    /// Connects to hosts.
    pub connector: Arc<Connector>,
    /// Out of whose way questions are asked; `None` where nobody could answer.
    curtain: Option<report::Curtain>,
    action: Action,
    began: Instant,
    reporting: JoinHandle<()>,
    signals: JoinHandle<()>,
}

/// How a run is told.
pub struct Telling<'a> {
    /// What is done.
    pub action: Action,
    /// The environment, for the transcript's name.
    pub environment: Option<&'a str>,
    /// The folder of transcripts; `None` where none is written.
    pub transcripts: Option<std::path::PathBuf>,
    /// Values that are masked.
    pub secrets: Vec<Secret>,
}

impl Stage {
    /// Opens the stage: reporters listen, signals are caught.
    pub fn open(global: &Global, machine: &Machine, telling: Telling<'_>) -> Result<Self, Error> {
        // The key to the servers is no secret of the inventory, and is shown no more than those.
        let keys = ["SHIP_SSH_KEY", "SHIP_SSH_PASSPHRASE"].into_iter().filter_map(|name| machine.variable(name));
        let keys: Vec<Secret> = keys.map(|value| Secret::new(value.to_owned())).collect();
        let (sink, receiver) = Sink::new(Masker::new(telling.secrets.iter().chain(&keys)));
        let reporters = super::reporters::choose(global, machine, &telling);
        let curtain = reporters.curtain.clone();
        let clock = report::Clock { now: machine.clock, monotonic: machine.monotonic };
        // Writing blocks while a terminal is stopped with Ctrl-S: a thread of its own.
        let runtime = tokio::runtime::Handle::current();
        let listening = report::listen(receiver, reporters.list, clock);
        let reporting = tokio::task::spawn_blocking(move || runtime.block_on(listening));
        let (cancel, abort) = (CancellationToken::new(), CancellationToken::new());
        let signals = tokio::spawn(super::signals::watch(cancel.clone(), abort.clone(), sink.clone()));
        let asked = (machine.stdin_is_terminal && machine.stderr_is_terminal).then(|| curtain.clone());
        let prompt: Arc<dyn Prompt> = if machine.stdin_is_terminal && machine.stderr_is_terminal {
            Arc::new(Terminal::new(curtain, sink.masker().clone()))
        } else {
            Arc::new(NoPrompt)
        };
        let settings = machine.session_settings(global.ssh_config.clone(), global.timeout);
        let connector = Arc::new(Connector::new(settings, prompt));
        Ok(Self {
            sink,
            cancel,
            abort,
            connector,
            curtain: asked,
            action: telling.action,
            began: Instant::now(),
            reporting,
            signals,
        })
    }

    /// Asks the person at the terminal for a yes or a no; `None` where there is nobody.
    pub fn ask(&self, question: &str) -> Option<bool> {
        let _held = self.curtain.as_ref()?.hold();
        Some(super::prompt::confirm(question))
    }

    /// Connects to every host, or ends the run with the names of those that cannot be reached.
    pub async fn connect(&self, targets: Vec<(Target, Layout)>) -> Result<Vec<Member>, Vec<Refused>> {
        let hosts = targets.iter().map(|(target, _)| target.name.clone()).collect();
        self.sink.emit(Event::PhaseStarted { phase: Phase::Connect, hosts, batch: None }).await;
        let began = Instant::now();
        let (members, refused) = tokio::select! {
            connected = fleet::connect(&self.connector, targets, &self.sink) => connected,
            () = self.cancel.cancelled() => return Err(Vec::new()),
        };
        let millis = millis(began.elapsed());
        self.sink.emit(Event::PhaseFinished { phase: Phase::Connect, millis }).await;
        if refused.is_empty() {
            return Ok(members);
        }
        close(&members).await;
        Err(refused)
    }

    /// Ends a run that only looked, with `text` as its result; among JSON events it is one of them.
    pub async fn show(self, global: &Global, text: &str) -> Result<(), Error> {
        let text = self.sink.masker().mask(text);
        let json = global.output == Output::Json;
        if json {
            self.sink.emit(Event::Notice { host: None, text: text.clone() }).await;
        }
        self.signals.abort();
        let _ = self.signals.await;
        drop(self.sink);
        let _ = self.reporting.await;
        if json {
            return Ok(());
        }
        report::print_stdout(&text).map_err(|error| Error::new(Kind::Failed, format!("standard output: {error}")))
    }

    /// Ends the run as its plan ended.
    pub async fn conclude(self, conclusion: Conclusion) -> Result<(), Error> {
        self.finish(conclusion.outcome, conclusion.hosts, conclusion.hints).await
    }

    /// Ends a run that changed nothing, because of `refused` hosts. None means that it was interrupted.
    pub async fn refuse(self, refused: Vec<Refused>) -> Result<(), Error> {
        if refused.is_empty() {
            return self.finish(Outcome::Interrupted, Vec::new(), Vec::new()).await;
        }
        let mut hints = Vec::new();
        let mut hosts = Vec::new();
        for refused in refused {
            hints.extend(refused.advice.map(|advice| format!("{}: {advice}", refused.host)));
            hosts.push(unchanged(refused.host, Some(refused.why)));
        }
        self.finish(Outcome::Refused, hosts, hints).await
    }

    /// Ends a run that changed nothing, because of what stands in the way on hosts.
    pub async fn obstruct(self, obstacles: Vec<Obstacle>) -> Result<(), Error> {
        let refused = obstacles
            .into_iter()
            .map(|obstacle| Refused { host: obstacle.host, why: obstacle.text, advice: obstacle.advice })
            .collect();
        self.refuse(refused).await
    }

    /// Ends a run that failed on this machine, before any host was changed.
    pub async fn fail(self, error: Error) -> Result<(), Error> {
        let outcome = match error.kind {
            Kind::Refused | Kind::Usage => Outcome::Refused,
            Kind::Interrupted => Outcome::Interrupted,
            Kind::NeedsPerson => Outcome::NeedsPerson,
            Kind::Failed => Outcome::Failed,
        };
        self.end(outcome, error.kind.exit_code(), Vec::new(), Vec::new()).await;
        Err(error)
    }

    async fn finish(self, outcome: Outcome, hosts: Vec<HostSummary>, hints: Vec<String>) -> Result<(), Error> {
        let kind = match outcome {
            Outcome::Done => None,
            Outcome::Failed => Some(Kind::Failed),
            Outcome::Refused => Some(Kind::Refused),
            Outcome::NeedsPerson => Some(Kind::NeedsPerson),
            Outcome::Interrupted => Some(Kind::Interrupted),
        };
        self.end(outcome, kind.map_or(0, Kind::exit_code), hosts, hints).await;
        kind.map_or(Ok(()), |kind| Err(Error::told(kind)))
    }

    async fn end(self, outcome: Outcome, exit_code: u8, hosts: Vec<HostSummary>, hints: Vec<String>) {
        let millis = millis(self.began.elapsed());
        let action = self.action;
        self.sink.emit(Event::RunFinished { outcome, exit_code, action, hosts, millis, hints }).await;
        self.signals.abort();
        // Every sender has to be gone before the reporters see the end.
        let _ = self.signals.await;
        drop(self.sink);
        let _ = self.reporting.await;
    }
}

fn unchanged(host: String, why: Option<String>) -> HostSummary {
    HostSummary {
        host,
        before: None,
        after: None,
        state: crate::event::HostState::Unchanged,
        why,
        commands: Vec::new(),
    }
}

/// Ends the sessions of all members.
pub async fn close(members: &[Member]) {
    fleet::each(members, |_, member| async move { member.session.close().await }).await;
}
