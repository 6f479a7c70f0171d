//! The way back: what was prepared is removed, and hosts that were reached publish the release that they had.

use std::sync::{Arc, PoisonError};

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Execution;
use super::conclusion::{Progress, Standing};
use super::host::Stop;
use crate::event::{Outcome, Phase};
use crate::step::Task;

impl Execution {
    /// Removes what was prepared, everywhere, but for what is kept. It is not a failure if that fails: the next deploy removes it.
    pub(super) async fn discard(&mut self, hosts: &[usize], failed: &[(usize, Stop)]) {
        let mut set = JoinSet::new();
        for &index in hosts {
            let lost = failed.iter().any(|(stopped, stop)| *stopped == index && matches!(stop, Stop::Lost { .. }));
            let (Some(host), false) = (self.host(index), lost) else { continue };
            let plan = Arc::clone(&self.run.plan);
            let kept = self.kept;
            set.spawn(async move {
                let Some(own) = plan.hosts.get(index) else { return };
                let last = if kept { &own.keeping } else { &own.removal };
                let tasks: Vec<Task> = own.discard.iter().chain(last).cloned().map(Task::tolerated).collect();
                let _ = host.carry_out(Phase::Prepare, &tasks, None, &CancellationToken::new()).await;
            });
        }
        while set.join_next().await.is_some() {}
    }

    pub(super) async fn put_back_all(&mut self, reached: &[usize], outcome: Outcome) -> Outcome {
        self.put_back(reached).await;
        // Not those in neither state, where `current` may still point at the new release.
        let waiting: Vec<usize> = (0..self.hosts.len())
            .filter(|index| !reached.contains(index) && self.progress(*index) != Some(Progress::Unknown))
            .collect();
        self.discard(&waiting, &[]).await;
        self.verdict(outcome)
    }

    /// Publishes on each of `hosts` the release that it had. A host whose connection is gone is sought again,
    /// and its deploy lock taken again.
    pub(super) async fn put_back(&mut self, hosts: &[usize]) {
        if hosts.is_empty() {
            return;
        }
        self.announce(Phase::PutBack, hosts, None).await;
        let began = Instant::now();
        let mut set = JoinSet::new();
        for &index in hosts {
            let Some(mut host) = self.host(index) else { continue };
            // Whoever is stopped from here on is between two states, also where publishing had ended well.
            self.set(index, Progress::Publishing, None);
            let (plan, reconnect) = (Arc::clone(&self.run.plan), Arc::clone(&self.run.reconnect));
            let mut lost = self.lost.contains(&index);
            set.spawn(async move {
                let Some(own) = plan.hosts.get(index) else { return (index, None, Ok(())) };
                let mut found = None;
                // A connection that is lost on the way back is sought once more, and no oftener.
                for _ in 0..2 {
                    if lost {
                        match reconnect.again(index).await {
                            Ok(session) => {
                                found = Some(Arc::clone(&session));
                                host.session = session;
                            }
                            Err(reason) => {
                                return (index, found, Err(format!("it could not be reached again: {reason}")));
                            }
                        }
                    }
                    match host.carry_out(Phase::PutBack, &own.put_back, None, &CancellationToken::new()).await {
                        Err(Stop::Lost { .. }) if !lost => lost = true,
                        result => return (index, found, result.map_err(|stop| stop.why())),
                    }
                }
                (index, found, Err("the connection was lost again".to_owned()))
            });
        }
        while let Some(joined) = set.join_next().await {
            // What is told to the host later goes over the connection that is alive.
            if let Ok((index, Some(session), _)) = &joined
                && let Some(host) = self.hosts.get_mut(*index)
            {
                host.session = Arc::clone(session);
            }
            match joined {
                Ok((index, _, Ok(()))) => self.set(index, Progress::PutBack, None),
                Ok((index, _, Err(why))) => {
                    let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(standing) = standings.get_mut(index) {
                        let first = standing.why.take().map(|first| format!("{first}; ")).unwrap_or_default();
                        *standing = Standing {
                            progress: Progress::Unknown,
                            why: Some(format!("{first}and putting back failed: {why}")),
                        };
                    }
                }
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            }
        }
        self.finished(Phase::PutBack, began).await;
    }
}
