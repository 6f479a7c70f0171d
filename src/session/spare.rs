//! Shells on a host that are started before it is known what they are to do: uploads and the watchdog need not wait
//! for theirs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Lost;
use super::pipes::{Host, Pipes};
use super::script::BOOTSTRAP;

/// The shells of one host that read what they are to do from their standard input.
pub(super) struct Spares {
    host: Arc<dyn Host>,
    started: Mutex<VecDeque<JoinHandle<Result<Pipes, Lost>>>>,
    /// Whether they may start: a host with few processors is to begin with what is waited for.
    begun: watch::Sender<bool>,
}

impl Spares {
    /// None so far.
    pub(super) fn new(host: Arc<dyn Host>) -> Self {
        Self { host, started: Mutex::default(), begun: watch::Sender::new(false) }
    }

    /// The host.
    pub(super) fn host(&self) -> &Arc<dyn Host> {
        &self.host
    }

    /// What is waited for was begun, so that others may start.
    pub(super) fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Starts shells until there are `count` that nobody took, once [`Spares::begin`] was called or one is needed, and
    /// does not wait for them.
    pub(super) fn start(&self, count: usize) {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in started.len()..count {
            let (host, mut begun) = (Arc::clone(&self.host), self.begun.subscribe());
            started.push_back(tokio::spawn(async move {
                let begun = begun.wait_for(|begun| *begun).await.is_ok();
                // Otherwise nobody is left who could take it.
                if begun { host.start(BOOTSTRAP).await } else { Err(host.loss()) }
            }));
        }
    }

    /// One of those that were started, or a new one where none is left. A server may allow fewer channels than were
    /// asked for, so one that could not be started says nothing yet.
    pub(super) async fn take(&self) -> Result<Pipes, Lost> {
        self.begin();
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
