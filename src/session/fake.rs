//! Hosts that exist only in a test: a script says what each command does, and all commands heard are kept.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Body, BoxFuture, Lost, Reply, Session, Status, Usage};
use crate::command::Command;
use crate::event::Stream;

/// What a command does on a fake host.
#[derive(Clone, Debug)]
pub enum Act {
    /// It prints on standard output and standard error and ends with a status.
    Exit(i32, String, String),
    /// It takes this long before it does the other.
    After(Duration, Box<Act>),
    /// It runs until its time limit and is reported as timed out.
    Hang,
    /// The connection breaks while it runs; the host stays lost.
    Lose,
}

impl Act {
    /// Success in silence.
    pub fn ok() -> Self {
        Self::prints("")
    }

    /// Success, with this on standard output.
    pub fn prints(text: impl Into<String>) -> Self {
        Self::Exit(0, text.into(), String::new())
    }

    /// Failure with `status`, and this on standard error.
    pub fn fails(status: i32, text: impl Into<String>) -> Self {
        Self::Exit(status, String::new(), text.into())
    }
}

/// The script: what the command does on the host of this name.
type Script = dyn Fn(&str, &Command) -> Act + Send + Sync;

/// A fleet of fake hosts with one script and one record.
#[derive(Clone)]
pub struct Fakes {
    script: Arc<Script>,
    heard: Arc<Mutex<Vec<(String, String)>>>,
}

impl Fakes {
    /// Hosts that do what `script` says.
    pub fn new(script: impl Fn(&str, &Command) -> Act + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), heard: Arc::default() }
    }

    /// A session on `host`.
    pub fn session(&self, host: &str) -> Arc<dyn Session> {
        let lost = Arc::new(AtomicBool::new(false));
        Arc::new(Fake { host: host.to_owned(), fakes: self.clone(), lost, closed: CancellationToken::new() })
    }

    /// Every command that was started, in order: host, and [`Command::display`].
    pub fn heard(&self) -> Vec<(String, String)> {
        self.heard.lock().unwrap().clone()
    }

    /// The commands that `host` started, in order.
    pub fn heard_by(&self, host: &str) -> Vec<String> {
        self.heard().into_iter().filter(|(name, _)| name == host).map(|(_, command)| command).collect()
    }
}

#[derive(Clone)]
struct Fake {
    host: String,
    fakes: Fakes,
    lost: Arc<AtomicBool>,
    closed: CancellationToken,
}

impl Fake {
    async fn act(&self, index: usize, command: &Command, replies: &mpsc::Sender<Reply>) -> Result<bool, Lost> {
        self.alive()?;
        self.fakes.heard.lock().unwrap().push((self.host.clone(), command.display()));
        let _ = replies.send(Reply::Started { index }).await;
        let mut act = (self.fakes.script)(&self.host, command);
        loop {
            let status = match act {
                Act::After(time, then) => {
                    self.wait(time).await?;
                    act = *then;
                    continue;
                }
                Act::Hang => {
                    self.wait(command.time_limit()).await?;
                    Status::TimedOut(command.time_limit())
                }
                Act::Lose => {
                    self.lost.store(true, Ordering::SeqCst);
                    self.alive()?;
                    continue;
                }
                Act::Exit(status, stdout, stderr) => {
                    for (stream, text) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
                        if !text.is_empty() {
                            let _ = replies.send(Reply::Output { index, stream, bytes: text.into() }).await;
                        }
                    }
                    Status::Exited(status)
                }
            };
            let success = status.success();
            let _ = replies.send(Reply::Ended { index, status }).await;
            return Ok(success);
        }
    }

    fn alive(&self) -> Result<(), Lost> {
        if self.lost.load(Ordering::SeqCst) || self.closed.is_cancelled() {
            return Err(Lost { reason: "the server closed the connection".to_owned() });
        }
        Ok(())
    }

    async fn wait(&self, time: Duration) -> Result<(), Lost> {
        tokio::select! {
            () = self.closed.cancelled() => self.alive(),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }
}

impl Session for Fake {
    fn run(&self, batch: Vec<Command>) -> mpsc::Receiver<Reply> {
        let (replies, receiver) = mpsc::channel(64);
        let fake = self.clone();
        tokio::spawn(async move {
            for (index, command) in batch.iter().enumerate() {
                match fake.act(index, command, &replies).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(lost) => {
                        let _ = replies.send(Reply::Lost(lost)).await;
                        return;
                    }
                }
            }
        });
        receiver
    }

    fn feed(&self, command: Command, mut body: Body) -> mpsc::Receiver<Reply> {
        let (replies, receiver) = mpsc::channel(64);
        let fake = self.clone();
        tokio::spawn(async move {
            let mut sent = 0;
            while let Some(bytes) = body.recv().await {
                match bytes.map(|bytes: Bytes| bytes.len() as u64) {
                    Ok(count) => sent += count,
                    Err(error) => {
                        let reason = format!("the data to send could not be read: {error}");
                        let _ = replies.send(Reply::Lost(Lost { reason })).await;
                        return;
                    }
                }
                let _ = replies.send(Reply::Sent { bytes: sent }).await;
            }
            if let Err(lost) = fake.act(0, &command, &replies).await {
                let _ = replies.send(Reply::Lost(lost)).await;
            }
        });
        receiver
    }

    fn guard(&self) -> BoxFuture<'_, Result<(), Lost>> {
        Box::pin(async move { self.alive() })
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.closed.cancel();
        Box::pin(async {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_script_says_what_happens_and_everything_heard_is_kept() {
        let fakes = Fakes::new(|host, command| match (host, command.display().as_str()) {
            ("web2", "swap") => Act::After(Duration::from_millis(30), Box::new(Act::fails(5, "no space"))),
            ("web3", "swap") => Act::Lose,
            _ => Act::prints("done\n"),
        });
        let batch = || vec![Command::argv(["swap"]), Command::argv(["restart"])];
        let mut last = Vec::new();
        for host in ["web1", "web2", "web3"] {
            let mut receiver = fakes.session(host).run(batch());
            let mut reply = None;
            while let Some(next) = receiver.recv().await {
                reply = Some(next);
            }
            last.extend(reply);
        }
        assert_eq!(last.first(), Some(&Reply::Ended { index: 1, status: Status::Exited(0) }));
        assert_eq!(last.get(1), Some(&Reply::Ended { index: 0, status: Status::Exited(5) }));
        assert!(matches!(last.get(2), Some(Reply::Lost(_))));
        assert_eq!(fakes.heard_by("web1"), ["swap", "restart"]);
        assert_eq!(fakes.heard().len(), 4);
    }
}
