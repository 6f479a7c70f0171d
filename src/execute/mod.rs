//! Carries out a plan: phases, batches, put-back, cancellation.
//!
//! `prepare` on all hosts, a barrier, `publish` batch by batch, `finish`. If `prepare` fails anywhere, nothing
//! is switched and what was prepared is removed; what an upload that was cut has sent stays for the next deploy. If `publish` fails on more hosts than may fail, every reached
//! host publishes the release that it had. Deliberately absent: deciding what happens (`plan`), showing it
//! (`report`).

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::command::Command;
use crate::event::{Event, Outcome, Phase, Sink};
use crate::lock;
use crate::plan::record::{HistoryEntry, append_history};
use crate::plan::{HostPlan, Plan};
use crate::session::{BoxFuture, Session};
use crate::step::{Action, Task};

mod conclusion;
pub mod host;
pub mod lifeline;
pub mod local;
pub mod setup;
pub mod timing;

pub use conclusion::{Conclusion, outcome_word};

use conclusion::{Progress, Standing, conclude};
use host::{Host, Stop};
use lifeline::Lifeline;
use timing::Times;

/// Finds a host again after its connection was lost, with the deploy lock.
pub trait Reconnect: Send + Sync {
    /// A new session of the host at `index` of the plan, or why there is none.
    fn again(&self, index: usize) -> BoxFuture<'_, Result<Arc<dyn Session>, String>>;
}

/// What a run needs beside its plan.
pub struct Run {
    /// The plan.
    pub plan: Arc<Plan>,
    /// A session for each host of the plan, in its order.
    pub sessions: Vec<Arc<dyn Session>>,
    /// Where events go.
    pub sink: Sink,
    /// Set by the first interrupt: finish the running task, put back.
    pub cancel: CancellationToken,
    /// Set by the second: stop now.
    pub abort: CancellationToken,
    /// How a host is found again.
    pub reconnect: Arc<dyn Reconnect>,
    /// How long its tasks took.
    pub times: Arc<Times>,
    /// Who, and when it ended, for the history.
    pub history: Arc<dyn Fn() -> HistoryEntry + Send + Sync>,
}

struct Execution {
    run: Run,
    hosts: Vec<Host>,
    /// Hosts whose connection or shell was lost: the deploy lock went with it.
    lost: BTreeSet<usize>,
    /// Hosts whose history is written and whose lock is free.
    closed: BTreeSet<usize>,
    /// Whether what was uploaded stays for the next deploy.
    kept: bool,
    began: Instant,
    standings: Arc<Mutex<Vec<Standing>>>,
}

/// Carries out the plan to its end, whatever the end is.
pub async fn execute(run: Run) -> Conclusion {
    let count = run.plan.hosts.len();
    let alone: Arc<Mutex<Vec<String>>> = Arc::default();
    let standings = Arc::new(Mutex::new(vec![Standing { progress: Progress::Untouched, why: None }; count]));
    let hosts = run
        .plan
        .hosts
        .iter()
        .zip(&run.sessions)
        .enumerate()
        .map(|(index, (plan, session))| {
            let line = Arc::new(Lifeline::new(Arc::clone(session), Arc::clone(&run.reconnect), index));
            let session: Arc<dyn Session> = Arc::clone(&line) as Arc<dyn Session>;
            let (alone, times) = (Arc::clone(&alone), Arc::clone(&run.times));
            Host { line: Some(line), alone, times, ..Host::new(plan.host.clone(), session, run.sink.clone()) }
        })
        .collect();
    let (plan, abort) = (Arc::clone(&run.plan), run.abort.clone());
    let mut execution = Execution {
        run,
        hosts,
        lost: BTreeSet::new(),
        closed: BTreeSet::new(),
        kept: false,
        began: Instant::now(),
        standings: Arc::clone(&standings),
    };
    let outcome = tokio::select! {
        outcome = execution.run() => outcome,
        () = abort.cancelled() => Outcome::NeedsPerson,
    };
    let standings = standings.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut conclusion = conclude(&plan, outcome, &standings);
    if execution.kept {
        conclusion.hints.push("what was uploaded is kept: the next `ship deploy` sends the rest".to_owned());
    }
    // Followed to its end, nothing is left here.
    let alone = std::mem::take(&mut *alone.lock().unwrap_or_else(PoisonError::into_inner));
    if !alone.is_empty() {
        conclusion.hints.extend(alone);
        conclusion.hints.push("the next `ship deploy` of the same thing follows it to its end".to_owned());
    }
    conclusion
}

