//! The host's long-lived shell: sends batches of commands, tells their outputs apart, keeps their time.
//!
//! One `/bin/sh` reads its program from standard input for the whole run, but for its first batch: where nothing in
//! that is secret it travels as an argument, which saves the wait for the server to open its window. Markers
//! (`marker`) separate what the commands print. Nothing here polls or sleeps: a batch is sent at once, and the shell
//! itself stops it at the first failure. It works over any [`Host`]. Deliberately absent: commands with a body
//! (`feed`).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::guard::Guard;
use super::marker::Nonce;
use super::order::Streams;
use super::pipes::{Chunk, Exit, Host, Pipes, WAITING_CHUNKS};
use super::spare::Spares;
use super::sudo::{FAREWELL, Sudo};
use super::{Lost, Reply, Status, script};
use crate::command::{Command, Program};
use crate::output::visible;

/// How long the shell has to end by itself when the session is closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

enum Job {
    Run(Vec<Command>, mpsc::Sender<Reply>),
    Sudo(Sudo),
    Guard(oneshot::Sender<Result<(), Lost>>),
    Unguard,
}

/// The host's shell, opened when first needed. Its jobs run one after the other.
pub(super) struct Shell {
    jobs: mpsc::UnboundedSender<Job>,
    closing: CancellationToken,
    interrupts: watch::Sender<u64>,
}

impl Shell {
    /// A shell on the host of `spares`, one of which guards it.
    pub(super) fn new(spares: Arc<Spares>) -> Self {
        let (jobs, inbox) = mpsc::unbounded_channel();
        let closing = CancellationToken::new();
        let (interrupts, interrupted) = watch::channel(0);
        let keeper = Keeper {
            host: Arc::clone(spares.host()),
            spares,
            sudo: None,
            open: None,
            died: None,
            guard: None,
            guarded: false,
            closing: closing.clone(),
            interrupted,
        };
        tokio::spawn(keeper.work(inbox));
        Self { jobs, closing, interrupts }
    }

    /// See [`super::Session::run`].
    pub(super) fn run(&self, batch: Vec<Command>) -> mpsc::Receiver<Reply> {
        let (replies, receiver) = mpsc::channel(WAITING_CHUNKS);
        if let Err(mpsc::error::SendError(Job::Run(_, replies))) = self.jobs.send(Job::Run(batch, replies)) {
            let _ = replies.try_send(Reply::Lost(closed()));
        }
        receiver
    }

    /// From now on, commands call sudo in this way. The shell that is open was given the password by the proof;
    /// the next one is given it before its first command.
    pub(super) fn sudo(&self, sudo: Sudo) {
        let _ = self.jobs.send(Job::Sudo(sudo));
    }

    /// See [`super::Session::guard`].
    pub(super) async fn guard(&self) -> Result<(), Lost> {
        let (answer, receiver) = oneshot::channel();
        let _ = self.jobs.send(Job::Guard(answer));
        receiver.await.unwrap_or_else(|_| Err(closed()))
    }

    /// See [`super::Session::unguard`].
    pub(super) fn unguard(&self) {
        let _ = self.jobs.send(Job::Unguard);
    }

    /// See [`super::Session::interrupt`]. A shell that is not guarded has nobody who could tell it.
    pub(super) fn interrupt(&self) {
        self.interrupts.send_modify(|count| *count += 1);
    }

    /// Ends the shell, waiting a few seconds for an idle one, so that the locks it holds are free
    /// afterwards. A command that runs is left alone; nothing of its batch starts after it.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.jobs.closed().await;
    }
}

fn closed() -> Lost {
    Lost { reason: "the session is closed".to_owned() }
}

/// A shell that was started.
struct Open {
    pipes: Pipes,
    streams: Streams,
    /// What sends it the last batch.
    sending: Option<AbortOnDrop>,
    /// How it ended, where the host has said so.
    exit: Option<Exit>,
    /// How many batches were sent to it.
    batches: usize,
    /// How long what it was sent for commands that never began may take to arrive.
    unread: Duration,
}

