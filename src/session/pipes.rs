//! A running program's standard streams, wherever it runs: what `shell` and `feed` talk through.
//!
//! Deliberately absent: what travels through them (`shell`, `feed`) and how they are opened (`channel`
//! over SSH, `local` on this machine).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{BoxFuture, Lost, Usage};
use crate::event::Stream;

/// How many chunks of output may wait; more stop the program through flow control.
pub(super) const WAITING_CHUNKS: usize = 64;

/// What comes out of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// It printed.
    Output(Stream, Bytes),
    /// It ended; more output may follow.
    Exited(Exit),
    /// It was never started.
    Refused(Lost),
}

/// How a program ended, as whoever ran it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// With this status.
    Status(i32),
    /// By this signal, named without `SIG`.
    Signal(String),
}

/// The streams of one running program.
///
/// Dropping `input` is the end of its input. Dropping `output` gives the program up: its streams are
/// closed, and it is not stopped otherwise. `output` ends when the program has closed its streams or
/// the connection is gone; only then, without a [`Chunk::Exited`], the end is unexplained.
#[derive(Debug)]
pub(super) struct Pipes {
    /// Its standard input.
    pub(super) input: mpsc::Sender<Bytes>,
    /// Its standard output and error.
    pub(super) output: mpsc::Receiver<Chunk>,
    /// After how many round trips it can be sent something, see [`Meter::now`].
    pub(super) ready: u64,
}

/// A machine that programs can be started on.
pub(super) trait Host: Send + Sync + 'static {
    /// Starts `program`, a command line for the login shell, whichever that is. It must therefore
    /// keep to words and single-quoted text without `'`, `!`, `\` and line ends.
    fn start<'a>(&'a self, program: &'a str) -> BoxFuture<'a, Result<Pipes, Lost>>;

    /// Starts the long-lived shell, for which something may stand ready.
    fn start_shell<'a>(&'a self, program: &'a str) -> BoxFuture<'a, Result<Pipes, Lost>> {
        self.start(program)
    }

    /// Why the host is no longer there, as far as is known.
    fn loss(&self) -> Lost;

    /// Where costs are counted.
    fn meter(&self) -> &Meter;
}

/// Counts what a session costs.
///
/// Round trips are counted as Lamport's clock counts: an answer comes one round trip after that on which its
/// question was sent, so that questions that travel side by side cost one together.
#[derive(Debug, Default)]
pub(super) struct Meter {
    channels: AtomicU64,
    round_trips: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    /// In microseconds; 0 is not known.
    round_trip: AtomicU64,
}

impl Meter {
    /// One more session channel.
    pub(super) fn channel(&self) {
        self.channels.fetch_add(1, Ordering::Relaxed);
    }

    /// `count` more answers were waited for, one after the other.
    pub(super) fn round_trips(&self, count: u64) {
        self.round_trips.fetch_add(count, Ordering::Relaxed);
    }

    /// How many answers in a row have come before what is sent now.
    pub(super) fn now(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    /// The answer to what was sent at `sent` has come.
    pub(super) fn answered(&self, sent: u64) {
        self.round_trips.fetch_max(sent + 1, Ordering::Relaxed);
    }

    /// `bytes` more bytes of input were sent.
    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// `bytes` more bytes of output came.
    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// An answer came after `time`.
    pub(super) fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        let shorter = |known| (known == 0 || micros < known).then_some(micros);
        let _ = self.round_trip.fetch_update(Ordering::Relaxed, Ordering::Relaxed, shorter);
    }

    /// The counts so far.
    pub(super) fn usage(&self) -> Usage {
        Usage {
            channels: self.channels.load(Ordering::Relaxed),
            round_trips: self.round_trips.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            round_trip: match self.round_trip.load(Ordering::Relaxed) {
                0 => None,
                micros => Some(Duration::from_micros(micros)),
            },
        }
    }
}
