//! Follows a detached command: over lost connections, to its end.

use std::sync::PoisonError;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Due, Host, Running, Stop, advice, describe};
use crate::command::Command;
use crate::event::{Event, Stream, TaskResult};
use crate::fleet::{Answer, ask};
use crate::layout::ReleaseId;
use crate::session::{Lost, Reply, Status};
use crate::step::Task;
use crate::step::detach::{BOUND, Detached, GOES_ON, RUNS, SUCCEEDED, VANISHED};

/// How a detached command came out.
enum Outcome {
    /// With this status.
    Ended(Status),
    /// It was killed and left no status.
    Vanished,
    /// It is there no longer than its time, and goes on by itself.
    Late,
    /// What it made in another release's folder cannot be used in this one.
    Bound,
}

/// What it takes to find out.
enum Trouble {
    /// The host cannot be found again.
    Lost(Lost),
    /// ship's own command failed: its answer.
    Failed(Status, String),
}

impl Trouble {
    fn of(answer: &Answer) -> Self {
        Self::Failed(answer.status.clone().unwrap_or(Status::Exited(-1)), answer.last_line())
    }
}

impl Host {
    /// Starts the command of `task`, or finds the one that runs, and follows it to its end.
    pub(super) async fn detached(&self, due: &Due, detached: &Detached) -> Result<(), Stop> {
        let Due { task, cancel, .. } = due;
        let attempts = task.attempts.max(1);
        let mut attempt = 1;
        loop {
            let mut running = self.start(due).await;
            let alone =
                format!("{}: {} goes on alone there; what it prints is in {}", self.name, task.name, detached.log());
            self.alone(|all| all.push(alone.clone()));
            let outcome = self.follow(&mut running, task, detached, cancel).await;
            if !matches!(outcome, Ok(Outcome::Late) | Err(Trouble::Lost(_))) {
                self.alone(|all| all.retain(|other| *other != alone));
            }
            let (status, advice) = match outcome {
                Ok(Outcome::Ended(status)) if status.success() => {
                    self.done(running).await;
                    return Ok(());
                }
                Ok(Outcome::Ended(status)) => (describe(&status), advice(task, &status)),
                Ok(Outcome::Vanished) => (
                    "killed, it left no status".to_owned(),
                    Some("the host was restarted, or something there killed it".to_owned()),
                ),
                Ok(Outcome::Late) => (
                    format!("timed out after {} s", detached.command.time_limit().as_secs()),
                    Some(format!("it goes on there by itself; what it prints is in {}", detached.log())),
                ),
                Ok(Outcome::Bound) => {
                    let text = format!(
                        "{}: what it made names the folder of the release that it was made in; it is run again",
                        task.name
                    );
                    self.sink.emit(Event::Notice { host: Some(self.name.clone()), text }).await;
                    self.done(running).await;
                    continue;
                }
                Err(Trouble::Failed(status, last)) => {
                    running.keep(&last);
                    (format!("it could not be started detached: {}", describe(&status)), None)
                }
                Err(Trouble::Lost(lost)) => return Err(self.lost(Some(running), &task.name, lost).await),
            };
            if attempt == attempts || cancel.is_cancelled() {
                return self.failed(running, task, status, advice).await;
            }
            let text = format!("{}: {status}; trying again ({attempt} of {attempts} failed)", task.name);
            let failure = running.failure(status, advice);
            self.end(running, |_| TaskResult::Tolerated(failure)).await;
            self.sink.emit(Event::Warning { host: Some(self.name.clone()), text }).await;
            tokio::time::sleep(task.pause).await;
            attempt += 1;
        }
    }

