//! One host carries out tasks: commands travel together, events come back apart.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::command::Command;
use crate::event::{Event, Failure, Phase, Sink, Stream, TaskRef, TaskResult};
use crate::execute::lifeline::Lifeline;
use crate::fleet::ask;
use crate::output::Lines;
use crate::plan::Transfer;
use crate::session::{Body, Lost, Reply, Session, Status};
use crate::step::{Action, Derive, Feed, Poll, Sample, Task, Verdict};

mod detached;
mod transfer;

/// How many lines of output are kept for the message of a failure.
const LAST_LINES: usize = 20;

/// Why a host stopped in a phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A task failed.
    Failed {
        /// Its name.
        task: String,
        /// Why.
        failure: Failure,
    },
    /// The connection is gone; what the host did last is not known.
    Lost {
        /// What was running.
        task: String,
        /// What is known of the cause.
        reason: String,
    },
    /// It was told to stop, and did so between two tasks.
    Cancelled,
}

impl Stop {
    /// One sentence for tables.
    pub fn why(&self) -> String {
        match self {
            Self::Failed { task, failure } => format!("{task}: {}", failure.status),
            Self::Lost { task, reason } => format!("{task}: connection lost: {reason}"),
            Self::Cancelled => "stopped before its next task".to_owned(),
        }
    }
}

/// One host while a run lasts.
pub struct Host {
    /// Its name in the inventory.
    pub name: String,
    /// The connection, replaced after it was lost.
    pub session: Arc<dyn Session>,
    /// Where events go.
    pub sink: Sink,
    /// The next task's number.
    pub next_task: Arc<AtomicU32>,
    /// How the host is found again while a detached command runs.
    pub line: Option<Arc<Lifeline>>,
    /// What goes on alone on the hosts when this run is stopped at once.
    pub alone: Arc<Mutex<Vec<String>>>,
}

/// A task that has begun.
struct Running {
    reference: TaskRef,
    phase: Phase,
    name: String,
    command: Option<String>,
    own: bool,
    began: Instant,
    last_lines: VecDeque<String>,
    lines: [Lines; 2],
}

impl Running {
    fn keep(&mut self, line: &str) {
        if self.last_lines.len() == LAST_LINES {
            self.last_lines.pop_front();
        }
        self.last_lines.push_back(line.to_owned());
    }

    fn failure(&self, status: String, advice: Option<String>) -> Failure {
        Failure { status, command: self.command.clone(), last_lines: self.last_lines.iter().cloned().collect(), advice }
    }
}

impl Host {
    /// A host at the beginning of a run.
    pub fn new(name: String, session: Arc<dyn Session>, sink: Sink) -> Self {
        let next_task = Arc::new(AtomicU32::new(0));
        Self { name, session, sink, next_task, line: None, alone: Arc::default() }
    }

    /// Carries out `tasks` in order and stops at the first that fails or, once `cancel` is set, between two.
    pub async fn carry_out(
        &self,
        phase: Phase,
        tasks: &[Task],
        transfer: Option<&Transfer>,
        cancel: &CancellationToken,
    ) -> Result<(), Stop> {
        let mut rest: VecDeque<Task> = tasks.iter().cloned().collect();
        while let Some(first) = rest.front() {
            if cancel.is_cancelled() {
                return Err(Stop::Cancelled);
            }
            if matches!(first.action, Action::Command(_)) {
                let together = rest.iter().take_while(|task| travels_together(task)).count().max(1);
                let batch: Vec<Task> = rest.drain(..together.min(rest.len())).collect();
                self.commands(phase, &batch, cancel).await?;
                continue;
            }
            let Some(task) = rest.pop_front() else { break };
            match &task.action {
                Action::Command(_) => {}
                Action::Poll(poll) => self.poll(phase, &task, poll, cancel).await?,
                Action::Detached(detached) => self.detached(phase, &task, detached, cancel).await?,
                Action::Transfer => {
                    if let Some(transfer) = transfer {
                        self.transfer(phase, &task, transfer).await?;
                    }
                }
                Action::Send(sending) => {
                    let total = Some(sending.load.total());
                    self.fed(phase, &task, sending.command.clone(), sending.load.clone().start(), total).await?;
                }
                Action::Feed(feed) => self.feed(phase, &task, feed).await?,
                Action::Derive(derive) => {
                    let following = self.derive(phase, &task, derive).await?;
                    following.into_iter().rev().for_each(|task| rest.push_front(task));
                }
            }
        }
        Ok(())
    }

