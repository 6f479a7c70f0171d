//! Hosts as they are talked to: the trait that `execute` uses, and what comes back.
//!
//! One connection per host for a whole run. [`Session::run`] sends consecutive commands to the host
//! together, where one long-lived shell runs them in order without waiting for this machine and stops at
//! the first that fails; each command's start, output and end still come back apart. Deliberately absent:
//! what the commands mean, retries of commands (one that may have run is never sent again), printing.

mod auth;
mod certificate;
mod channel;
mod clock;
mod config;
mod connect;
mod deadline;
mod feed;
mod flow;
mod guard;
mod host_key;
mod keys;
mod known_hosts;
mod local;
mod marker;
mod offers;
mod order;
mod pin;
mod pipes;
mod proxy_jump;
mod script;
mod shell;
mod socket;
mod spare;
mod ssh;
mod sudo;

pub use connect::Connector;
pub use local::Local;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::command::Command;
use crate::event::Stream;
use crate::secret::Secret;

/// A future in a box, so that [`Session`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How a command ended. Only [`Status::Exited`] with 0 is success; absence of a status never is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It ended by itself with this status, or a shell reported 128 + N for a command that signal N ended.
    Exited(i32),
    /// The SSH server named the signal that ended it (RFC 4254, 6.10).
    Signalled(String),
    /// It was still running after this time, counting what `timeout(1)` on the host was given.
    TimedOut(Duration),
}

impl Status {
    /// Whether the command did what it should.
    pub fn success(&self) -> bool {
        *self == Self::Exited(0)
    }
}

/// What comes back from commands, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The command at `index` of the batch began.
    Started {
        /// Index in the batch.
        index: usize,
    },
    /// It printed.
    Output {
        /// Index in the batch.
        index: usize,
        /// Where.
        stream: Stream,
        /// What, as it came: lines and characters may be cut anywhere.
        bytes: Bytes,
    },
    /// This many bytes of the body of [`Session::feed`] have been handed to the connection so far.
    Sent {
        /// Bytes so far.
        bytes: u64,
    },
    /// It ended. After a failure the rest of the batch is never started and the replies end.
    Ended {
        /// Index in the batch.
        index: usize,
        /// How.
        status: Status,
    },
    /// The connection or the shell is gone; nothing is known of the command that was running.
    Lost(Lost),
}

/// A connection that ended before the command did.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection lost: {reason}")]
pub struct Lost {
    /// What is known of the cause.
    pub reason: String,
}

/// The bytes given to a command's standard input; the channel's end is the end of the input, an error
/// stops the command before it could take a part for the whole.
pub type Body = mpsc::Receiver<std::io::Result<Bytes>>;

/// What a session has cost so far; asserted by tests and shown by `--timing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Session channels opened.
    pub channels: u64,
    /// Times that this machine waited for an answer before it could go on, after TCP connect.
    pub round_trips: u64,
    /// Bytes of standard input and commands sent.
    pub sent: u64,
    /// Bytes of output received.
    pub received: u64,
    /// The shortest time in which the host has answered; `None` where it has not been looked at.
    pub round_trip: Option<Duration>,
}

/// A host that commands can be sent to.
pub trait Session: Send + Sync {
    /// Runs `batch` in order in the host's long-lived shell, stopping at the first failure of a command that may
    /// not fail.
    ///
    /// Batches of one session run one after the other. Where a command outlives its time limit by more
    /// than a grace period (sudo's commands cannot be stopped by `timeout`), it is reported as
    /// [`Status::TimedOut`] and the next batch gets a new shell.
    fn run(&self, batch: Vec<Command>) -> mpsc::Receiver<Reply>;

    /// Runs `batch` in order in a channel of its own, stopping at the first failure; the last gets `body` as its
    /// standard input. The replies end when the server has freed the channel.
    fn feed(&self, batch: Vec<Command>, body: Body) -> mpsc::Receiver<Reply>;

    /// Starts shells until there are so many that [`Session::guard`] and [`Session::feed`] can take, and measures how far
    /// away the host is, without waiting for either.
    fn warm(&self, shells: usize);

    /// From now on, the host's shell ends by itself when this machine falls silent for a minute, so that
    /// the deploy lock that it holds cannot outlive a client that vanished without a word.
    fn guard(&self) -> BoxFuture<'_, Result<(), Lost>>;

    /// What the shell held is given back: it needs no guard any more, and closing does not wait until it has ended.
    fn unguard(&self);

    /// Lets the running command end and does not start the rest of its batch; the replies then end without
    /// a status for the rest. Without effect where nothing runs.
    fn interrupt(&self) -> BoxFuture<'_, ()>;

    /// What the session has cost so far.
    fn usage(&self) -> Usage;

    /// Ends the shell and the connection. What is still running on the host is not stopped.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What connecting needs to know of this machine; `main` fills it from the environment.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The user's home folder: `.ssh/known_hosts`, `.ssh/config`, default keys.
    pub home: Option<PathBuf>,
    /// The local user's name, for hosts that name no user.
    pub local_user: Option<String>,
    /// `SSH_AUTH_SOCK`.
    pub agent: Option<PathBuf>,
    /// A private key given as text (`SHIP_SSH_KEY`), which never touches the disk.
    pub key: Option<Secret>,
    /// The passphrase of keys, where the environment has one (`SHIP_SSH_PASSPHRASE`).
    pub passphrase: Option<Secret>,
    /// Another `ssh_config` file than the user's, as `ssh -F` takes it.
    pub ssh_config: Option<PathBuf>,
    /// How long TCP connect, key exchange and login may take together.
    pub connect_timeout: Duration,
}

/// Questions that only a person can answer; without a terminal every answer is "no".
pub trait Prompt: Send + Sync {
    /// Whether to trust and remember the unknown `key_type` key with `fingerprint` (`SHA256:…`) of `host`.
    fn trust_host_key(&self, host: &str, key_type: &str, fingerprint: &str) -> bool;

    /// A password or passphrase, typed without echo.
    fn secret(&self, question: &str) -> Option<Secret>;
}

/// A [`Prompt`] that answers "no" to everything, for CI and tests.
#[derive(Clone, Copy, Debug)]
pub struct NoPrompt;

impl Prompt for NoPrompt {
    fn trust_host_key(&self, _: &str, _: &str, _: &str) -> bool {
        false
    }

    fn secret(&self, _: &str) -> Option<Secret> {
        None
    }
}

/// Why there is no session, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConnectError {
    /// What failed, with address, port and user, as a sentence without its full stop.
    pub message: String,
    /// What to do, for example the exact line for `known_hosts`.
    pub advice: Option<String>,
}

/// A live session and how it came about.
pub struct Connected {
    /// The session.
    pub session: std::sync::Arc<dyn Session>,
    /// `user@address:port`, as connected.
    pub address: String,
}