impl Open {
    /// Sends `text` beside the reading: the shell may be printing more than fits before it reads on.
    fn send(&mut self, text: String) {
        let input = self.pipes.input.clone();
        let before = self.sending.take();
        self.sending = Some(AbortOnDrop(tokio::spawn(async move {
            if let Some(mut before) = before {
                let _ = (&mut before.0).await;
            }
            let _ = input.send(text.into()).await;
        })));
    }

    /// Whether the shell has left the last batch behind: it says who it is after each.
    fn idle(&self) -> bool {
        self.streams.introductions() > self.batches
    }

    /// Takes what came, if anything did; none when the shell is gone.
    fn take(&mut self, chunk: Option<Chunk>) -> Result<Option<Vec<Reply>>, Lost> {
        match chunk {
            Some(Chunk::Output(stream, bytes)) => self.streams.push(stream, bytes).map(Some),
            Some(Chunk::Exited(exit)) => {
                self.exit = Some(exit);
                Ok(Some(Vec::new()))
            }
            Some(Chunk::Refused(lost)) => Err(lost),
            None => Ok(None),
        }
    }
}

/// Owns the shell and works through the jobs.
struct Keeper {
    host: Arc<dyn Host>,
    spares: Arc<Spares>,
    /// How commands call sudo, where it wants a password.
    sudo: Option<Sudo>,
    open: Option<Open>,
    /// A shell ended between two batches; the next batch must hear of it, since what it held is gone.
    died: Option<Lost>,
    guard: Option<Guard>,
    guarded: bool,
    closing: CancellationToken,
    interrupted: watch::Receiver<u64>,
}

impl Keeper {
    async fn work(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        loop {
            let closing = self.closing.clone();
            let job = tokio::select! {
                biased;
                () = closing.cancelled() => break,
                job = jobs.recv() => match job {
                    Some(job) => job,
                    None => break,
                },
                () = drain(&mut self.open) => {
                    self.died = Some(self.forget());
                    continue;
                }
            };
            // Closing waits neither for a command that runs nor for those who listen to it.
            let listener = match &job {
                Job::Run(_, replies) => Some(replies.clone()),
                Job::Guard(_) | Job::Sudo(_) | Job::Unguard => None,
            };
            let finished = tokio::select! {
                biased;
                () = closing.cancelled() => false,
                () = self.handle(job) => true,
            };
            if !finished {
                self.give_up();
                if let Some(replies) = listener {
                    tokio::spawn(async move { replies.send(Reply::Lost(closed())).await });
                }
                break;
            }
        }
        // What was said before the end counts.
        while let Ok(job) = jobs.try_recv() {
            match job {
                Job::Unguard => self.handle(Job::Unguard).await,
                Job::Run(_, replies) => drop(replies.try_send(Reply::Lost(closed()))),
                Job::Sudo(_) | Job::Guard(_) => {}
            }
        }
        let guard = self.guard.take();
        let leaving = async {
            if let Some(guard) = guard {
                guard.dismiss().await;
            }
        };
        let ending = async {
            let Some(open) = self.open.take() else { return };
            let Pipes { input, mut output, .. } = open.pipes;
            // A shell that still runs a command was given up: this one reads on, if it has not said so yet.
            if self.sudo.is_some() {
                let _ = input.send(FAREWELL.into()).await;
            } else if !self.guarded {
                // It holds nothing that somebody else could wait for.
                return;
            }
            drop(input);
            // Not until its streams end: something that a command left running may hold them.
            while let Some(Chunk::Output(..)) = output.recv().await {}
        };
        let _ = tokio::join!(leaving, tokio::time::timeout(CLOSE_LIMIT, ending));
        jobs.close();
        while let Some(job) = jobs.recv().await {
            if let Job::Run(_, replies) = job {
                let _ = replies.try_send(Reply::Lost(closed()));
            }
        }
    }

