//! A watchdog on the host: ends the long-lived shell, and so frees its lock, when this machine falls silent.
//!
//! A connection that breaks with a word closes the shell's input, which ends it. One that vanishes (power,
//! a firewall that forgot it) leaves `sshd` waiting for hours; the watchdog does not.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::pipes::Pipes;
use super::spare::Spares;
use super::{Lost, script};

/// How often this machine gives a sign of life.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long the host waits for one, in seconds.
const SILENCE: u64 = 60;

/// How long the watchdog has to leave.
const LEAVING: Duration = Duration::from_secs(2);

/// What the watchdog is told beside signs of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Interrupt,
    Farewell,
}

/// The watchdog of one shell.
pub(super) struct Guard {
    words: mpsc::UnboundedSender<Word>,
    task: JoinHandle<()>,
}

impl Guard {
    /// Makes one of `spares` a watchdog over `process`.
    pub(super) async fn start(spares: &Spares, process: u32) -> Result<Self, Lost> {
        Self::with_times(spares, process, HEARTBEAT, SILENCE).await
    }

    async fn with_times(spares: &Spares, process: u32, heartbeat: Duration, silence: u64) -> Result<Self, Lost> {
        let Pipes { input, mut output, .. } = spares.take().await?;
        let _ = input.send(script::told(&script::watchdog(process, silence)).into()).await;
        let (words, mut heard) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    word = heard.recv() => match word {
                        Some(Word::Interrupt) => {
                            let _ = input.send(Bytes::from_static(b"i")).await;
                        }
                        Some(Word::Farewell) | None => {
                            let _ = input.send(Bytes::from_static(b"q")).await;
                            break;
                        }
                    },
                    () = tokio::time::sleep(heartbeat) => {
                        if input.send(Bytes::from_static(b".")).await.is_err() {
                            return;
                        }
                    }
                    chunk = output.recv() => if chunk.is_none() {
                        return;
                    }
                }
            }
            drop(input);
            while output.recv().await.is_some() {}
        });
        Ok(Self { words, task })
    }

    /// Has the shell skip the rest of its batch once its running command has ended.
    pub(super) fn interrupt(&self) {
        let _ = self.words.send(Word::Interrupt);
    }

    /// Sends the watchdog away and does not wait until it has left.
    pub(super) fn leave(self) {
        let _ = self.words.send(Word::Farewell);
    }

    /// Sends the watchdog away, which has nothing to watch any more, and waits a moment until it has left.
    pub(super) async fn dismiss(self) {
        let _ = self.words.send(Word::Farewell);
        let _ = tokio::time::timeout(LEAVING, self.task).await;
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::sync::Arc;

    use super::*;
    use crate::session::local::Machine;

    async fn watched(heartbeat: u64) -> (Guard, Child) {
        let process = Command::new("sleep").arg("30").spawn().unwrap();
        let spares = Spares::new(Arc::new(Machine::default()));
        let heartbeat = Duration::from_millis(heartbeat);
        (Guard::with_times(&spares, process.id(), heartbeat, 1).await.unwrap(), process)
    }

    #[tokio::test]
    async fn silence_ends_what_is_watched() {
        let (_guard, mut process) = watched(60_000).await;
        let status = tokio::task::spawn_blocking(move || process.wait()).await.unwrap().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15));
    }

    #[tokio::test]
    async fn signs_of_life_and_a_farewell_do_not() {
        let (guard, mut process) = watched(200).await;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        guard.dismiss().await;
        assert_eq!(process.try_wait().unwrap(), None);
        process.kill().unwrap();
        process.wait().unwrap();
    }
}
