//! What travels to a host together, and what comes back of each part of it.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Host, Running, Stop, advice, describe};
use crate::artifact::Tally;
use crate::command::Command;
use crate::event::{Event, Phase, TaskResult};
use crate::fleet::Answer;
use crate::plan::Transfer;
use crate::plan::lot::Lot;
use crate::session::{Body, Lost, Reply};
use crate::step::{Action, Feed, Task};

/// What is sent to a host without waiting for an answer in between.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Commands, of which the last may be the upload.
    pub(super) tasks: Vec<Task>,
    /// Asked behind them.
    pub(super) asking: Option<Task>,
    /// Run behind them; nothing is told of them.
    pub(super) quiet: Vec<Command>,
    /// In place of all of these: what travels by itself.
    pub(super) alone: Option<Task>,
    /// The upload among its tasks, where that travels with them.
    pub(super) inline: Option<Inline>,
}

/// An upload that travels with commands.
#[derive(Debug)]
pub(super) struct Inline {
    command: Command,
    /// Its bytes, before they were compressed.
    total: u64,
}

impl Inline {
    /// The bytes that travel, before base64.
    fn length(&self) -> u64 {
        self.command.input().map_or(0, |input| input.len() as u64)
    }
}

/// How far a host came with a batch.
#[derive(Default)]
pub(super) struct Came {
    /// How many of its tasks have ended.
    pub(super) tasks: usize,
    /// The task that asks, which goes on, and its answer.
    pub(super) answer: Option<(Running, Answer)>,
    /// Whether all that was quiet did what it should.
    pub(super) quiet: bool,
}

impl Batch {
    /// Takes from `rest` what can be sent next, with the upload where that is `inline`.
    pub(super) fn next(rest: &mut VecDeque<Task>, inline: &mut Option<Inline>) -> Self {
        let with_others = |task: &&Task| match task.action {
            Action::Transfer => inline.is_some(),
            _ => travels_together(task),
        };
        let together = rest.iter().take_while(with_others).count();
        let mut batch = Self { tasks: rest.drain(..together).collect(), ..Self::default() };
        if batch.tasks.iter().any(|task| matches!(task.action, Action::Transfer)) {
            batch.inline = inline.take();
        }
        match rest.front().map(|task| &task.action) {
            Some(Action::Poll(_) | Action::Derive(_)) => batch.asking = rest.pop_front(),
            // What is not ship's own may take long, and the lock is held by another channel's shell.
            Some(Action::Transfer) if batch.tasks.iter().all(|task| task.own) => batch.tasks.extend(rest.pop_front()),
            Some(Action::Command(_) | Action::Transfer) if batch.tasks.is_empty() => {
                batch.tasks.extend(rest.pop_front());
            }
            Some(_) if batch.tasks.is_empty() => batch.alone = rest.pop_front(),
            _ => {}
        }
        batch
    }

    /// Whether more can travel behind its tasks.
    pub(super) fn has_room(&self) -> bool {
        self.alone.is_none() && self.asking.is_none() && self.tasks.iter().all(travels_together)
    }

    fn commands(&self, transfer: Option<&Transfer>) -> Vec<Command> {
        let tasks = self.tasks.iter().filter_map(|task| match &task.action {
            Action::Command(command) if task.tolerate => Some(command.clone().tolerated()),
            Action::Command(command) => Some(command.clone()),
            _ => self.inline.as_ref().map(|inline| inline.command.clone()).or_else(|| transfer.and_then(alone)),
        });
        let asking = self.asking.iter().filter_map(|task| match &task.action {
            Action::Poll(poll) => Some(poll.probe.clone()),
            Action::Derive(derive) => Some(derive.question.clone()),
            _ => None,
        });
        tasks.chain(asking).chain(self.quiet.iter().cloned()).collect()
    }
}

/// The command of an upload that is one lot.
fn alone(transfer: &Transfer) -> Option<Command> {
    transfer.lots.first().map(|lot| lot.command(transfer.first_coding()))
}

/// A failure of these either ends the phase, which the host does by itself, or matters to nobody.
fn travels_together(task: &Task) -> bool {
    matches!(task.action, Action::Command(_)) && task.attempts <= 1 && (!task.tolerate || task.explain.is_none())
}