    async fn follow(
        &self,
        running: &mut Running,
        task: &Task,
        detached: &Detached,
        cancel: &CancellationToken,
    ) -> Result<Outcome, Trouble> {
        let begun = self.insist(detached.start(), &task.name).await?;
        let works_in = ReleaseId::parse(String::from_utf8_lossy(&begun.stdout).trim());
        let found = match &begun.status {
            Some(Status::Exited(0)) => None,
            Some(Status::Exited(RUNS)) => Some("runs already, and is followed from its beginning"),
            Some(Status::Exited(SUCCEEDED)) => Some("has succeeded already, and is taken up"),
            _ => return Err(Trouble::of(&begun)),
        };
        if let Some(found) = found {
            let text = format!("{} {found}", task.name);
            self.sink.emit(Event::Notice { host: Some(self.name.clone()), text }).await;
        }
        let limit = detached.command.time_limit() + std::time::Duration::from_secs(30);
        let (since, mut offset, mut told) = (Instant::now(), 0, false);
        loop {
            if cancel.is_cancelled() && !told {
                told = true;
                let text = format!(
                    "{} goes on detached, and is waited for; after a second interrupt it goes on alone, and the next deploy of the same thing finds it",
                    task.name
                );
                self.sink.emit(Event::Notice { host: Some(self.name.clone()), text }).await;
            }
            match self.piece(running, detached.follow(offset), &mut offset).await {
                Ok(Some(Status::Exited(GOES_ON))) if since.elapsed() > limit => return Ok(Outcome::Late),
                Ok(Some(Status::Exited(GOES_ON))) => {}
                Ok(Some(Status::Exited(VANISHED))) => return Ok(Outcome::Vanished),
                Ok(Some(Status::Exited(0))) => break,
                Ok(status) => {
                    return Err(Trouble::Failed(status.unwrap_or(Status::Exited(-1)), String::new()));
                }
                Err(lost) => self.find_again(lost, &task.name).await?,
            }
        }
        let answer = self.insist(detached.status(), &task.name).await?;
        let status = String::from_utf8_lossy(&answer.stdout).trim().parse().map(Status::Exited);
        let Ok(status) = status else { return Ok(Outcome::Vanished) };
        match works_in.filter(|release| status.success() && release != detached.release()) {
            None => Ok(Outcome::Ended(status)),
            Some(from) => self.carry(task, detached, &from, status).await,
        }
    }

