//! What a host is asked while it carries out tasks, and what follows from its answers.

use super::{Due, Host, Running, Stop, advice, describe};
use crate::event::Stream;
use crate::fleet::{Answer, ask};
use crate::output::Lines;
use crate::step::{Action, Derive, Poll, Sample, Task, Verdict};

impl Host {
    /// Goes on with a question, of which `answer` is the first answer. Gives back the tasks that follow from it.
    pub(super) async fn answered(&self, due: &Due, running: Running, answer: Answer) -> Result<Vec<Task>, Stop> {
        match &due.task.action {
            Action::Poll(poll) => self.poll(due, poll, running, answer).await.map(|()| Vec::new()),
            Action::Derive(derive) => self.derive(&due.task, derive, running, answer).await,
            _ => Ok(Vec::new()),
        }
    }

    async fn poll(
        &self,
        Due { task, cancel, .. }: &Due,
        poll: &Poll,
        mut running: Running,
        mut answer: Answer,
    ) -> Result<(), Stop> {
        let mut samples: Vec<Sample> = Vec::new();
        loop {
            samples.push(Sample {
                elapsed: running.began.elapsed(),
                success: answer.success(),
                output: String::from_utf8_lossy(&answer.stdout).into_owned(),
            });
            match poll.judge.verdict(&samples) {
                Verdict::Done => {
                    self.done(running).await;
                    return Ok(());
                }
                Verdict::Failed(why) => return self.failed(running, task, why, None).await,
                Verdict::Again(seen) => {
                    if running.began.elapsed() >= poll.within {
                        let last = answer.last_line();
                        if !last.is_empty() {
                            running.keep(&last);
                        }
                        let status = format!("not so within {} s: {seen}", poll.within.as_secs_f32());
                        return self.failed(running, task, status, None).await;
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(poll.interval) => {}
                () = cancel.cancelled() => {}
            }
            if cancel.is_cancelled() {
                self.interrupted(running).await;
                return Err(Stop::Cancelled);
            }
            answer = match ask(self.session.as_ref(), vec![poll.probe.clone()]).await {
                Ok(answers) => answers.into_iter().next().unwrap_or_default(),
                Err(lost) => return Err(self.lost(Some(running), &task.name, lost).await),
            };
        }
    }

    /// The tasks that follow. The answer is not shown: it may hold secrets.
    async fn derive(
        &self,
        task: &Task,
        derive: &Derive,
        mut running: Running,
        answer: Answer,
    ) -> Result<Vec<Task>, Stop> {
        let mut lines = Lines::default();
        let mut said = lines.push(&bytes::Bytes::from(answer.stderr));
        said.extend(lines.finish());
        for line in said.iter().filter_map(|line| derive.decide.shown(line)) {
            self.line(&mut running, Stream::Stderr, line).await;
        }
        let (status, advice) = match &answer.status {
            Some(status) if status.success() => match derive.decide.tasks(&String::from_utf8_lossy(&answer.stdout)) {
                Ok(mut following) => {
                    following.iter_mut().for_each(|next| next.tolerate |= task.tolerate);
                    self.done(running).await;
                    return Ok(following);
                }
                Err(why) => (why, None),
            },
            Some(status) => (describe(status), advice(task, status)),
            None => ("it was not asked".to_owned(), None),
        };
        self.failed(running, task, status, advice).await.map(|()| Vec::new())
    }
}