impl Execution {
    async fn run(&mut self) -> Outcome {
        let outcome = self.phases().await;
        let all: Vec<usize> = (0..self.hosts.len()).collect();
        self.close(outcome, &all).await;
        outcome
    }

    async fn phases(&mut self) -> Outcome {
        let all: Vec<usize> = (0..self.hosts.len()).collect();
        if self.run.plan.hosts.iter().any(|host| !host.prepare.is_empty()) {
            // One host's failure ends the phase: the others stop at their next task.
            let stop = self.run.cancel.child_token();
            let failed = self.prepare(&all, &stop).await;
            if !failed.is_empty() || self.run.cancel.is_cancelled() {
                // What was sent in vain because of a failure goes; what a lost connection or a person cut goes on later.
                self.kept = self.hosts.iter().any(|host| host.cut.load(Ordering::Relaxed))
                    && !failed.iter().any(|(_, stop)| matches!(stop, Stop::Failed { .. }));
                self.discard(&all, &failed).await;
                let interrupted = self.run.cancel.is_cancelled();
                return if interrupted { Outcome::Interrupted } else { Outcome::Failed };
            }
        }
        let mut failures = 0;
        let batches = self.run.plan.batches.clone();
        let mut reached: Vec<usize> = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            reached.extend(batch);
            self.announce(Phase::Publish, batch, Some((number + 1, batches.len()))).await;
            let began = Instant::now();
            let cancel = self.run.cancel.clone();
            let failed = self.phase_on(Phase::Publish, batch, &cancel, None).await;
            self.finished(Phase::Publish, began).await;
            failures += failed.iter().filter(|(_, stop)| *stop != Stop::Cancelled).count();
            if self.run.cancel.is_cancelled() {
                return self.put_back_all(&reached, Outcome::Interrupted).await;
            }
            if failures > self.run.plan.max_failures {
                return self.put_back_all(&reached, Outcome::Failed).await;
            }
            let failed: Vec<usize> = failed.iter().map(|(index, _)| *index).collect();
            self.put_back(&failed).await;
            reached.retain(|index| !failed.contains(index));
        }
        if reached.is_empty() {
            return self.verdict(Outcome::Failed);
        }
        let outcome = self.verdict(if failures == 0 { Outcome::Done } else { Outcome::Failed });
        let plan = Arc::clone(&self.run.plan);
        let work = |host: &HostPlan| !host.finish.is_empty() || !split(&plan, host).1.is_empty();
        let busy: Vec<usize> =
            reached.iter().copied().filter(|index| plan.hosts.get(*index).is_some_and(work)).collect();
        if !busy.is_empty() {
            self.announce(Phase::Finish, &busy, None).await;
            let began = Instant::now();
            let failed = self.close(outcome, &busy).await;
            self.finished(Phase::Finish, began).await;
            if !failed.is_empty() {
                return self.put_back_all(&reached, Outcome::Failed).await;
            }
        }
        outcome
    }

    fn progress(&self, index: usize) -> Option<Progress> {
        let standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        standings.get(index).map(|standing| standing.progress.clone())
    }

    /// `otherwise`, unless some host needs a person.
    fn verdict(&self, otherwise: Outcome) -> Outcome {
        let standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        if standings.iter().any(|standing| standing.progress == Progress::Unknown) {
            Outcome::NeedsPerson
        } else {
            otherwise
        }
    }

    async fn announce(&self, phase: Phase, hosts: &[usize], batch: Option<(usize, usize)>) {
        let names = hosts.iter().filter_map(|index| self.hosts.get(*index)).map(|host| host.name.clone()).collect();
        let batch = batch.filter(|(_, count)| *count > 1);
        self.run.sink.emit(Event::PhaseStarted { phase, hosts: names, batch }).await;
    }

    async fn finished(&self, phase: Phase, began: Instant) {
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.run.sink.emit(Event::PhaseFinished { phase, millis }).await;
    }

    /// Prepares every host, stage by stage; one host's failure stops the rest.
    async fn prepare(&mut self, hosts: &[usize], stop: &CancellationToken) -> Vec<(usize, Stop)> {
        self.announce(Phase::Prepare, hosts, None).await;
        let began = Instant::now();
        let stages: BTreeSet<u32> =
            self.run.plan.hosts.iter().flat_map(|host| host.prepare.iter().map(|task| task.stage)).collect();
        let mut stopped = Vec::new();
        for stage in stages {
            let busy: Vec<usize> = hosts
                .iter()
                .filter(|index| self.run.plan.hosts.get(**index).is_some_and(|host| !host.stage(stage).is_empty()))
                .copied()
                .collect();
            stopped = self.phase_on(Phase::Prepare, &busy, stop, Some(stage)).await;
            if !stopped.is_empty() || stop.is_cancelled() {
                break;
            }
        }
        self.finished(Phase::Prepare, began).await;
        stopped
    }

    /// Carries out a phase's tasks, or one `stage` of `prepare`, on `hosts` at once. In `prepare` one failure
    /// stops the rest at their next task.
    async fn phase_on(
        &mut self,
        phase: Phase,
        hosts: &[usize],
        cancel: &CancellationToken,
        stage: Option<u32>,
    ) -> Vec<(usize, Stop)> {
        let mut set = JoinSet::new();
        for &index in hosts {
            let Some(host) = self.host(index) else { continue };
            let plan = Arc::clone(&self.run.plan);
            let cancel = cancel.clone();
            self.stand(index, phase, None);
            set.spawn(async move {
                let Some(own) = plan.hosts.get(index) else { return (index, Ok(())) };
                let tasks = match (stage, phase) {
                    (Some(stage), _) => own.stage(stage),
                    (None, Phase::Publish) => split(&plan, own).0,
                    (None, phase) => own.tasks(phase),
                };
                let result = host.carry_out(phase, tasks, own.transfer.as_ref(), &cancel).await;
                let took_over = own.transfer.as_ref().is_some_and(|transfer| !transfer.taken.is_empty());
                if stage.is_some() && took_over && matches!(result, Err(Stop::Lost { .. } | Stop::Cancelled)) {
                    // What former uploads left is in this release now.
                    host.cut.store(true, Ordering::Relaxed);
                }
                if stage.is_some() && result.is_err() {
                    cancel.cancel();
                }
                (index, result)
            });
        }
        let mut stopped = Vec::new();
        while let Some(joined) = set.join_next().await {
            match joined {
                Ok((index, Ok(()))) => {
                    if phase == Phase::Publish {
                        self.set(index, Progress::Published, None);
                    }
                }
                Ok((index, Err(stop))) => {
                    self.stand(index, phase, Some(stop.why()));
                    if matches!(stop, Stop::Lost { .. }) {
                        self.lost.insert(index);
                    }
                    stopped.push((index, stop));
                }
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            }
        }
        stopped.sort_by_key(|(index, _)| *index);
        stopped
    }

    /// A handle on the host that a task can own.
    fn host(&self, index: usize) -> Option<Host> {
        self.hosts.get(index).map(|host| Host {
            name: host.name.clone(),
            session: Arc::clone(&host.session),
            sink: host.sink.clone(),
            next_task: Arc::clone(&host.next_task),
            line: host.line.clone(),
            alone: Arc::clone(&host.alone),
            cut: Arc::clone(&host.cut),
            times: Arc::clone(&host.times),
        })
    }

    fn set(&self, index: usize, progress: Progress, why: Option<String>) {
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(standing) = standings.get_mut(index) {
            standing.progress = progress;
            // The first reason is the one that explains the rest.
            standing.why = standing.why.take().or(why);
        }
    }

    fn stand(&self, index: usize, phase: Phase, why: Option<String>) {
        let progress = match phase {
            Phase::Publish => Progress::Publishing,
            Phase::Finish => Progress::Published,
            _ => Progress::Untouched,
        };
        self.set(index, progress, why);
    }

    /// Removes what was prepared, everywhere, but for what is kept. It is not a failure if that fails: the next deploy removes it.
    async fn discard(&mut self, hosts: &[usize], failed: &[(usize, Stop)]) {
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

    async fn put_back_all(&mut self, reached: &[usize], outcome: Outcome) -> Outcome {
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
    async fn put_back(&mut self, hosts: &[usize]) {
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

    /// Ends the run on `hosts`, where that was not done yet: what their `finish` has to do where the new release is
    /// live, how the run ended, and the lock is free. A failure here is reported and undoes nothing, and an interrupt
    /// too comes too late to undo. Gives back the hosts that failed at what was left of `publish`.
    async fn close(&mut self, outcome: Outcome, hosts: &[usize]) -> Vec<usize> {
        let mut set = JoinSet::new();
        for &index in hosts.iter().filter(|index| !self.closed.contains(*index)) {
            let (Some(host), Some(command)) = (self.host(index), self.last_word(index, outcome)) else { continue };
            let published = self.progress(index) == Some(Progress::Published);
            let (plan, session) = (Arc::clone(&self.run.plan), Arc::clone(&host.session));
            set.spawn(async move {
                let own = plan.hosts.get(index).filter(|_| published);
                let left = own.map_or(&[][..], |own| split(&plan, own).1);
                let finish = own.map_or(&[][..], |own| &own.finish);
                let tasks: Vec<Task> = left.iter().chain(finish).cloned().collect();
                let quiet = vec![command.tolerated(), lock::release()];
                let never = CancellationToken::new();
                let before = host.next_task.load(Ordering::Relaxed);
                let result = host.carry_out_and(Phase::Finish, &tasks, None, quiet, &never).await;
                let begun = host.next_task.load(Ordering::Relaxed).saturating_sub(before);
                if let Err(stop) = &result
                    && usize::try_from(begun).is_ok_and(|begun| begun <= left.len())
                    && !left.is_empty()
                {
                    return (index, Err((stop.clone(), true)));
                }
                session.unguard();
                if !matches!(result, Ok(true)) {
                    let text = "the history could not be written".to_owned();
                    host.sink.emit(Event::Warning { host: Some(host.name), text }).await;
                }
                (index, result.map(|_| ()).map_err(|stop| (stop, false)))
            });
        }
        let mut failed = Vec::new();
        while let Some(joined) = set.join_next().await {
            match joined {
                Ok((index, result)) => {
                    let unpublished = matches!(result, Err((_, true)));
                    if let Err((stop, _)) = result {
                        self.set(index, Progress::Published, Some(stop.why()));
                        if matches!(stop, Stop::Lost { .. }) {
                            self.lost.insert(index);
                        }
                    }
                    if unpublished {
                        failed.push(index);
                    } else {
                        self.closed.insert(index);
                    }
                }
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            }
        }
        failed
    }

    /// What the host at `index` is told of how the run ended.
    fn last_word(&self, index: usize, outcome: Outcome) -> Option<Command> {
        let plan = &self.run.plan;
        let standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let summary = conclude(plan, outcome, &standings).hosts.into_iter().nth(index)?;
        let entry = HistoryEntry {
            action: Some(plan.action),
            environment: plan.environment.clone(),
            release: plan.release.to_string(),
            revision: plan.revision.clone(),
            description: plan.description.clone(),
            outcome: outcome_word(outcome).to_owned(),
            state: summary.state.name().to_owned(),
            why: summary.why.map(|why| self.run.sink.masker().mask(&why)),
            before: summary.before,
            millis: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            ..(self.run.history)()
        };
        Some(append_history(&plan.hosts.get(index)?.layout, &entry))
    }
}

/// The tasks of `publish`, and those of them that can wait until `finish`: ship's own records at the end, where no
/// other host has to hear first that this one is live.
fn split<'a>(plan: &Plan, own: &'a HostPlan) -> (&'a [Task], &'a [Task]) {
    let record = |task: &&Task| task.own && !task.tolerate && matches!(task.action, Action::Command(_));
    let left = if plan.hosts.len() == 1 { own.publish.iter().rev().take_while(record).count() } else { 0 };
    own.publish.split_at(own.publish.len() - left)
}

#[cfg(test)]
mod tests;
