//! Shells on a host that are started before it is known what they are to do: uploads and the watchdog need not wait
//! for theirs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;

use super::Lost;
use super::pipes::{Host, Pipes};
use super::script::BOOTSTRAP;

/// The shells of one host that read what they are to do from their standard input.
pub(super) struct Spares {
    host: Arc<dyn Host>,
    started: Mutex<VecDeque<JoinHandle<Result<Pipes, Lost>>>>,
}

impl Spares {
    /// None so far.
    pub(super) fn new(host: Arc<dyn Host>) -> Self {
        Self { host, started: Mutex::default() }
    }

    /// The host.
    pub(super) fn host(&self) -> &Arc<dyn Host> {
        &self.host
    }

    /// Starts shells until there are `count` that nobody took, and does not wait for them.
    pub(super) fn start(&self, count: usize) {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in started.len()..count {
            let host = Arc::clone(&self.host);
            started.push_back(tokio::spawn(async move { host.start(BOOTSTRAP).await }));
        }
    }

    /// One of those that were started, or a new one where none is left. A server may allow fewer channels than were
    /// asked for, so one that could not be started says nothing yet.
    pub(super) async fn take(&self) -> Result<Pipes, Lost> {
        loop {
            let next = self.started.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(next) = next else { return self.host.start(BOOTSTRAP).await };
            if let Ok(Ok(pipes)) = next.await
                && !pipes.output.is_closed()
            {
                return Ok(pipes);
            }
        }
    }

    /// Ends those that nobody took: their input ends before they were told anything.
    pub(super) fn dismiss(&self) {
        self.started.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(|spare| spare.abort());
    }
}
