//! This machine as a host: the same shell and the same commands, in processes instead of channels.
//!
//! Used for `local` steps, and wherever the shell is to be tested without SSH.

#![expect(clippy::disallowed_methods, reason = "the session of this machine is a process")]

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command as Process};
use tokio::sync::mpsc;

use super::feed::feed;
use super::pipes::{Chunk, Exit, Host, Meter, Pipes, WAITING_CHUNKS};
use super::shell::Shell;
use super::spare::Spares;
use super::{Body, BoxFuture, Lost, Reply, Session, Usage};
use crate::command::Command;
use crate::event::Stream;

/// How much is read from a process at once, in bytes.
const READ: usize = 64 * 1024;

/// A [`Session`] on this machine.
pub struct Local {
    host: Arc<Machine>,
    spares: Arc<Spares>,
    shell: Shell,
}

/// Where and with what environment processes are started.
#[derive(Debug, Default)]
pub(super) struct Machine {
    directory: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    meter: Meter,
}

impl Local {
    /// A session whose commands start in `directory` (default: this process's) and see `environment`
    /// on top of this process's. Needs a tokio runtime.
    pub fn new(directory: Option<PathBuf>, environment: Vec<(OsString, OsString)>) -> Self {
        let host = Arc::new(Machine { directory, environment, meter: Meter::default() });
        let spares = Arc::new(Spares::new(host.clone()));
        Self { shell: Shell::new(Arc::clone(&spares)), spares, host }
    }
}

impl Session for Local {
    fn run(&self, batch: Vec<Command>) -> mpsc::Receiver<Reply> {
        self.shell.run(batch)
    }

    fn feed(&self, batch: Vec<Command>, body: Body) -> mpsc::Receiver<Reply> {
        feed(Arc::clone(&self.spares), batch, body, None)
    }

    fn guard(&self) -> BoxFuture<'_, Result<(), Lost>> {
        Box::pin(self.shell.guard())
    }

    fn warm(&self, _: usize) {}

    fn unguard(&self) {
        self.shell.unguard();
    }

    fn interrupt(&self) -> BoxFuture<'_, ()> {
        self.shell.interrupt();
        Box::pin(async {})
    }

    fn usage(&self) -> Usage {
        self.host.meter.usage()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.shell.close())
    }
}

impl Host for Machine {
    fn start<'a>(&'a self, program: &'a str) -> BoxFuture<'a, Result<Pipes, Lost>> {
        Box::pin(async move {
            let mut process = Process::new("/bin/sh");
            process.arg("-c").arg(program).envs(self.environment.iter().map(|(name, value)| (name, value)));
            process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            if let Some(directory) = &self.directory {
                process.current_dir(directory);
            }
            let child = process
                .spawn()
                .map_err(|error| Lost { reason: format!("/bin/sh could not be started on this machine: {error}") })?;
            self.meter.channel();
            Ok(pipes(child))
        })
    }

    fn loss(&self) -> Lost {
        Lost { reason: "the shell on this machine ended without a status".to_owned() }
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }
}

fn pipes(mut child: Child) -> Pipes {
    let (input, fed) = mpsc::channel(1);
    let (printed, output) = mpsc::channel(WAITING_CHUNKS);
    let writing = child.stdin.take().map(|stdin| tokio::spawn(write(stdin, fed)));
    let readers = [
        child.stdout.take().map(|stdout| tokio::spawn(read(stdout, Stream::Stdout, printed.clone()))),
        child.stderr.take().map(|stderr| tokio::spawn(read(stderr, Stream::Stderr, printed.clone()))),
    ];
    tokio::spawn(async move {
        tokio::select! {
            status = child.wait() => {
                // Nobody reads its input any more, even where something that it left running could.
                if let Some(writing) = &writing {
                    writing.abort();
                }
                if let Ok(status) = status {
                    let _ = printed.send(Chunk::Exited(exit(status))).await;
                }
            }
            // Given up: its streams are closed, and it is waited for so that it leaves no zombie.
            () = printed.closed() => {
                for task in readers.into_iter().chain([writing]).flatten() {
                    task.abort();
                }
                let _ = child.wait().await;
            }
        }
    });
    Pipes { input, output, ready: 0 }
}

fn exit(status: std::process::ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Status(code),
        (None, Some(9)) => Exit::Signal("KILL".to_owned()),
        (None, Some(15)) => Exit::Signal("TERM".to_owned()),
        (None, signal) => Exit::Signal(signal.map_or_else(|| "?".to_owned(), |number| number.to_string())),
    }
}

