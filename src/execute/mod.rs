//! Carries out a plan: phases, batches, put-back, cancellation.
//!
//! `prepare` on all hosts, a barrier, `publish` batch by batch, `finish`; a single host goes from the one to the other by
//! itself. If `prepare` fails anywhere, nothing is switched and what was prepared is removed; what an upload that was cut
//! has sent stays for the next deploy. If `publish` fails on more hosts than may fail, every reached host publishes the
//! release that it had. Where a connection is lost without a word, its host may have gone on: a single one to the end of
//! `finish`, before it is found again and put back. Deliberately absent: deciding what happens (`plan`), showing it (`report`).

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::event::{Event, Outcome, Phase, Sink, millis};
use crate::plan::record::HistoryEntry;
use crate::plan::{HostPlan, Plan};
use crate::session::{BoxFuture, Session};

mod back;
mod conclusion;
pub mod host;
mod last_word;
pub mod lifeline;
pub mod local;
pub mod setup;
pub mod timing;

pub use conclusion::{Conclusion, outcome_word};

use conclusion::{Progress, Standing, conclude};
use host::{Due, Host, Stop};
use last_word::LastWord;
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
    for index in 0..count {
        if execution.passes(index) == Some(Phase::Finish) {
            execution.set(index, Progress::Published, None);
        }
    }
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
        if self.hosts.len() == 1 {
            return self.publish_alone().await;
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
        let plan = &self.run.plan;
        let work = |host: &HostPlan| !host.finish.is_empty();
        let busy: Vec<usize> =
            reached.iter().copied().filter(|index| plan.hosts.get(*index).is_some_and(work)).collect();
        if !busy.is_empty() {
            self.announce(Phase::Finish, &busy, None).await;
            let began = Instant::now();
            self.close(outcome, &busy).await;
            self.finished(Phase::Finish, began).await;
        }
        outcome
    }

    /// Publishes on the only host, which goes on to `finish` by itself: no other has to hear first that it is live.
    async fn publish_alone(&mut self) -> Outcome {
        let only = [0];
        self.announce(Phase::Publish, &only, None).await;
        self.stand(0, Phase::Publish, None);
        let passage = self.hosts.first().map(|host| Arc::clone(&host.passage)).unwrap_or_default();
        passage.begin(Phase::Publish);
        let failed = self.close(Outcome::Done, &only).await;
        if let Some((phase, began)) = passage.end() {
            self.finished(phase, began).await;
        }
        if failed.is_empty() {
            return Outcome::Done;
        }
        let interrupted = self.run.cancel.is_cancelled();
        self.put_back_all(&only, if interrupted { Outcome::Interrupted } else { Outcome::Failed }).await
    }

    /// The phase of a host that passes from one to the next by itself.
    fn passes(&self, index: usize) -> Option<Phase> {
        self.hosts.get(index)?.passage.phase()
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
        self.run.sink.emit(Event::PhaseFinished { phase, millis: millis(began.elapsed()) }).await;
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
                let tasks = match stage {
                    Some(stage) => own.stage(stage),
                    None => own.tasks(phase),
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
            passage: Arc::clone(&host.passage),
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

    /// Ends the run on `hosts`, where that was not done yet: what their `finish` has to do where the new release is
    /// live, how the run ended, and the lock is free. A failure here is reported and undoes nothing, and an interrupt
    /// too comes too late to undo. A host that passes on by itself publishes before; it is given back where that failed.
    async fn close(&mut self, outcome: Outcome, hosts: &[usize]) -> Vec<usize> {
        let mut set = JoinSet::new();
        for &index in hosts.iter().filter(|index| !self.closed.contains(*index)) {
            let publishes = self.passes(index).is_some();
            let progress = self.progress(index).map(|now| if publishes { Progress::Published } else { now });
            let (Some(host), Some(progress)) = (self.host(index), progress) else { continue };
            let published = progress == Progress::Published;
            let (plan, session, cancel) =
                (Arc::clone(&self.run.plan), Arc::clone(&host.session), self.run.cancel.clone());
            let word = LastWord {
                index,
                outcome,
                progress,
                plan: Arc::clone(&plan),
                standings: Arc::clone(&self.standings),
                sink: self.run.sink.clone(),
                history: Arc::clone(&self.run.history),
                began: self.began,
            };
            set.spawn(async move {
                let mut due = Vec::new();
                if let Some(own) = plan.hosts.get(index) {
                    if publishes {
                        due.extend(Due::all(Phase::Publish, &own.publish, &cancel));
                    }
                    if published {
                        due.extend(Due::all(Phase::Finish, &own.finish, &CancellationToken::new()));
                    }
                }
                let result = host.carry_out_and(due, None, &|| word.commands()).await;
                if let (Err(stop), Some(Phase::Publish)) = (&result, host.passage.phase()) {
                    return (index, Err((stop.clone(), true)));
                }
                session.unguard();
                if !matches!(result, Ok(true)) {
                    let text = "the history could not be written".to_owned();
                    host.sink.emit(Event::Warning { host: Some(host.name), text }).await;
                }
                (index, result.map(|_| published).map_err(|stop| (stop, false)))
            });
        }
        let mut failed = Vec::new();
        while let Some(joined) = set.join_next().await {
            let (index, result) = match joined {
                Ok(joined) => joined,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => continue,
            };
            if let Err((Stop::Lost { .. }, _)) = &result {
                self.lost.insert(index);
            }
            if let Err((stop, true)) = result {
                self.stand(index, Phase::Publish, Some(stop.why()));
                failed.push(index);
                continue;
            }
            self.closed.insert(index);
            match result {
                Err((stop, _)) => self.set(index, Progress::Published, Some(stop.why())),
                Ok(true) => self.set(index, Progress::Published, None),
                Ok(false) => {}
            }
        }
        failed
    }
}

#[cfg(test)]
mod tests;