    async fn handle(&mut self, job: Job) {
        match job {
            Job::Run(batch, replies) => {
                if let Err(lost) = self.run(&batch, &replies).await {
                    self.give_up();
                    let _ = replies.send(Reply::Lost(lost)).await;
                }
            }
            Job::Sudo(sudo) => self.sudo = Some(sudo),
            Job::Guard(answer) => {
                let _ = answer.send(self.guard().await);
            }
            Job::Unguard => {
                self.guarded = false;
                if let Some(guard) = self.guard.take() {
                    guard.leave();
                }
            }
        }
    }

    /// Leaves the shell to itself: its input ends, and it cannot print any more, so it starts nothing.
    fn give_up(&mut self) {
        self.open = None;
        if let Some(guard) = self.guard.take() {
            tokio::spawn(guard.dismiss());
        }
    }

    /// Gives up the shell in hand, which has ended, and says why.
    fn forget(&mut self) -> Lost {
        let open = self.open.take();
        self.give_up();
        let Some(open) = open else { return self.host.loss() };
        if open.streams.process().is_none() && open.exit.is_some() {
            return no_answer(&open);
        }
        match open.exit {
            Some(Exit::Status(status)) => Lost { reason: format!("the host's shell ended with status {status}") },
            Some(Exit::Signal(name)) => Lost { reason: format!("the host's shell was ended by SIG{name}") },
            None => self.host.loss(),
        }
    }

    /// The shell, and after how many round trips it was sent `batch`. Where there is no shell, one is started with it.
    async fn reach(&mut self, batch: &[Command]) -> Result<(&mut Open, u64), Lost> {
        if let Some(lost) = self.died.take() {
            return Err(lost);
        }
        let meter = self.host.meter();
        if let Some(open) = self.open.take() {
            let sent_at = meter.now().max(open.pipes.ready);
            let open = self.open.insert(open);
            open.send(script::batch(batch, self.sudo.as_ref()));
            return Ok((open, sent_at));
        }
        let (greeting, nonce) = (Nonce::new()?, Nonce::new()?);
        let prelude = script::prelude(&nonce, self.sudo.as_ref());
        let may_be_seen = self.sudo.is_none() && !batch.iter().any(Command::holds_secrets);
        let line = may_be_seen.then(|| script::opening(batch, &greeting)).flatten();
        let (pipes, streams, text) = match &line {
            Some(line) => (self.host.start_shell(line).await?, Streams::greeted(&greeting, &nonce), prelude),
            None => {
                let text = prelude + &script::batch(batch, self.sudo.as_ref());
                (self.host.start_shell("exec /bin/sh").await?, Streams::new(&nonce), text)
            }
        };
        self.spares.begin();
        // Its arguments reach a shell before its input does.
        let sent_at = if line.is_some() { pipes.ready.saturating_sub(1) } else { pipes.ready };
        let open =
            self.open.insert(Open { pipes, streams, exit: None, batches: 0, sending: None, unread: Duration::ZERO });
        open.send(text);
        Ok((open, sent_at))
    }

    async fn guard(&mut self) -> Result<(), Lost> {
        self.guarded = true;
        if self.open.as_ref().and_then(|open| open.streams.process()).is_none() {
            // A command that does nothing, so that a new shell says who it is.
            let (replies, mut answers) = mpsc::channel(WAITING_CHUNKS);
            self.run(&[Command::session(":")], &replies).await?;
            drop(replies);
            while let Some(reply) = answers.recv().await {
                if let Reply::Lost(lost) = reply {
                    return Err(lost);
                }
            }
        }
        self.watch().await
    }

    /// Has the shell watched, where that was asked for and is not so yet.
    async fn watch(&mut self) -> Result<(), Lost> {
        let process = self.open.as_ref().and_then(|open| open.streams.process());
        if let (true, None, Some(process)) = (self.guarded, &self.guard, process) {
            self.guard = Some(Guard::start(&self.spares, process).await?);
        }
        Ok(())
    }

