//! How much a server is sent before it says that it took some: less than its window allows.
//!
//! Deliberately absent: the window itself (RFC 4254, 5.2), which russh keeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::pipes::Meter;

/// So much may be on its way to a server beside us.
///
/// sshd keeps what a program has not read yet in one buffer, for which it takes new memory with every packet, and
/// copies and wipes the old (OpenSSH 9.2, `sshbuf_allocate` in sshbuf.c: it grows by 256 bytes). That is the square
/// of what it holds: the 2 MiB of a whole window at once are 0.1 s of its processor and more, 256 KiB are 2 ms. It says
/// what it took after 96 KiB (`channel_check_window` in channels.c), so it is never out of work.
const NEAR: u64 = 256 << 10;

/// So many more for each microsecond that an answer takes: a gigabit link is kept busy, whatever the server has not said
/// yet that it took.
const RATE: u64 = 128;

/// A server that takes nothing for so long has a program that does not read, or what it said was lost here, where its
/// output is not read either: then only its window is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is on its way in a channel.
pub(super) struct Flow {
    /// Knows how far away the server is, the better the longer the connection lives.
    meter: Arc<Meter>,
    sent: AtomicU64,
    /// The largest window that the server has opened.
    window: AtomicU32,
    /// What it said that it took.
    taken: watch::Sender<u64>,
    /// Whether only its window is waited for.
    free: AtomicBool,
}

impl Flow {
    /// Nothing was sent yet in a channel of the connection that `meter` counts. Other servers than OpenSSH may say what
    /// they took only when half of their window is used: they are not held back for.
    pub(super) fn new(meter: Arc<Meter>, openssh: bool) -> Self {
        Self {
            meter,
            sent: AtomicU64::new(0),
            window: AtomicU32::new(0),
            taken: watch::Sender::new(0),
            free: AtomicBool::new(!openssh),
        }
    }

    /// Waits until `bytes` more may be on their way.
    pub(super) async fn room(&self, bytes: usize) {
        if self.free.load(Ordering::Relaxed) {
            return;
        }
        let whole = self.sent.load(Ordering::Relaxed) + bytes as u64;
        let (limit, mut taken) = (self.limit(), self.taken.subscribe());
        let room = taken.wait_for(|taken| whole <= taken + limit);
        if tokio::time::timeout(PATIENCE, room).await.is_err() {
            self.free.store(true, Ordering::Relaxed);
        }
    }

    /// The most that may be on its way.
    fn limit(&self) -> u64 {
        let micros = self.meter.usage().round_trip.map_or(0, |time| time.as_micros());
        NEAR.saturating_add(u64::try_from(micros).unwrap_or(u64::MAX).saturating_mul(RATE))
    }

    /// So many more bytes were sent.
    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The server has opened its window to `window` bytes. What was sent meanwhile counts as taken, which the next
    /// time mends.
    pub(super) fn opened(&self, window: u32) {
        let largest = self.window.fetch_max(window, Ordering::Relaxed).max(window);
        let on_its_way = u64::from(largest - window);
        self.taken.send_replace(self.sent.load(Ordering::Relaxed).saturating_sub(on_its_way));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: usize = 32 << 10;
    const WINDOW: u32 = 2 << 20;

    /// To a server that answers after `micros`.
    fn flow(micros: u64) -> Flow {
        let meter = Meter::default();
        meter.took(Duration::from_micros(micros));
        Flow::new(Arc::new(meter), true)
    }

    /// How many packets go out before `flow` waits, of a thousand.
    async fn fill(flow: &Flow) -> usize {
        for count in 0..1000 {
            if tokio::time::timeout(Duration::ZERO, flow.room(PACKET)).await.is_err() {
                return count;
            }
            flow.sent(PACKET);
        }
        1000
    }

    #[tokio::test(start_paused = true)]
    async fn a_near_server_is_sent_little_until_it_says_that_it_took_some() {
        let flow = flow(300);
        flow.opened(WINDOW);
        assert_eq!(fill(&flow).await, 9);
        // It took three packets, then all of them.
        flow.opened(WINDOW - 6 * 32 * 1024);
        assert_eq!(fill(&flow).await, 3);
        flow.opened(WINDOW);
        assert_eq!(fill(&flow).await, 9);
    }

    #[tokio::test(start_paused = true)]
    async fn the_farther_a_server_the_more_is_on_its_way() {
        for (millis, packets) in [(0, 8), (1, 11), (4, 23), (16, 70)] {
            let flow = flow(millis * 1000);
            flow.opened(WINDOW);
            assert_eq!(fill(&flow).await, packets);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_is_not_waited_for_twice() {
        let flow = Flow::new(Arc::default(), true);
        assert_eq!(fill(&flow).await, 8);
        let began = tokio::time::Instant::now();
        flow.room(PACKET).await;
        assert_eq!(began.elapsed(), PATIENCE);
        assert_eq!(fill(&flow).await, 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_may_not_say_so_early_is_sent_what_its_window_allows() {
        assert_eq!(fill(&Flow::new(Arc::default(), false)).await, 1000);
    }
}
