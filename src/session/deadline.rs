//! A deadline that stands still while a person is asked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Time left for connecting, shared by everything that spends it.
#[derive(Clone, Debug)]
pub(super) struct Deadline(Arc<Mutex<Instant>>);

/// The time is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Over;

impl Deadline {
    /// `time` from now.
    pub(super) fn after(time: Duration) -> Self {
        Self(Arc::new(Mutex::new(Instant::now() + time)))
    }

    fn at(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much is left.
    pub(super) fn left(&self) -> Duration {
        self.at().saturating_duration_since(Instant::now())
    }

    /// Adds `time`, which was not spent on the host's side.
    pub(super) fn extend(&self, time: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += time;
    }

    /// Waits for `work`, which may extend the deadline, until the deadline.
    pub(super) async fn bound<T>(&self, work: impl Future<Output = T>) -> Result<T, Over> {
        let mut work = std::pin::pin!(work);
        loop {
            let at = self.at();
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = tokio::time::sleep_until(at) => if self.at() <= at {
                    return Err(Over);
                }
            }
        }
    }

    /// Asks a person with `question`, on a thread where it may block; that time is not counted.
    pub(super) async fn ask<T: Send + 'static>(&self, question: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        /// A person who has gone home must not hold a login open for ever.
        const PATIENCE: Duration = Duration::from_secs(600);
        let asked = Instant::now();
        self.extend(PATIENCE);
        let answer = tokio::task::spawn_blocking(question).await.ok();
        let mut at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *at = at.checked_sub(PATIENCE).unwrap_or(*at) + asked.elapsed();
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_that_a_person_takes_is_not_counted() {
        let deadline = Deadline::after(Duration::from_millis(50));
        let slow = deadline.ask(|| std::thread::sleep(Duration::from_millis(150)));
        assert!(deadline.bound(slow).await.is_ok());
        assert!(deadline.left() > Duration::ZERO);
        assert!(deadline.bound(std::future::pending::<()>()).await.is_err());
    }
}
