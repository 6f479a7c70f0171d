//! Waits for a line in the log of a service, written since its containers were started.

use std::time::Duration;

use jiff::Timestamp;
use regex_automata::meta::Regex;

use super::containers::{self, Watch};
use super::decide::Decide;
use super::docker::Docker;
use crate::step::{Action, Derive, Judge, Poll, Sample, Task, Verdict};

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Docker.
    pub docker: Docker,
    /// The name of the task.
    pub name: String,
    /// The service.
    pub service: String,
    /// A regular expression.
    pub pattern: String,
    /// How long until a missing line is a failure.
    pub within: Duration,
    /// The pause between questions.
    pub interval: Duration,
}

impl Ready {
    /// The question that begins it.
    pub fn task(&self) -> Result<Task, String> {
        compiled(&self.pattern)?;
        Ok(self.ask(self.docker.containers(), Decide::Ready(self.clone())))
    }

    fn ask(&self, question: crate::command::Command, decide: Decide) -> Task {
        let decide = crate::step::Decide::Compose(Box::new(decide));
        Task {
            own: true,
            ..Task::new(format!("Look at {}", self.service), Action::Derive(Derive { question, decide }))
        }
    }

    /// Asks when the service's containers were started.
    pub(super) fn started(&self, answer: &str) -> Result<Vec<Task>, String> {
        let own = containers::parse(answer).into_iter().filter(|own| own.service == self.service && own.running());
        let ids: Vec<String> = own.map(|own| own.id).collect();
        if ids.is_empty() {
            return Err(format!("{} has no running container", self.service));
        }
        let words = ["container", "inspect", "--format", "{{.State.StartedAt}}"].into_iter().map(str::to_owned);
        Ok(vec![self.ask(self.docker.command(words.chain(ids)), Decide::Started(self.clone()))])
    }

    /// Asks for what was logged from the start of the first container on, for as long as is waited: a container
    /// that did not change may have written gigabytes since.
    pub(super) fn poll(&self, answer: &str) -> Result<Vec<Task>, String> {
        let times: Vec<Timestamp> = answer.lines().filter_map(|line| line.trim().parse().ok()).collect();
        let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else {
            return Err(format!("Docker does not say when {} was started", self.service));
        };
        let end = last.checked_add(self.within).map_err(|_| "the clock of the host is wrong".to_owned())?;
        let (first, end) = (first.to_string(), end.to_string());
        let words = ["logs", "--no-color", "--no-log-prefix", "--since", &first, "--until", &end, &self.service];
        let mut fixed = vec!["compose", "--ansi", "never", "--project-name", &self.docker.project];
        fixed.extend(words);
        let poll = Poll {
            probe: self.docker.command(fixed).timeout(Duration::from_secs(20)),
            judge: Judge::Compose(Watch::Logged { pattern: self.pattern.clone() }),
            interval: self.interval,
            within: self.within,
        };
        Ok(vec![Task::new(self.name.clone(), Action::Poll(poll))])
    }
}

fn compiled(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| format!("the pattern {pattern:?} cannot be used: {error}"))
}

/// Whether the log has the line.
pub(super) fn logged(pattern: &str, last: &Sample) -> Verdict {
    match compiled(pattern) {
        Ok(regex) if last.output.lines().any(|line| regex.is_match(line)) => Verdict::Done,
        Ok(_) => Verdict::Again("the line is not in the log".to_owned()),
        Err(why) => Verdict::Failed(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(pattern: &str) -> Ready {
        Ready {
            docker: Docker { program: "/usr/bin/docker".to_owned(), sudo: true, project: "app".to_owned() },
            name: "Wait".to_owned(),
            service: "backend".to_owned(),
            pattern: pattern.to_owned(),
            within: Duration::from_secs(90),
            interval: Duration::from_millis(500),
        }
    }

    #[test]
    fn the_log_is_read_from_the_start_of_the_container_for_as_long_as_is_waited() {
        let tasks = ready("Mounted").poll("2026-11-21T10:00:00.5Z\n2026-11-21T09:59:00Z\n").expect("tasks");
        let command = tasks[0].command().expect("a command").display();
        insta::assert_snapshot!(command, @"sudo /usr/bin/docker compose --ansi never --project-name app logs --no-color --no-log-prefix --since 2026-11-21T09:59:00Z --until 2026-11-21T10:01:30.5Z backend");
        assert!(ready("Mounted").poll("<no value>\n").is_err());
        assert!(ready("Mounted").started("a|backend|b|exited|Exited (1)\n").is_err());
        assert!(ready("(").task().is_err());
    }

    #[test]
    fn a_line_that_matches_is_the_answer() {
        let verdict = |output: &str| {
            logged("Mounted .* at /$", &Sample { elapsed: Duration::ZERO, success: true, output: output.to_owned() })
        };
        assert_eq!(verdict("INFO\nMounted frontend at /\nx\n"), Verdict::Done);
        assert!(matches!(verdict("Mounted frontend at /x\n"), Verdict::Again(_)));
    }
}