async fn write(mut stdin: ChildStdin, mut fed: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = fed.recv().await {
        if stdin.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn read(mut from: impl AsyncRead + Unpin, stream: Stream, printed: mpsc::Sender<Chunk>) {
    let mut buffer = vec![0; READ];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let bytes = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
        if printed.send(Chunk::Output(stream, bytes)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::Status;

    /// The replies with the output of each stream of each command joined.
    async fn replies(mut receiver: mpsc::Receiver<Reply>) -> Vec<Reply> {
        let mut all: Vec<Reply> = Vec::new();
        while let Some(reply) = receiver.recv().await {
            if let Reply::Output { index, stream, bytes } = &reply
                && let Some(Reply::Output { bytes: last, .. }) = all
                    .iter_mut()
                    .rev()
                    .find(|seen| matches!(seen, Reply::Output { index: i, stream: s, .. } if i == index && s == stream))
            {
                *last = [last.as_ref(), bytes.as_ref()].concat().into();
                continue;
            }
            if !matches!(reply, Reply::Sent { .. }) {
                all.push(reply);
            }
        }
        all
    }

    #[tokio::test]
    async fn an_interrupt_lets_the_running_command_end_and_skips_the_rest() {
        let session = Local::new(None, std::env::vars_os().collect());
        session.guard().await.unwrap();
        // It waits for its own interrupt, so no time is guessed.
        let folder = tempfile::tempdir().unwrap();
        let flag = folder.path().join("go").to_string_lossy().into_owned();
        let wait = format!("echo started; while [ ! -e {flag} ]; do sleep 0.05; done; echo ended");
        let mut receiver = session.run(vec![Command::shell(wait), Command::argv(["echo", "never"])]);
        let mut seen = Vec::new();
        while let Some(reply) = receiver.recv().await {
            if matches!(reply, Reply::Output { .. }) && seen.len() < 2 {
                session.interrupt().await;
                // The signal is on its way once the guard has answered nothing else: it is trapped, not lost.
                tokio::time::sleep(Duration::from_millis(300)).await;
                std::fs::write(&flag, "").unwrap();
            }
            seen.push(reply);
        }
        assert!(seen.contains(&ended(0, 0)), "{seen:?}");
        assert!(!seen.iter().any(|reply| matches!(reply, Reply::Started { index: 1 })), "{seen:?}");
        let next = replies(session.run(vec![Command::argv(["echo", "next"])])).await;
        assert_eq!(next, [Reply::Started { index: 0 }, output(0, Stream::Stdout, "next\n"), ended(0, 0)]);
        session.close().await;
    }

    fn output(index: usize, stream: Stream, text: &str) -> Reply {
        Reply::Output { index, stream, bytes: Bytes::copy_from_slice(text.as_bytes()) }
    }

    fn ended(index: usize, status: i32) -> Reply {
        Reply::Ended { index, status: Status::Exited(status) }
    }

    fn body(parts: Vec<std::io::Result<Bytes>>) -> Body {
        let (sender, body) = mpsc::channel(1);
        tokio::spawn(async move {
            for part in parts {
                if sender.send(part).await.is_err() {
                    return;
                }
            }
        });
        body
    }

    #[tokio::test]
    async fn a_batch_stops_at_the_first_failure() {
        let session = Local::new(None, Vec::new());
        let batch = vec![
            Command::shell("printf 'no line end'"),
            Command::argv(["sh", "-c", "exit 3"]),
            Command::shell("echo never"),
        ];
        assert_eq!(
            replies(session.run(batch)).await,
            [
                Reply::Started { index: 0 },
                output(0, Stream::Stdout, "no line end"),
                ended(0, 0),
                Reply::Started { index: 1 },
                ended(1, 3),
            ]
        );
        // The next batch starts afresh, in the same shell.
        assert_eq!(
            replies(session.run(vec![Command::shell("true")])).await,
            [Reply::Started { index: 0 }, ended(0, 0)]
        );
        assert_eq!((session.usage().channels, session.usage().round_trips), (1, 2));
    }

    #[tokio::test]
    async fn bytes_come_through_as_they_are() {
        let session = Local::new(None, Vec::new());
        let mut receiver = session.run(vec![Command::shell("head -c 300000 /dev/zero; printf '\\036\\377\\r\\n\\n'")]);
        let mut bytes = Vec::new();
        while let Some(reply) = receiver.recv().await {
            if let Reply::Output { bytes: more, .. } = reply {
                bytes.extend_from_slice(&more);
            }
        }
        assert_eq!(bytes, [vec![0; 300_000], b"\x1e\xff\r\n\n".to_vec()].concat());
    }

    #[tokio::test]
    async fn a_signal_and_a_time_limit_are_told_apart() {
        let session = Local::new(None, Vec::new());
        let killed = replies(session.run(vec![Command::shell("kill -9 $$")])).await;
        assert_eq!(killed.last(), Some(&ended(0, 137)));
        let limit = Duration::from_secs(1);
        let slow = replies(session.run(vec![Command::argv(["sleep", "30"]).timeout(limit)])).await;
        assert_eq!(slow.last(), Some(&Reply::Ended { index: 0, status: Status::TimedOut(limit) }));
        let quick = replies(session.run(vec![Command::shell("exit 124")])).await;
        assert_eq!(quick.last(), Some(&ended(0, 124)));
    }

    #[tokio::test]
    async fn what_a_session_command_opens_stays_open_and_reaches_no_other_command() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock");
        let text = format!("exec 8>>{}; flock -n 8", lock.display());
        let first = Local::new(None, Vec::new());
        let second = Local::new(None, Vec::new());
        let look = Command::shell("test -e /proc/self/fd/8 && echo inherited; sleep 9 & echo started");
        let held = replies(first.run(vec![Command::session(&text), look])).await;
        assert_eq!(
            held[2..],
            [Reply::Started { index: 1 }, output(1, Stream::Stdout, "started\n"), ended(1, 0)],
            "{held:?}"
        );
        assert_eq!(replies(second.run(vec![Command::session(&text)])).await.last(), Some(&ended(0, 1)));
        // Closing waits for the end of a shell that holds a guarded lock, and for no other.
        first.guard().await.unwrap();
        first.close().await;
        assert_eq!(replies(second.run(vec![Command::session(&text)])).await.last(), Some(&ended(0, 0)));
    }

    #[tokio::test]
    async fn a_session_command_that_ends_the_shell_has_its_status() {
        let session = Local::new(None, Vec::new());
        let replies = replies(session.run(vec![Command::session("exec 8>>/nowhere/lock; flock -n 8")])).await;
        assert!(matches!(replies.last(), Some(Reply::Ended { index: 0, status: Status::Exited(1..) })), "{replies:?}");
    }

    #[tokio::test]
    async fn a_shell_that_dies_is_lost_and_the_next_batch_has_a_new_one() {
        let session = Local::new(None, Vec::new());
        let lost = replies(session.run(vec![Command::session("kill -9 $$"), Command::shell("echo never")])).await;
        assert!(matches!(lost.last(), Some(Reply::Lost(_))), "{lost:?}");
        assert_eq!(replies(session.run(vec![Command::shell("true")])).await.last(), Some(&ended(0, 0)));
    }

    #[tokio::test]
    async fn closing_waits_for_no_command_and_says_so() {
        let session = Local::new(None, Vec::new());
        let mut running = session.run(vec![Command::shell("echo here; sleep 9"), Command::shell("echo never")]);
        let queued = session.run(vec![Command::shell("echo never")]);
        while let Some(reply) = running.recv().await {
            if matches!(reply, Reply::Output { .. }) {
                break;
            }
        }
        let before = std::time::Instant::now();
        session.close().await;
        assert!(before.elapsed() < Duration::from_secs(4), "{:?}", before.elapsed());
        for receiver in [running, queued, session.run(vec![Command::shell("true")])] {
            let replies = replies(receiver).await;
            assert!(matches!(replies.as_slice(), [Reply::Lost(_)]), "{replies:?}");
        }
    }

    #[tokio::test]
    async fn secrets_travel_in_no_argument() {
        let session = Local::new(None, Vec::new());
        let secret = crate::secret::Secret::new("s3cret-v@lue".to_owned());
        let look = "echo ${#TOKEN}; cat /proc/[0-9]*/cmdline 2>/dev/null | grep -ac 's3cre[t]-v@lue'";
        let command = Command::shell(look).env("TOKEN", crate::command::EnvValue::Secret(secret));
        let replies = replies(session.feed(vec![command], body(Vec::new()))).await;
        assert!(replies.contains(&output(0, Stream::Stdout, "12\n0\n")), "{replies:?}");
    }

    #[tokio::test]
    async fn a_body_is_the_input_and_its_end_the_end() {
        let session = Local::new(None, Vec::new());
        let parts = vec![Ok(Bytes::from_static(b"first ")), Ok(Bytes::from_static(b"second"))];
        assert_eq!(
            replies(session.feed(vec![Command::argv(["cat"])], body(parts))).await,
            [Reply::Started { index: 0 }, output(0, Stream::Stdout, "first second"), ended(0, 0)]
        );
    }

    #[tokio::test]
    async fn a_command_that_ends_early_ends_the_feeding() {
        let session = Local::new(None, Vec::new());
        let parts = (0..200).map(|_| Ok(Bytes::from(vec![0; 1 << 16]))).collect();
        let replies = replies(session.feed(vec![Command::shell("exit 7")], body(parts))).await;
        assert_eq!(replies.last(), Some(&ended(0, 7)));
    }

    #[tokio::test]
    async fn a_body_that_fails_is_never_taken_for_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("whole");
        let session = Local::new(None, Vec::new());
        let parts = vec![Ok(Bytes::from_static(b"a part")), Err(std::io::Error::other("disk on fire"))];
        let command = Command::shell(format!("cat >/dev/null && touch {}", whole.display()));
        let replies = replies(session.feed(vec![command], body(parts))).await;
        let Some(Reply::Lost(lost)) = replies.last() else { panic!("{replies:?}") };
        assert_eq!(lost.reason, "the data to send could not be read: disk on fire");
        assert!(!whole.exists());
    }

    #[tokio::test]
    async fn the_guard_ends_an_idle_shell_only_when_it_hears_nothing() {
        let session = Local::new(None, Vec::new());
        session.guard().await.unwrap();
        session.guard().await.unwrap();
        assert_eq!(replies(session.run(vec![Command::shell("true")])).await.last(), Some(&ended(0, 0)));
        assert_eq!(session.usage().channels, 2);
        session.close().await;
    }
}