impl Host {
    /// Sends a batch. A single command with attempts left is sent again when it fails.
    pub(super) async fn send(
        &self,
        phase: Phase,
        batch: &Batch,
        transfer: Option<&Transfer>,
        cancel: &CancellationToken,
    ) -> Result<Came, Stop> {
        if batch.inline.is_none() && batch.tasks.iter().any(|task| matches!(task.action, Action::Transfer)) {
            let Some(transfer) = transfer else { return Ok(Came { tasks: batch.tasks.len(), ..Came::default() }) };
            let came = match transfer.lots.as_slice() {
                [lot] => self.send_lot(phase, batch, transfer, lot, cancel).await,
                _ => self.send_lots(phase, batch, transfer, cancel).await,
            };
            if matches!(came, Err(Stop::Lost { .. } | Stop::Cancelled)) {
                self.cut.store(true, Ordering::Relaxed);
            }
            return came;
        }
        let (attempts, pause) = match batch.tasks.as_slice() {
            [single] => (single.attempts.max(1), single.pause),
            _ => (1, std::time::Duration::ZERO),
        };
        let mut attempt = 1;
        loop {
            let last = attempt == attempts || cancel.is_cancelled();
            let replies = self.session.run(batch.commands(None));
            match self.hear(phase, batch, replies, last, None, cancel).await {
                Err(Stop::Failed { task, failure }) if !last => {
                    let text = format!("{task}: {}; trying again ({attempt} of {attempts} failed)", failure.status);
                    self.sink.emit(Event::Warning { host: Some(self.name.clone()), text }).await;
                    tokio::time::sleep(pause).await;
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    /// The upload of `transfer` as a command, where it travels with the others. The error says what could not be read.
    pub(super) async fn inline(&self, transfer: &Transfer) -> std::io::Result<Option<Inline>> {
        let [lot] = transfer.lots.as_slice() else { return Ok(None) };
        if !transfer.inline {
            return Ok(None);
        }
        let coding = transfer.first_coding();
        let mut body = lot.start(coding, &Tally::default());
        let mut input = bytes::BytesMut::new();
        while let Some(part) = body.recv().await {
            input.extend_from_slice(&part?);
        }
        Ok(Some(Inline { command: lot.command(coding).with_input(input.freeze()), total: lot.total() }))
    }

    /// Sends a batch with an upload in one lot, which ends where it is once the run is stopped.
    async fn send_lot(
        &self,
        phase: Phase,
        batch: &Batch,
        transfer: &Transfer,
        lot: &Lot,
        cancel: &CancellationToken,
    ) -> Result<Came, Stop> {
        let tally = Tally::default();
        let body = lot.start(transfer.first_coding(), &tally);
        let replies = self.session.feed(batch.commands(Some(transfer)), body);
        let mut heard = pin!(self.hear(phase, batch, replies, true, Some(lot.total()), cancel));
        tokio::select! {
            came = &mut heard => return came,
            () = cancel.cancelled() => tally.stop(),
        }
        heard.await
    }

    /// Sends a batch with an upload in several lots: what is before it has to be done before any of them begins.
    async fn send_lots(
        &self,
        phase: Phase,
        batch: &Batch,
        transfer: &Transfer,
        cancel: &CancellationToken,
    ) -> Result<Came, Stop> {
        let before = batch.tasks.iter().filter(|task| !matches!(task.action, Action::Transfer)).cloned().collect();
        let before = Batch { tasks: before, ..Batch::default() };
        if !before.tasks.is_empty() {
            let replies = self.session.run(before.commands(None));
            self.hear(phase, &before, replies, true, None, cancel).await?;
        }
        if let Some(task) = batch.tasks.last() {
            self.transfer(phase, task, transfer, cancel).await?;
        }
        Ok(Came { tasks: batch.tasks.len(), ..Came::default() })
    }

    /// Tells what comes back of a batch, to its end or the first failure that matters. `last` says that a failure is
    /// final; how far the body of an upload is sent is told where its `total` is known.
    async fn hear(
        &self,
        phase: Phase,
        batch: &Batch,
        mut replies: mpsc::Receiver<Reply>,
        last: bool,
        total: Option<u64>,
        cancel: &CancellationToken,
    ) -> Result<Came, Stop> {
        let shown: Vec<&Task> = batch.tasks.iter().chain(&batch.asking).collect();
        let count = shown.len() + batch.quiet.len();
        let asking = batch.asking.as_ref().map(|_| batch.tasks.len());
        let mut answer = Answer::default();
        let mut quiet = true;
        let inline = batch.inline.as_ref();
        let mut sent = inline.map_or(0, Inline::length);
        let whole = inline.map(|inline| inline.total).or(total);
        let mut fed = false;
        let mut running: Option<Running> = None;
        let mut finished = 0;
        let mut interrupted = false;
        loop {
            let reply = tokio::select! {
                reply = replies.recv() => reply,
                () = cancel.cancelled(), if !interrupted => {
                    // The running command ends; the rest of the batch is not started.
                    interrupted = true;
                    self.session.interrupt().await;
                    continue;
                }
            };
            let Some(reply) = reply else { break };
            match reply {
                Reply::Started { index } => {
                    if let Some(task) = shown.get(index) {
                        let started = self.start(phase, task).await;
                        fed = matches!(task.action, Action::Transfer | Action::Send(_) | Action::Feed(_));
                        if fed && sent > 0 {
                            self.progress(&started, sent, whole).await;
                        }
                        running = Some(started);
                    }
                }
                Reply::Output { index, stream, bytes } if Some(index) == asking => answer.take(stream, &bytes),
                Reply::Output { stream, bytes, .. } => {
                    if let Some(running) = &mut running {
                        self.print(running, stream, &bytes).await;
                    }
                }
                // It may be on its way before the host has begun to read.
                Reply::Sent { bytes } => {
                    sent = bytes;
                    if let Some(running) = running.as_ref().filter(|_| fed) {
                        self.progress(running, sent, total).await;
                    }
                }
                Reply::Ended { index, status } => {
                    finished = index + 1;
                    if Some(index) == asking {
                        answer.status = Some(status);
                        continue;
                    }
                    let Some(task) = batch.tasks.get(index) else {
                        quiet &= status.success();
                        continue;
                    };
                    let Some(running) = running.take() else { continue };
                    if status.success() {
                        self.done(running).await;
                        continue;
                    }
                    if !task.tolerate || task.explain.is_some() {
                        // The answer to `explain` needs the shell, and this batch is over.
                        while replies.recv().await.is_some() {}
                    }
                    let advice = advice(task, &status);
                    if !last {
                        let failure = running.failure(describe(&status), advice);
                        self.end(running, |_| TaskResult::Tolerated(failure.clone())).await;
                        return Err(Stop::Failed { task: task.name.clone(), failure });
                    }
                    self.failed(running, task, describe(&status), advice).await?;
                }
                // What is quiet is all that was left.
                Reply::Lost(_) if finished >= shown.len() && !batch.quiet.is_empty() => {
                    return Ok(Came { tasks: batch.tasks.len(), ..Came::default() });
                }
                // So ends the channel of an upload that was stopped.
                Reply::Lost(_) if interrupted && total.is_some() => {
                    if let Some(running) = running.take() {
                        self.interrupted(running).await;
                    }
                    return Err(Stop::Cancelled);
                }
                Reply::Lost(lost) => {
                    let name = running.as_ref().map(|running| running.name.clone());
                    let next = || shown.get(finished).map(|task| task.name.clone());
                    let name = name.or_else(next).unwrap_or_default();
                    return Err(self.lost(running, &name, lost).await);
                }
            }
        }
        let tolerated = |index: usize| batch.tasks.get(index).is_some_and(|task| task.tolerate);
        if finished == count || finished.checked_sub(1).is_some_and(tolerated) {
            let answer = running.map(|running| (running, answer));
            return Ok(Came { tasks: finished.min(batch.tasks.len()), answer, quiet: quiet && finished == count });
        }
        if finished > shown.len() {
            // Of those that are quiet, one failed.
            return Ok(Came { tasks: batch.tasks.len(), answer: None, quiet: false });
        }
        if let (Some(running), true) = (running.take(), interrupted) {
            self.interrupted(running).await;
            return Err(Stop::Cancelled);
        }
        if interrupted {
            return Err(Stop::Cancelled);
        }
        let lost = Lost { reason: "the host stopped answering without a status".to_owned() };
        let name = shown.get(finished).map(|task| task.name.clone()).unwrap_or_default();
        Err(self.lost(None, &name, lost).await)
    }

    async fn progress(&self, running: &Running, sent: u64, total: Option<u64>) {
        if let Some(total) = total {
            self.sink.emit(Event::TaskProgress { task: running.reference.clone(), sent, total }).await;
        }
    }

    pub(super) async fn feed(&self, phase: Phase, task: &Task, feed: &Feed) -> Result<(), Stop> {
        let (sender, body) = mpsc::channel(1);
        let _ = sender.try_send(Ok(bytes::Bytes::copy_from_slice(feed.text.expose().as_bytes())));
        drop(sender);
        self.fed(phase, task, feed.command.clone(), body, None).await
    }

    /// Runs `command` with `body` as its standard input; how far that is sent is told where `total` is known.
    pub(super) async fn fed(
        &self,
        phase: Phase,
        task: &Task,
        command: Command,
        body: Body,
        total: Option<u64>,
    ) -> Result<(), Stop> {
        let batch = Batch { tasks: vec![task.clone()], ..Batch::default() };
        let replies = self.session.feed(vec![command], body);
        self.hear(phase, &batch, replies, true, total, &CancellationToken::new()).await.map(|_| ())
    }
}