    async fn start(&self, phase: Phase, task: &Task) -> Running {
        let reference = TaskRef { host: self.name.clone(), task: self.next_task.fetch_add(1, Ordering::Relaxed) };
        let command = task.command().map(Command::display);
        self.sink
            .emit(Event::TaskStarted {
                task: reference.clone(),
                phase,
                name: task.name.clone(),
                command: command.clone(),
                own: task.own,
            })
            .await;
        Running {
            reference,
            phase,
            name: task.name.clone(),
            command,
            own: task.own,
            began: Instant::now(),
            last_lines: VecDeque::new(),
            lines: [Lines::default(), Lines::default()],
        }
    }

    async fn print(&self, running: &mut Running, stream: Stream, bytes: &bytes::Bytes) {
        let [stdout, stderr] = &mut running.lines;
        let reader = if stream == Stream::Stdout { stdout } else { stderr };
        for line in reader.push(bytes) {
            self.line(running, stream, line).await;
        }
    }

    async fn line(&self, running: &mut Running, stream: Stream, line: String) {
        running.keep(&line);
        self.sink.emit(Event::TaskOutput { task: running.reference.clone(), stream, line }).await;
    }

    /// Ends a task: what was printed last without a line end, then the result.
    async fn end(&self, mut running: Running, result: impl FnOnce(&Running) -> TaskResult) -> TaskResult {
        for (stream, index) in [(Stream::Stdout, 0), (Stream::Stderr, 1)] {
            if let Some(line) = running.lines.get_mut(index).and_then(Lines::finish) {
                self.line(&mut running, stream, line).await;
            }
        }
        let result = result(&running);
        self.sink
            .emit(Event::TaskFinished {
                task: running.reference.clone(),
                phase: running.phase,
                name: running.name.clone(),
                result: result.clone(),
                own: running.own,
                millis: u64::try_from(running.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            })
            .await;
        result
    }

    async fn done(&self, running: Running) {
        self.end(running, |_| TaskResult::Done).await;
    }

    /// Ends a task that failed: shows what explains it, and says whether the host may go on.
    async fn failed(
        &self,
        mut running: Running,
        task: &Task,
        status: String,
        advice: Option<String>,
    ) -> Result<(), Stop> {
        if let Some(explain) = &task.explain
            && let Ok(answers) = ask(self.session.as_ref(), vec![explain.clone()]).await
        {
            for answer in answers {
                let mut lines = Lines::default();
                let mut all = lines.push(&bytes::Bytes::from(answer.stdout));
                all.extend(lines.finish());
                for line in all {
                    self.line(&mut running, Stream::Stdout, line).await;
                }
            }
        }
        let (tolerate, unimportant) = (task.tolerate, task.unimportant);
        let result = self
            .end(running, |running| {
                let failure = match unimportant.filter(|_| tolerate) {
                    Some(why) => Failure {
                        status: format!("{status}; {why}"),
                        command: None,
                        last_lines: Vec::new(),
                        advice: None,
                    },
                    None => running.failure(status, advice),
                };
                if tolerate { TaskResult::Tolerated(failure) } else { TaskResult::Failed(failure) }
            })
            .await;
        match result {
            TaskResult::Failed(failure) => Err(Stop::Failed { task: task.name.clone(), failure }),
            TaskResult::Done | TaskResult::Tolerated(_) => Ok(()),
        }
    }

    async fn lost(&self, running: Option<Running>, task: &str, lost: Lost) -> Stop {
        if let Some(running) = running {
            let status = lost.to_string();
            self.end(running, |running| TaskResult::Failed(running.failure(status, None))).await;
        }
        Stop::Lost { task: task.to_owned(), reason: lost.reason }
    }

    /// Sends commands together. A single command with attempts left is sent again when it fails.
    async fn commands(&self, phase: Phase, batch: &[Task], cancel: &CancellationToken) -> Result<(), Stop> {
        let attempts = match batch {
            [single] => single.attempts.max(1),
            _ => 1,
        };
        for attempt in 1..=attempts {
            let last = attempt == attempts || cancel.is_cancelled();
            match self.commands_once(phase, batch, last, cancel).await {
                Err(Stop::Failed { task, failure }) if !last => {
                    let text = format!("{task}: {}; trying again ({attempt} of {attempts} failed)", failure.status);
                    self.sink.emit(Event::Warning { host: Some(self.name.clone()), text }).await;
                    tokio::time::sleep(batch.first().map_or(Duration::ZERO, |task| task.pause)).await;
                }
                other => return other,
            }
        }
        Ok(())
    }

    async fn commands_once(
        &self,
        phase: Phase,
        batch: &[Task],
        last: bool,
        cancel: &CancellationToken,
    ) -> Result<(), Stop> {
        let commands = batch.iter().filter_map(|task| task.command().cloned()).collect();
        let mut replies = self.session.run(commands);
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
                    if let Some(task) = batch.get(index) {
                        running = Some(self.start(phase, task).await);
                    }
                }
                Reply::Output { stream, bytes, .. } => {
                    if let Some(running) = &mut running {
                        self.print(running, stream, &bytes).await;
                    }
                }
                Reply::Ended { index, status } => {
                    finished = index + 1;
                    let (Some(task), Some(running)) = (batch.get(index), running.take()) else { continue };
                    if status.success() {
                        self.done(running).await;
                    } else {
                        // The answer to `explain` needs the shell, and this batch is over.
                        while replies.recv().await.is_some() {}
                        let advice = advice(task, &status);
                        if last {
                            return self.failed(running, task, describe(&status), advice).await;
                        }
                        let failure = running.failure(describe(&status), advice);
                        self.end(running, |_| TaskResult::Tolerated(failure.clone())).await;
                        return Err(Stop::Failed { task: task.name.clone(), failure });
                    }
                }
                Reply::Lost(lost) => {
                    let name = running.as_ref().map(|running| running.name.clone());
                    let next = || batch.get(finished).map(|task| task.name.clone());
                    let name = name.or_else(next).unwrap_or_default();
                    return Err(self.lost(running, &name, lost).await);
                }
                Reply::Sent { .. } => {}
            }
        }
        if finished == batch.len() {
            Ok(())
        } else if interrupted {
            Err(Stop::Cancelled)
        } else {
            let lost = Lost { reason: "the host stopped answering without a status".to_owned() };
            let name = batch.get(finished).map(|task| task.name.clone()).unwrap_or_default();
            Err(self.lost(running, &name, lost).await)
        }
    }

    async fn poll(&self, phase: Phase, task: &Task, poll: &Poll, cancel: &CancellationToken) -> Result<(), Stop> {
        let mut running = self.start(phase, task).await;
        let mut samples: Vec<Sample> = Vec::new();
        loop {
            if cancel.is_cancelled() {
                let status = "interrupted".to_owned();
                self.end(running, |running| TaskResult::Failed(running.failure(status, None))).await;
                return Err(Stop::Cancelled);
            }
            let answers = match ask(self.session.as_ref(), vec![poll.probe.clone()]).await {
                Ok(answers) => answers,
                Err(lost) => return Err(self.lost(Some(running), &task.name, lost).await),
            };
            let Some(answer) = answers.first() else { continue };
            samples.push(Sample {
                elapsed: running.began.elapsed(),
                success: answer.success(),
                output: String::from_utf8_lossy(&answer.stdout).into_owned(),
            });
            match poll.judge.verdict(&samples) {
                Verdict::Done => {
                    self.done(running).await;
                    return Ok(());
                }
                Verdict::Failed(why) => return self.failed(running, task, why, None).await,
                Verdict::Again(seen) => {
                    if running.began.elapsed() >= poll.within {
                        let last = answer.last_line();
                        if !last.is_empty() {
                            running.keep(&last);
                        }
                        let status = format!("not so within {} s: {seen}", poll.within.as_secs_f32());
                        return self.failed(running, task, status, None).await;
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(poll.interval) => {}
                () = cancel.cancelled() => {}
            }
        }
    }

    /// Asks, and gives back the tasks that follow. The answer is not shown: it may hold secrets.
    async fn derive(&self, phase: Phase, task: &Task, derive: &Derive) -> Result<Vec<Task>, Stop> {
        let mut running = self.start(phase, task).await;
        let answers = match ask(self.session.as_ref(), vec![derive.question.clone()]).await {
            Ok(answers) => answers,
            Err(lost) => return Err(self.lost(Some(running), &task.name, lost).await),
        };
        let answer = answers.into_iter().next().unwrap_or_default();
        let mut lines = Lines::default();
        let mut said = lines.push(&bytes::Bytes::from(answer.stderr));
        said.extend(lines.finish());
        for line in said.iter().filter_map(|line| derive.decide.shown(line)) {
            self.line(&mut running, Stream::Stderr, line).await;
        }
        let (status, advice) = match &answer.status {
            Some(status) if status.success() => match derive.decide.tasks(&String::from_utf8_lossy(&answer.stdout)) {
                Ok(mut following) => {
                    following.iter_mut().for_each(|next| next.tolerate |= task.tolerate);
                    self.done(running).await;
                    return Ok(following);
                }
                Err(why) => (why, None),
            },
            Some(status) => (describe(status), advice(task, status)),
            None => ("it was not asked".to_owned(), None),
        };
        self.failed(running, task, status, advice).await.map(|()| Vec::new())
    }

    async fn feed(&self, phase: Phase, task: &Task, feed: &Feed) -> Result<(), Stop> {
        let (sender, body) = mpsc::channel(1);
        let _ = sender.try_send(Ok(bytes::Bytes::copy_from_slice(feed.text.expose().as_bytes())));
        drop(sender);
        self.fed(phase, task, feed.command.clone(), body, None).await
    }

    /// Runs `command` with `body` as its standard input; how far that is sent is told where `total` is known.
    async fn fed(
        &self,
        phase: Phase,
        task: &Task,
        command: Command,
        body: Body,
        total: Option<u64>,
    ) -> Result<(), Stop> {
        let mut running = self.start(phase, task).await;
        let mut replies = self.session.feed(command, body);
        while let Some(reply) = replies.recv().await {
            match reply {
                Reply::Output { stream, bytes, .. } => self.print(&mut running, stream, &bytes).await,
                Reply::Sent { bytes } => {
                    if let Some(total) = total {
                        let task = running.reference.clone();
                        self.sink.emit(Event::TaskProgress { task, sent: bytes, total }).await;
                    }
                }
                Reply::Ended { status, .. } => {
                    if status.success() {
                        self.done(running).await;
                        return Ok(());
                    }
                    let advice = advice(task, &status);
                    return self.failed(running, task, describe(&status), advice).await;
                }
                Reply::Lost(lost) => return Err(self.lost(Some(running), &task.name, lost).await),
                Reply::Started { .. } => {}
            }
        }
        let lost = Lost { reason: "the upload ended without a status".to_owned() };
        Err(self.lost(Some(running), &task.name, lost).await)
    }
}

/// Commands whose failure ends the phase can be sent together: the host stops at the first by itself.
fn travels_together(task: &Task) -> bool {
    matches!(task.action, Action::Command(_)) && task.attempts <= 1 && !task.tolerate
}

/// What a status means, for people.
pub(super) fn describe(status: &Status) -> String {
    match status {
        // A shell reports 128 + N for a command that signal N ended (POSIX XCU 2.8.2).
        Status::Exited(code @ 129..=192) => match signal_name(code - 128) {
            Some(name) => format!("killed by {name} (exit status {code})"),
            None => format!("exit status {code}"),
        },
        Status::Exited(code) => format!("exit status {code}"),
        Status::Signalled(name) => format!("killed by SIG{}", name.trim_start_matches("SIG")),
        Status::TimedOut(limit) => format!("timed out after {} s", limit.as_secs()),
    }
}

/// The signals of POSIX whose numbers are the same everywhere, and those of Linux on common machines.
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return None,
    })
}

/// What to try, where the status says something.
pub(super) fn advice(task: &Task, status: &Status) -> Option<String> {
    if let Status::Exited(code) = status
        && let Some((_, meaning)) = task.meanings.iter().find(|(meant, _)| meant == code)
    {
        return Some((*meaning).to_owned());
    }
    Some(match status {
        Status::Exited(137) => "SIGKILL often means that the host ran out of memory: see `dmesg` there".to_owned(),
        Status::Exited(127) => "127 means that a program was not found".to_owned(),
        Status::Exited(126) => "126 means that a file could not be executed".to_owned(),
        Status::Exited(125) => "125 means that the working directory is not there".to_owned(),
        Status::TimedOut(_) => "give the step a longer `timeout` if it needs it".to_owned(),
        _ => return None,
    })
}