    /// Sends `batch` and passes on what comes back, until it has ended or failed.
    async fn run(&mut self, batch: &[Command], replies: &mpsc::Sender<Reply>) -> Result<(), Lost> {
        if batch.is_empty() {
            return Ok(());
        }
        let host = self.host.clone();
        let mut interrupted = self.interrupted.clone();
        interrupted.mark_unchanged();
        let (open, sent_at) = self.reach(batch).await?;
        open.batches += 1;
        open.streams.begin();
        let mut clock = Clock::waiting(0, batch.first());
        clock.deadline += std::mem::take(&mut open.unread);
        let mut told = false;
        loop {
            let Some(open) = self.open.as_mut() else { return Err(self.forget()) };
            let chunk = tokio::select! {
                biased;
                Ok(()) = interrupted.changed(), if !told => {
                    if let Some(guard) = &self.guard {
                        guard.interrupt();
                        told = true;
                    }
                    continue;
                }
                chunk = open.pipes.output.recv() => chunk,
                // The shell is gone, and something that a command left running holds its streams.
                () = tokio::time::sleep_until(clock.deadline), if open.exit.is_some() => None,
                () = tokio::time::sleep_until(clock.deadline) => {
                    if !clock.running {
                        return Err(no_answer(open));
                    }
                    self.give_up();
                    let status = Status::TimedOut(clock.limit);
                    let _ = replies.send(Reply::Ended { index: clock.index, status }).await;
                    return Ok(());
                }
            };
            let news = open.take(chunk)?;
            if open.exit.is_some() {
                clock.hurry();
            }
            let Some(news) = news else {
                for reply in open.streams.finish() {
                    let _ = replies.send(reply).await;
                }
                let exit = open.exit.clone();
                let lost = self.forget();
                return match (clock.running.then(|| batch.get(clock.index)).flatten().map(Command::program), exit) {
                    // The text ran in the shell itself and ended it, for example by a redirection that
                    // failed (POSIX XCU 2.8.1).
                    (Some(Program::Session(_)), Some(Exit::Status(status))) => {
                        let status = Status::Exited(status);
                        let _ = replies.send(Reply::Ended { index: clock.index, status }).await;
                        Ok(())
                    }
                    _ => Err(lost),
                };
            };
            for reply in news {
                host.meter().answered(sent_at);
                let over = match &reply {
                    Reply::Started { index } => {
                        clock = Clock::running(*index, batch.get(*index));
                        false
                    }
                    Reply::Ended { index, status } => {
                        let go_on = status.success() || batch.get(*index).is_some_and(Command::may_fail);
                        !go_on || index + 1 >= batch.len()
                    }
                    _ => false,
                };
                let reply = clock.judge(reply);
                if let Reply::Ended { index, .. } = &reply {
                    clock = Clock::waiting(index + 1, batch.get(index + 1));
                }
                // Where nobody listens any more, the batch is still followed to its end, to stay in step.
                let _ = replies.send(reply).await;
                if over {
                    if let Some(open) = &mut self.open {
                        let never_begun = batch.iter().skip(clock.index).filter(|command| command.input().is_some());
                        open.unread = never_begun.map(Command::time_limit).sum();
                    }
                    return self.watch().await;
                }
            }
            if told && self.open.as_ref().is_some_and(Open::idle) {
                // The rest of the batch was skipped.
                return Ok(());
            }
        }
    }
}

/// A task that ends with its owner.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads what comes between batches, so that nothing stands still, until the shell is gone. Waits for
/// ever where there is none.
async fn drain(open: &mut Option<Open>) {
    match open {
        Some(open) => loop {
            let chunk = open.pipes.output.recv().await;
            if !matches!(open.take(chunk), Ok(Some(_))) || open.exit.is_some() {
                return;
            }
        },
        None => std::future::pending().await,
    }
}

fn no_answer(open: &Open) -> Lost {
    if open.streams.process().is_some() {
        return Lost { reason: "the host's shell does not answer".to_owned() };
    }
    let mut reason = String::from(
        "no answer from the login shell: forced command, nologin, or a shell start-up file that reads its input?",
    );
    if let Some(Exit::Status(status)) = open.exit {
        let _ = write!(reason, " It ended with status {status}.");
    }
    let noise = visible(open.streams.noise());
    if !noise.trim().is_empty() {
        let _ = write!(reason, " It said: {}", noise.trim());
    }
    Lost { reason }
}
