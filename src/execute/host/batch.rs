//! What travels to a host together, and what comes back of each part of it.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Due, Host, Running, Stop, advice, describe};
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
    /// Commands, of which the last may be the upload, and questions: the last, or such as the host can answer by itself.
    pub(super) tasks: Vec<Due>,
    /// Run behind them; nothing is told of them.
    pub(super) quiet: Vec<Command>,
    /// In place of all of these: what travels by itself.
    pub(super) alone: Option<Due>,
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
    /// Where the next of them is a question that goes on: its first answer.
    pub(super) answer: Option<(Running, Answer)>,
    /// Where it began with what was quiet: whether that did what it should.
    pub(super) quiet: Option<bool>,
}

impl Batch {
    /// Takes from `rest` what can be sent next, with the upload where that is `inline`.
    pub(super) fn next(rest: &mut VecDeque<Due>, inline: &mut Option<Inline>) -> Self {
        let with_others = |due: &&Due| match due.task.action {
            Action::Transfer => inline.is_some(),
            _ => travels_together(&due.task),
        };
        let together = rest.iter().take_while(with_others).count();
        let mut batch = Self { tasks: rest.drain(..together).collect(), ..Self::default() };
        if batch.tasks.iter().any(|due| matches!(due.task.action, Action::Transfer)) {
            batch.inline = inline.take();
        }
        match rest.front().map(|due| &due.task.action) {
            Some(Action::Poll(_) | Action::Derive(_)) => batch.tasks.extend(rest.pop_front()),
            // What is not ship's own may take long, and the lock is held by another channel's shell.
            Some(Action::Transfer) if batch.tasks.iter().all(|due| due.task.own) => {
                batch.tasks.extend(rest.pop_front());
            }
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
        self.alone.is_none() && self.tasks.iter().all(|due| travels_together(&due.task))
    }

    fn commands(&self, transfer: Option<&Transfer>) -> Vec<Command> {
        let tasks = self.tasks.iter().filter_map(|due| match &due.task.action {
            Action::Command(command) if due.task.tolerate => Some(command.clone().tolerated()),
            Action::Command(command) => Some(command.clone()),
            Action::Poll(poll) => Some(poll.decisive().unwrap_or_else(|| poll.probe.clone())),
            Action::Derive(derive) => Some(derive.question.clone()),
            _ => self.inline.as_ref().map(|inline| inline.command.clone()).or_else(|| transfer.and_then(alone)),
        });
        tasks.chain(self.quiet.iter().cloned()).collect()
    }
}

/// The command of an upload that is one lot.
fn alone(transfer: &Transfer) -> Option<Command> {
    transfer.lots.first().map(|lot| lot.command(transfer.first_coding()))
}

/// A failure of these either ends the phase, which the host does by itself, or matters to nobody. Nothing behind a
/// question may be done before it is answered: those travel whose status says so.
fn travels_together(task: &Task) -> bool {
    match &task.action {
        Action::Command(_) => task.attempts <= 1 && (!task.tolerate || task.explain.is_none()),
        Action::Poll(poll) => poll.decisive().is_some(),
        _ => false,
    }
}

/// Whether the answer of `task` is heard rather than shown.
fn asks(task: &Task) -> bool {
    matches!(task.action, Action::Poll(_) | Action::Derive(_))
}

impl Host {
    /// Sends a batch. A single command with attempts left is sent again when it fails.
    pub(super) async fn send(&self, batch: &Batch, transfer: Option<&Transfer>) -> Result<Came, Stop> {
        if batch.inline.is_none() && batch.tasks.iter().any(|due| matches!(due.task.action, Action::Transfer)) {
            let Some(transfer) = transfer else { return Ok(Came { tasks: batch.tasks.len(), ..Came::default() }) };
            let came = match transfer.lots.as_slice() {
                [lot] => self.send_lot(batch, transfer, lot).await,
                _ => self.send_lots(batch, transfer).await,
            };
            if matches!(came, Err(Stop::Lost { .. } | Stop::Cancelled)) {
                self.cut.store(true, Ordering::Relaxed);
            }
            return came;
        }
        let (attempts, pause) = match batch.tasks.as_slice() {
            [single] => (single.task.attempts.max(1), single.task.pause),
            _ => (1, std::time::Duration::ZERO),
        };
        let mut attempt = 1;
        loop {
            let last = attempt == attempts || batch.tasks.iter().any(|due| due.cancel.is_cancelled());
            let replies = self.session.run(batch.commands(None));
            match self.hear(batch, replies, last, None).await {
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
    async fn send_lot(&self, batch: &Batch, transfer: &Transfer, lot: &Lot) -> Result<Came, Stop> {
        let tally = Tally::default();
        let body = lot.start(transfer.first_coding(), &tally);
        let cancel = batch.tasks.last().map(|due| due.cancel.clone()).unwrap_or_default();
        let replies = self.session.feed(batch.commands(Some(transfer)), body);
        let mut heard = pin!(self.hear(batch, replies, true, Some(lot.total())));
        tokio::select! {
            came = &mut heard => return came,
            () = cancel.cancelled() => tally.stop(),
        }
        heard.await
    }

    /// Sends a batch with an upload in several lots: what is before it has to be done before any of them begins.
    async fn send_lots(&self, batch: &Batch, transfer: &Transfer) -> Result<Came, Stop> {
        let before = batch.tasks.iter().filter(|due| !matches!(due.task.action, Action::Transfer)).cloned().collect();
        let before = Batch { tasks: before, ..Batch::default() };
        transfer.lots.iter().for_each(Lot::look_ahead);
        self.session.warm(transfer.channels());
        if !before.tasks.is_empty() {
            let replies = self.session.run(before.commands(None));
            let came = self.hear(&before, replies, true, None).await?;
            if came.tasks < before.tasks.len() {
                return Ok(came);
            }
        }
        if let Some(due) = batch.tasks.last() {
            self.transfer(due, transfer).await?;
        }
        Ok(Came { tasks: batch.tasks.len(), ..Came::default() })
    }

    /// Tells what comes back of a batch, to its end, the first failure that matters or a question that goes on. `last`
    /// says that a failure is final; how far the body of an upload is sent is told where its `total` is known.
    async fn hear(
        &self,
        batch: &Batch,
        mut replies: mpsc::Receiver<Reply>,
        last: bool,
        total: Option<u64>,
    ) -> Result<Came, Stop> {
        let count = batch.tasks.len() + batch.quiet.len();
        let mut answer = Answer::default();
        let mut quiet = None;
        let inline = batch.inline.as_ref();
        let mut sent = inline.map_or(0, Inline::length);
        let whole = inline.map(|inline| inline.total).or(total);
        let mut fed = false;
        let mut running: Option<Running> = None;
        let mut finished = 0;
        let mut interrupted = false;
        loop {
            // What is quiet is no more stopped than a task that nothing stops.
            let cancel = batch.tasks.get(finished).map(|due| due.cancel.clone()).unwrap_or_default();
            let reply = tokio::select! {
                biased;
                () = cancel.cancelled(), if !interrupted => {
                    // The running command ends; the rest of the batch is not started.
                    interrupted = true;
                    self.session.interrupt().await;
                    continue;
                }
                reply = replies.recv() => reply,
            };
            let Some(reply) = reply else { break };
            match reply {
                Reply::Started { index } => {
                    if let Some(due) = batch.tasks.get(index) {
                        let started = self.start(due).await;
                        fed = matches!(due.task.action, Action::Transfer | Action::Send(_) | Action::Feed(_));
                        if fed && sent > 0 {
                            self.progress(&started, sent, whole).await;
                        }
                        running = Some(started);
                    } else if quiet.is_none() {
                        self.pass(Phase::Finish).await;
                        quiet = Some(true);
                    }
                }
                Reply::Output { index, stream, bytes } => {
                    if batch.tasks.get(index).is_some_and(|due| asks(&due.task)) {
                        answer.take(stream, &bytes);
                    } else if let Some(running) = &mut running {
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
                    let Some(Due { task, .. }) = batch.tasks.get(index) else {
                        finished = index + 1;
                        quiet = quiet.map(|quiet| quiet && status.success());
                        continue;
                    };
                    if asks(task) && !(status.success() && travels_together(task)) {
                        // Nothing behind it was begun.
                        while replies.recv().await.is_some() {}
                        answer.status = Some(status);
                        let answer = running.map(|running| (running, answer));
                        return Ok(Came { tasks: index, answer, quiet: None });
                    }
                    finished = index + 1;
                    answer = Answer::default();
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
                Reply::Lost(_) if finished >= batch.tasks.len() && !batch.quiet.is_empty() => {
                    return Ok(Came { tasks: batch.tasks.len(), answer: None, quiet: Some(false) });
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
                    let next = || batch.tasks.get(finished).map(|due| due.task.name.clone());
                    let name = name.or_else(next).unwrap_or_default();
                    return Err(self.lost(running, &name, lost).await);
                }
            }
        }
        let tolerated = |index: usize| batch.tasks.get(index).is_some_and(|due| due.task.tolerate);
        // Of those that are quiet, one may have failed.
        if finished == count || finished > batch.tasks.len() || finished.checked_sub(1).is_some_and(tolerated) {
            return Ok(Came { tasks: finished.min(batch.tasks.len()), answer: None, quiet });
        }
        if interrupted {
            let before = finished.checked_sub(1).and_then(|index| batch.tasks.get(index));
            match running.take() {
                Some(running) => self.interrupted(running).await,
                // It came when all was done that it could stop.
                None if before.is_some_and(|due| !due.cancel.is_cancelled()) => {
                    return Ok(Came { tasks: finished, ..Came::default() });
                }
                None => {}
            }
            return Err(Stop::Cancelled);
        }
        let lost = Lost { reason: "the host stopped answering without a status".to_owned() };
        let name = batch.tasks.get(finished).map(|due| due.task.name.clone()).unwrap_or_default();
        Err(self.lost(None, &name, lost).await)
    }

    async fn progress(&self, running: &Running, sent: u64, total: Option<u64>) {
        if let Some(total) = total {
            self.sink.emit(Event::TaskProgress { task: running.reference.clone(), sent, total }).await;
        }
    }

    pub(super) async fn feed(&self, due: &Due, feed: &Feed) -> Result<(), Stop> {
        let (sender, body) = mpsc::channel(1);
        let _ = sender.try_send(Ok(bytes::Bytes::copy_from_slice(feed.text.expose().as_bytes())));
        drop(sender);
        self.fed(due, feed.command.clone(), body, None).await
    }

    /// Runs `command` with `body` as its standard input; how far that is sent is told where `total` is known. It is not
    /// interrupted.
    pub(super) async fn fed(&self, due: &Due, command: Command, body: Body, total: Option<u64>) -> Result<(), Stop> {
        let due = Due { cancel: CancellationToken::new(), ..due.clone() };
        let batch = Batch { tasks: vec![due], ..Batch::default() };
        let replies = self.session.feed(vec![command], body);
        self.hear(&batch, replies, true, total).await.map(|_| ())
    }
}
