//! The project on one host: what its tasks and questions have in common.

use std::collections::BTreeSet;
use std::time::Duration;

use super::containers::Watch;
use super::decide::Decide;
use super::docker::{Docker, record};
use crate::command::{Command, quote};
use crate::layout::{Layout, ReleaseId};
use crate::secret::Secret;
use crate::step::{Action, Derive, Feed, Judge, Poll, Task, sudo};

/// The pause between looks at containers.
const INTERVAL: Duration = Duration::from_millis(300);

/// How many lines of a container's log are shown with a failure.
const LOG_LINES: &str = "20";

/// What a container that does not come up may mean.
const NOT_UP: &[(i32, &str)] = &[(
    1,
    "`wait` says how long it has to come up; if it ended because its work was done, name the service in `one_shot`",
)];

/// The host, the project and the release that all decisions of one step are about.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Docker.
    pub docker: Docker,
    /// Paths on the host.
    pub layout: Layout,
    /// The release.
    pub release: ReleaseId,
    /// How long a command may take.
    pub timeout: Option<Duration>,
    /// How long services have to come up.
    pub wait: Duration,
}

impl Site {
    /// A task of the project.
    pub fn task(&self, name: impl Into<String>, command: Command) -> Task {
        let limited = match self.timeout {
            Some(timeout) => command.timeout(timeout),
            None => command,
        };
        let sudo = limited.sudo_argv().is_some();
        let task = Task::new(name, Action::Command(limited));
        if sudo { task.meanings(&[(1, sudo::REFUSED)]) } else { task }
    }

    /// A question.
    pub fn ask(&self, name: impl Into<String>, question: Command, decide: Decide) -> Task {
        let sudo = question.sudo_argv().is_some();
        let decide = crate::step::Decide::Compose(Box::new(decide));
        let task = Task::new(name, Action::Derive(Derive { question, decide }));
        if sudo { task.meanings(&[(1, sudo::REFUSED)]) } else { task }
    }

    /// `docker compose` on the frozen configuration.
    pub(super) fn compose<S: Into<String>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        self.docker.compose(&record::frozen(&self.layout, &self.release), words)
    }

    /// Removes images without the tags of releases that are `kept`.
    pub fn remove_images(&self, kept: BTreeSet<String>) -> Task {
        let decide = Decide::RemoveImages(self.clone(), kept);
        let look = self.ask("Look for images of removed releases", self.docker.images(None), decide);
        Task { own: true, ..look }.tolerated()
    }

    pub(super) fn poll(&self, name: String, probe: Command, watch: Watch, within: Duration) -> Task {
        let poll = Poll {
            probe: probe.timeout(Duration::from_secs(20)),
            judge: Judge::Compose(watch),
            interval: INTERVAL,
            within,
        };
        Task::new(name, Action::Poll(poll))
    }

    pub(super) fn logs(&self, services: &[String]) -> Command {
        let words = ["logs", "--no-color", "--tail", LOG_LINES].into_iter().map(str::to_owned);
        self.compose(words.chain(services.iter().cloned())).timeout(Duration::from_secs(15))
    }

    pub(super) fn up(&self, name: String, flags: &[&str], services: &[String]) -> Task {
        let wait = self.wait.as_secs().max(1).to_string();
        let fixed = ["up", "--detach", "--wait", "--wait-timeout", &wait, "--no-build"];
        let words = fixed.iter().chain(flags).map(|word| (*word).to_owned()).chain(services.iter().cloned());
        let mut task = self.task(name, self.compose(words)).meanings(NOT_UP);
        task.explain = Some(self.logs(services));
        task
    }

    /// Writes `text`, which may be secret, into a file of the record.
    pub(super) fn write(&self, name: &str, path: &str, text: String) -> Task {
        let command = Command::shell(format!(
            "umask 077 && cat >{new} && mv -f {new} {path}",
            new = quote(&format!("{path}.new")),
            path = quote(path)
        ));
        Task { own: true, ..Task::new(name, Action::Feed(Feed { command, text: Secret::new(text) })) }
    }
}
