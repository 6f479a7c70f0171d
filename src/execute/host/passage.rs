//! The phase of a host that passes from one to the next by itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::event::Phase;

/// Its phase, and since when; nothing where the whole fleet goes from phase to phase.
#[derive(Debug, Default)]
pub struct Passage(Mutex<Option<(Phase, Instant)>>);

impl Passage {
    /// From now on the host passes on by itself, from `phase` on.
    pub fn begin(&self, phase: Phase) {
        *self.now() = Some((phase, Instant::now()));
    }

    /// Where it is.
    pub fn phase(&self) -> Option<Phase> {
        self.now().map(|(phase, _)| phase)
    }

    /// It does not pass on any more. Gives back where it was.
    pub fn end(&self) -> Option<(Phase, Instant)> {
        self.now().take()
    }

    /// It has come to `phase`. Gives back what it left, where it passes on by itself and was not there yet.
    pub(super) fn on_to(&self, phase: Phase) -> Option<(Phase, Instant)> {
        let mut now = self.now();
        let now = now.as_mut().filter(|(now, _)| *now != phase)?;
        Some(std::mem::replace(now, (phase, Instant::now())))
    }

    fn now(&self) -> MutexGuard<'_, Option<(Phase, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