    fn alone(&self, change: impl FnOnce(&mut Vec<String>)) {
        change(&mut self.alone.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Brings what it made in the folder of another release over here.
    async fn carry(
        &self,
        task: &Task,
        detached: &Detached,
        from: &ReleaseId,
        status: Status,
    ) -> Result<Outcome, Trouble> {
        let carried = self.insist(detached.carry(from), &task.name).await?;
        match &carried.status {
            Some(Status::Exited(0)) => Ok(Outcome::Ended(status)),
            Some(Status::Exited(BOUND)) => {
                self.insist(detached.forget(), &task.name).await?;
                Ok(Outcome::Bound)
            }
            _ => Err(Trouble::of(&carried)),
        }
    }

    /// Runs one of ship's own commands, which may run twice, over as many connections as it takes.
    async fn insist(&self, command: Command, task: &str) -> Result<Answer, Trouble> {
        loop {
            match ask(self.session.as_ref(), vec![command.clone()]).await {
                Ok(answers) => return Ok(answers.into_iter().next().unwrap_or_default()),
                Err(lost) => self.find_again(lost, task).await?,
            }
        }
    }

    /// Shows what one call of [`Detached::follow`] prints, and counts its bytes.
    async fn piece(&self, running: &mut Running, command: Command, offset: &mut u64) -> Result<Option<Status>, Lost> {
        let mut replies = self.session.run(vec![command]);
        let mut ended = None;
        while let Some(reply) = replies.recv().await {
            match reply {
                Reply::Output { stream: Stream::Stdout, bytes, .. } => {
                    *offset += bytes.len() as u64;
                    self.print(running, Stream::Stdout, &bytes).await;
                }
                Reply::Ended { status, .. } => ended = Some(status),
                Reply::Lost(lost) => return Err(lost),
                Reply::Output { .. } | Reply::Started { .. } | Reply::Sent { .. } => {}
            }
        }
        Ok(ended)
    }

    async fn find_again(&self, lost: Lost, task: &str) -> Result<(), Trouble> {
        let Some(line) = &self.line else { return Err(Trouble::Lost(lost)) };
        let text = format!("{lost}; {task} goes on there, and is found again");
        self.sink.emit(Event::Warning { host: Some(self.name.clone()), text }).await;
        line.again().await.map_err(|why| Trouble::Lost(Lost { reason: format!("{}, and then {why}", lost.reason) }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::mpsc;

    use super::*;
    use crate::event::{Phase, Sink};
    use crate::execute::Reconnect;
    use crate::execute::lifeline::Lifeline;
    use crate::facts::Facts;
    use crate::layout::Layout;
    use crate::secret::Masker;
    use crate::session::{Body, BoxFuture, Session, Usage};
    use crate::step::Action;

    /// A host whose connection breaks after `abc`, and which may be found again.
    struct Stage {
        heard: Mutex<Vec<String>>,
        found: bool,
    }

    struct Connection(Arc<Stage>);

    impl Session for Connection {
        fn run(&self, batch: Vec<Command>) -> mpsc::Receiver<Reply> {
            let (sender, receiver) = mpsc::channel(8);
            let text = batch.first().map(Command::display).unwrap_or_default();
            let offset = text.split_once("o=").and_then(|(_, rest)| rest.split(';').next());
            let said = offset.unwrap_or_else(|| text.split(' ').next().unwrap_or_default());
            self.0.heard.lock().unwrap().push(said.to_owned());
            let (output, end) = match said {
                "0" => ("abc", Reply::Lost(Lost { reason: "reset".to_owned() })),
                "3" => ("def\n", Reply::Ended { index: 0, status: Status::Exited(GOES_ON) }),
                "cat" => ("0\n", Reply::Ended { index: 0, status: Status::Exited(0) }),
                _ => ("", Reply::Ended { index: 0, status: Status::Exited(0) }),
            };
            sender.try_send(Reply::Output { index: 0, stream: Stream::Stdout, bytes: output.into() }).unwrap();
            sender.try_send(end).unwrap();
            receiver
        }

        fn feed(&self, batch: Vec<Command>, _: Body) -> mpsc::Receiver<Reply> {
            self.run(batch)
        }

        fn warm(&self, _: usize) {}

        fn unguard(&self) {}

        fn guard(&self) -> BoxFuture<'_, Result<(), Lost>> {
            Box::pin(async { Ok(()) })
        }

        fn interrupt(&self) -> BoxFuture<'_, ()> {
            Box::pin(async {})
        }

        fn usage(&self) -> Usage {
            Usage::default()
        }

        fn close(&self) -> BoxFuture<'_, ()> {
            Box::pin(async {})
        }
    }

    impl Reconnect for Stage {
        fn again(&self, _: usize) -> BoxFuture<'_, Result<Arc<dyn Session>, String>> {
            Box::pin(async {
                self.heard.lock().unwrap().push("again".to_owned());
                let stage = Arc::new(Self { heard: Mutex::new(self.heard.lock().unwrap().clone()), found: self.found });
                if self.found {
                    Ok(Arc::new(Connection(stage)) as Arc<dyn Session>)
                } else {
                    Err("no route".to_owned())
                }
            })
        }
    }

    /// How it ended, the lines that were shown, what goes on alone, and what the first connection heard.
    async fn played(found: bool) -> (Result<(), Stop>, Vec<String>, Vec<String>, Vec<String>) {
        let stage = Arc::new(Stage { heard: Mutex::default(), found });
        let (sink, mut events) = Sink::new(Masker::default());
        let line = Arc::new(Lifeline::new(
            Arc::new(Connection(Arc::clone(&stage))),
            Arc::clone(&stage) as Arc<dyn Reconnect>,
            0,
        ));
        let session: Arc<dyn Session> = Arc::clone(&line) as Arc<dyn Session>;
        let host = Host { line: Some(line), ..Host::new("web1".to_owned(), session, sink) };
        let release = ReleaseId::parse("20261121T101500Z-aaaaaaa").unwrap();
        let detached = Detached::new(Command::shell("build"), "Build", 0, &Layout::new("/srv/app"), &release);
        let task = Task::new("Build", Action::Detached(Box::new(detached.of("tree", &Facts::default()))));
        let result = host.carry_out(Phase::Prepare, &[task], None, &CancellationToken::new()).await;
        let (alone, heard) = (host.alone.lock().unwrap().clone(), stage.heard.lock().unwrap().clone());
        drop(host);
        let mut lines = Vec::new();
        while let Some(event) = events.recv().await {
            if let Event::TaskOutput { line, .. } = event {
                lines.push(line);
            }
        }
        (result, lines, alone, heard)
    }

    #[tokio::test]
    async fn a_lost_line_is_taken_up_at_the_byte_where_it_broke() {
        let (result, lines, alone, heard) = played(true).await;
        assert_eq!((result, lines, alone), (Ok(()), vec!["abcdef".to_owned()], Vec::new()));
        assert_eq!(heard.last().map(String::as_str), Some("again"));
    }

    #[tokio::test]
    async fn a_host_that_is_not_found_again_is_lost_and_its_command_goes_on() {
        let (result, lines, alone, _) = played(false).await;
        assert!(matches!(result, Err(Stop::Lost { .. })), "{result:?}");
        assert_eq!(lines, ["abc"]);
        assert!(alone.iter().any(|text| text.contains("goes on alone there")), "{alone:?}");
    }
}
