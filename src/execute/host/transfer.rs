//! Sends what a transfer is made of: several lots at once, each in a channel of its own.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Due, Host, Stop, advice, describe};
use crate::artifact::Tally;
use crate::event::{Event, Stream};
use crate::plan::Transfer;
use crate::plan::lot::Lot;
use crate::plan::transfer::Link;
use crate::session::{Lost, Reply, Session, Status};

/// The fewest bytes that say something about a link: they are more than the server takes without being asked again.
const TELLING: u64 = 3 << 20;

/// What the channels of a transfer share.
struct Work {
    session: Arc<dyn Session>,
    waiting: Mutex<VecDeque<Lot>>,
    tally: Tally,
    carried: AtomicUsize,
    link: Link,
    /// Bytes in a second, once a lot was carried.
    speed: Mutex<Option<u64>>,
}

/// What the host printed, or that more was sent.
type News = mpsc::Sender<Option<(Stream, bytes::Bytes)>>;

/// Why a channel carries nothing more.
enum End {
    /// Nothing is left.
    Done,
    /// The lot in hand was never begun: it waits for another channel. Servers allow so many in a connection.
    Refused(Lost),
    /// The host did not take it.
    Failed(Status),
    Lost(Lost),
}

impl Host {
    /// Sends everything, or nothing that may be used. It ends where it is once the run is stopped.
    pub(super) async fn transfer(&self, due: &Due, transfer: &Transfer) -> Result<(), Stop> {
        let Due { task, cancel, .. } = due;
        let mut running = self.start(due).await;
        let total = transfer.lots.iter().map(Lot::total).sum();
        let work = Arc::new(Work {
            session: Arc::clone(&self.session),
            waiting: Mutex::new(transfer.lots.iter().cloned().collect()),
            tally: Tally::default(),
            carried: AtomicUsize::new(0),
            link: transfer.link,
            speed: Mutex::default(),
        });
        let (news, mut heard) = mpsc::channel(16);
        let driving = tokio::spawn(drive(Arc::clone(&work), transfer.channels(), news));
        let mut interrupted = false;
        loop {
            let said = tokio::select! {
                said = heard.recv() => said,
                () = cancel.cancelled(), if !interrupted => {
                    interrupted = true;
                    work.tally.stop();
                    continue;
                }
            };
            let Some(said) = said else { break };
            match said {
                Some((stream, bytes)) => self.print(&mut running, stream, &bytes).await,
                None => {
                    let (task, sent) = (running.reference.clone(), work.tally.made());
                    self.sink.emit(Event::TaskProgress { task, sent, total }).await;
                }
            }
        }
        let end = match driving.await {
            Ok(end) => end,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => End::Lost(Lost { reason: "the upload was given up".to_owned() }),
        };
        match end {
            End::Done => {
                self.done(running).await;
                Ok(())
            }
            _ if interrupted => {
                self.interrupted(running).await;
                Err(Stop::Cancelled)
            }
            End::Failed(status) => {
                let advice = advice(task, &status);
                self.failed(running, task, describe(&status), advice).await
            }
            End::Refused(lost) | End::Lost(lost) => Err(self.lost(Some(running), &task.name, lost).await),
        }
    }
}

/// Carries everything in so many channels at once, or in as many as the server allows.
async fn drive(work: Arc<Work>, mut channels: usize, news: News) -> End {
    let mut before = 0;
    loop {
        let mut set = JoinSet::new();
        for _ in 0..channels {
            let (work, news) = (Arc::clone(&work), news.clone());
            set.spawn(async move { carry(&work, &news).await });
        }
        let ends = set.join_all().await;
        let left = !work.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        let stopped = ends.iter().any(|end| matches!(end, End::Failed(_) | End::Lost(_)));
        let carried = work.carried.load(Ordering::Relaxed);
        if !left || stopped || carried == before {
            return judge(ends, left);
        }
        // Whoever was done before another was refused did not see what that one left.
        (channels, before) = (1, carried);
    }
}

/// What the ends of all channels come to. A lost connection explains the rest, and what failed first was not stopped
/// by the others.
fn judge(ends: Vec<End>, left: bool) -> End {
    let mut verdict = End::Done;
    for end in ends {
        verdict = match (verdict, end) {
            (verdict, End::Done) => verdict,
            (End::Done, end) => end,
            (_, End::Lost(lost)) => End::Lost(lost),
            (End::Refused(_), end) => end,
            (verdict, _) => verdict,
        };
    }
    match verdict {
        End::Refused(_) if !left => End::Done,
        verdict => verdict,
    }
}

/// Carries lot after lot in channels one after the other.
async fn carry(work: &Work, news: &News) -> End {
    loop {
        let lot = work.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(lot) = lot else { return End::Done };
        let end = carry_one(work, lot, news).await;
        if !matches!(end, End::Done) {
            if !matches!(end, End::Refused(_)) {
                work.tally.stop();
            }
            return end;
        }
    }
}

async fn carry_one(work: &Work, lot: Lot, news: &News) -> End {
    let speed = *work.speed.lock().unwrap_or_else(PoisonError::into_inner);
    let total = lot.total();
    let coding = work.link.coding(total, lot.packing().is_some(), speed);
    let mut replies = work.session.feed(vec![lot.command(coding)], lot.start(coding, &work.tally));
    let mut began = None;
    while let Some(reply) = replies.recv().await {
        match reply {
            Reply::Started { .. } => began = Some(Instant::now()),
            Reply::Output { stream, bytes, .. } => {
                let _ = news.send(Some((stream, bytes))).await;
            }
            Reply::Sent { .. } => {
                let _ = news.send(None).await;
            }
            Reply::Ended { status, .. } if status.success() => {
                if let Some(time) = began.map(|began| began.elapsed()).filter(|_| total >= TELLING) {
                    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
                    let seen = total.saturating_mul(1_000_000) / micros;
                    *work.speed.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
                }
                work.carried.fetch_add(1, Ordering::Relaxed);
                while replies.recv().await.is_some() {}
                return End::Done;
            }
            Reply::Ended { status, .. } => return End::Failed(status),
            Reply::Lost(lost) if began.is_none() => {
                work.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_front(lot);
                return End::Refused(lost);
            }
            Reply::Lost(lost) => return End::Lost(lost),
        }
    }
    End::Lost(Lost { reason: "the upload ended without a status".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_channel_matters_only_where_something_is_left() {
        let lost = || Lost { reason: "gone".to_owned() };
        let failed = || End::Failed(Status::Exited(1));
        assert!(matches!(judge(vec![End::Refused(lost()), End::Done], false), End::Done));
        assert!(matches!(judge(vec![End::Refused(lost()), End::Refused(lost())], true), End::Refused(_)));
        assert!(matches!(judge(vec![failed(), End::Lost(lost())], true), End::Lost(_)));
        assert!(matches!(judge(vec![End::Refused(lost()), failed(), End::Done], true), End::Failed(_)));
    }
}
