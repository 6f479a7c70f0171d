//! One host carries out tasks: commands travel together, events come back apart.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::command::Command;
use crate::event::{Event, Failure, Phase, Sink, Stream, TaskRef, TaskResult, millis};
use crate::execute::lifeline::Lifeline;
use crate::execute::timing::Times;
use crate::fleet::{Answer, ask};
use crate::output::Lines;
use crate::plan::Transfer;
use crate::session::{Lost, Session, Status};
use crate::step::{Action, Task};

mod asking;
mod batch;
mod detached;
mod passage;
mod transfer;

use batch::Batch;
pub use passage::Passage;

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

/// A task that is due.
#[derive(Clone, Debug)]
pub struct Due {
    /// The phase that it belongs to.
    pub phase: Phase,
    /// Stops the host before the task, or once it has ended.
    pub cancel: CancellationToken,
    /// The task.
    pub task: Task,
}

impl Due {
    /// `tasks` of `phase`, which `cancel` stops between two.
    pub fn all(phase: Phase, tasks: &[Task], cancel: &CancellationToken) -> Vec<Self> {
        tasks.iter().map(|task| Self { phase, cancel: cancel.clone(), task: task.clone() }).collect()
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
    /// Set once its upload was cut, by a lost connection or because the run is stopped.
    pub cut: Arc<AtomicBool>,
    /// How long its tasks took.
    pub times: Arc<Times>,
    /// Its phase, where nobody else waits for its end.
    pub passage: Arc<Passage>,
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
        Self {
            name,
            session,
            sink,
            next_task,
            line: None,
            alone: Arc::default(),
            cut: Arc::default(),
            times: Arc::default(),
            passage: Arc::default(),
        }
    }

    /// Carries out `tasks` in order and stops at the first that fails or, once `cancel` is set, between two.
    pub async fn carry_out(
        &self,
        phase: Phase,
        tasks: &[Task],
        transfer: Option<&Transfer>,
        cancel: &CancellationToken,
    ) -> Result<(), Stop> {
        self.carry_out_and(Due::all(phase, tasks, cancel), transfer, &Vec::new).await.map(|_| ())
    }

    /// Carries out what is `due` and then, as far as possible on the same way, runs what `quiet` says when that is sent,
    /// of which nothing is told; gives back whether all of those did what they should.
    pub async fn carry_out_and(
        &self,
        due: Vec<Due>,
        transfer: Option<&Transfer>,
        quiet: &(dyn Fn() -> Vec<Command> + Send + Sync),
    ) -> Result<bool, Stop> {
        let mut rest = VecDeque::from(due);
        let mut inline = match (transfer, rest.iter().find(|due| matches!(due.task.action, Action::Transfer))) {
            (Some(transfer), Some(due)) => match self.inline(transfer).await {
                Ok(inline) => inline,
                Err(error) => {
                    let running = self.start(due).await;
                    let lost = Lost { reason: format!("the data to send could not be read: {error}") };
                    return Err(self.lost(Some(running), &due.task.name, lost).await);
                }
            },
            _ => None,
        };
        let mut cancel = CancellationToken::new();
        while let Some(next) = rest.front() {
            if next.cancel.is_cancelled() {
                return Err(Stop::Cancelled);
            }
            let mut batch = Batch::next(&mut rest, &mut inline);
            if let Some(last) = batch.tasks.last().or(batch.alone.as_ref()) {
                cancel = last.cancel.clone();
            }
            if rest.is_empty() && batch.has_room() {
                batch.quiet = quiet();
            }
            let Some(due) = batch.alone.take() else {
                let came = self.send(&batch, transfer).await?;
                if let Some(quiet) = came.quiet {
                    return Ok(quiet);
                }
                if came.tasks < batch.tasks.len() {
                    // The shell went with a task that may fail, or a question goes on: what is behind it was not begun.
                    inline = batch.inline;
                    batch.tasks.drain(came.tasks..).rev().for_each(|due| rest.push_front(due));
                }
                if let Some((running, answer)) = came.answer
                    && let Some(asked) = rest.pop_front()
                {
                    let following = self.answered(&asked, running, answer).await?;
                    following.into_iter().rev().for_each(|task| rest.push_front(Due { task, ..asked.clone() }));
                }
                continue;
            };
            match &due.task.action {
                Action::Detached(detached) => self.detached(&due, detached).await?,
                Action::Send(sending) => {
                    let total = Some(sending.load.total());
                    self.fed(&due, sending.command.clone(), sending.load.clone().start(), total).await?;
                }
                Action::Feed(feed) => self.feed(&due, feed).await?,
                Action::Command(_) | Action::Poll(_) | Action::Derive(_) | Action::Transfer => {}
            }
        }
        let quiet = quiet();
        if quiet.is_empty() {
            return Ok(true);
        }
        if cancel.is_cancelled() {
            return Err(Stop::Cancelled);
        }
        self.pass(Phase::Finish).await;
        let answers = ask(self.session.as_ref(), quiet).await;
        Ok(answers.is_ok_and(|answers| answers.iter().all(Answer::success)))
    }

    async fn start(&self, Due { phase, task, .. }: &Due) -> Running {
        self.pass(*phase).await;
        let reference = TaskRef { host: self.name.clone(), task: self.next_task.fetch_add(1, Ordering::Relaxed) };
        let command = task.command().map(Command::display);
        self.sink
            .emit(Event::TaskStarted {
                task: reference.clone(),
                phase: *phase,
                name: task.name.clone(),
                command: command.clone(),
                own: task.own,
            })
            .await;
        Running {
            reference,
            phase: *phase,
            name: task.name.clone(),
            command,
            own: task.own,
            began: Instant::now(),
            last_lines: VecDeque::new(),
            lines: [Lines::default(), Lines::default()],
        }
    }

    /// Tells that the host has come to `phase`, where it passes on by itself.
    async fn pass(&self, phase: Phase) {
        if let Some((left, began)) = self.passage.on_to(phase) {
            self.sink.emit(Event::PhaseFinished { phase: left, millis: millis(began.elapsed()) }).await;
            self.sink.emit(Event::PhaseStarted { phase, hosts: vec![self.name.clone()], batch: None }).await;
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
        let millis = millis(running.began.elapsed());
        self.times.add(running.phase, &running.name, millis);
        self.sink
            .emit(Event::TaskFinished {
                task: running.reference.clone(),
                phase: running.phase,
                name: running.name.clone(),
                result: result.clone(),
                own: running.own,
                millis,
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

    async fn interrupted(&self, running: Running) {
        self.end(running, |running| TaskResult::Failed(running.failure("interrupted".to_owned(), None))).await;
    }

    async fn lost(&self, running: Option<Running>, task: &str, lost: Lost) -> Stop {
        if let Some(running) = running {
            let status = lost.to_string();
            self.end(running, |running| TaskResult::Failed(running.failure(status, None))).await;
        }
        Stop::Lost { task: task.to_owned(), reason: lost.reason }
    }
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
