//! A watchdog on the host: ends the long-lived shell, and so frees its lock, when this machine falls silent.
//!
//! A connection that breaks with a word closes the shell's input, which ends it. One that vanishes (power,
//! a firewall that forgot it) leaves `sshd` waiting for hours; the watchdog does not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Lost;
use super::bootstrap::bootstrap;
use super::pipes::{Host, Pipes};

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
    /// Starts a watchdog over `process` on `host`.
    pub(super) async fn start(host: Arc<dyn Host>, process: u32) -> Result<Self, Lost> {
        Self::with_times(host, process, HEARTBEAT, SILENCE).await
    }

    async fn with_times(host: Arc<dyn Host>, process: u32, heartbeat: Duration, silence: u64) -> Result<Self, Lost> {
        let (line, script) = bootstrap(&watchdog(process, silence));
        let Pipes { input, mut output } = host.start(&line).await?;
        let _ = input.send(script.into()).await;
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

    /// Sends the watchdog away, which has nothing to watch any more, and waits a moment until it has left.
    pub(super) async fn dismiss(self) {
        let _ = self.words.send(Word::Farewell);
        let _ = tokio::time::timeout(LEAVING, self.task).await;
    }
}

/// Reads signs of life; ends `process` when they stop, without having been told `q`. `i` interrupts its batch.
///
/// SIGTERM ends an idle shell at once and lets a busy one finish its command, which is bounded itself.
fn watchdog(process: u32, silence: u64) -> String {
    format!(
        "while :; do\n\
         sign=$(timeout {silence} dd bs=1 count=1 2>/dev/null)\n\
         case $sign in .) ;; i) kill -USR1 {process} 2>/dev/null ;; q) exit 0 ;; *) kill -TERM {process} 2>/dev/null; exit 0 ;; esac\n\
         done >/dev/null 2>&1"
    )
}
