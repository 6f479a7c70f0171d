//! Connecting and looking for commands whose result is a text: status, check, releases, history, lock.

use std::sync::Arc;
use std::time::Duration;

use super::args::{Global, SelectArgs};
use super::machine::Machine;
use super::operation::question;
use super::project::{Project, problems};
use super::prompt::Terminal;
use crate::command::Command;
use crate::config::selection::Host;
use crate::document::Problems;
use crate::error::{Error, Kind};
use crate::event::{Event, Sink};
use crate::facts::Facts;
use crate::fleet::{self, Answer, Member, Question, Refused};
use crate::lock::Holder;
use crate::plan::render::Filter;
use crate::report::{self, Curtain};
use crate::secret::Masker;
use crate::session::{Connector, NoPrompt, Prompt};

/// The chosen hosts that answered, and those that did not.
pub struct Look {
    /// What the command works on.
    pub project: Project,
    /// The hosts that answered, in the order of the selection.
    pub members: Vec<Member>,
    /// The others.
    pub refused: Vec<Refused>,
    /// The mask for what is printed.
    pub masker: Masker,
}

impl Look {
    /// Reads the project and connects, for commands that need no sudo.
    pub async fn connect(global: &Global, machine: &Machine, select: &SelectArgs) -> Result<Self, Error> {
        Self::connect_for(global, machine, select, |_, _| false).await
    }

    /// Reads the project and connects, with the password for sudo to the hosts for which `sudo` is true.
    pub async fn connect_for(
        global: &Global,
        machine: &Machine,
        select: &SelectArgs,
        sudo: impl Fn(&Project, &Host) -> bool,
    ) -> Result<Self, Error> {
        let project = Project::load(global, machine, select, Filter::default(), &[])?;
        Ok(Self::open_for(global, machine, project, sudo).await)
    }

    /// Connects to the hosts of `project`, for commands that need no sudo.
    pub async fn open(global: &Global, machine: &Machine, project: Project) -> Self {
        Self::open_for(global, machine, project, |_, _| false).await
    }

    async fn open_for(
        global: &Global,
        machine: &Machine,
        project: Project,
        sudo: impl Fn(&Project, &Host) -> bool,
    ) -> Self {
        let masker = Masker::new(project.secrets.values());
        // Nobody listens: the result is the text that the command prints.
        let (sink, mut receiver) = Sink::new(masker.clone());
        tokio::spawn(async move { while receiver.recv().await.is_some() {} });
        let prompt: Arc<dyn Prompt> = if machine.stdin_is_terminal && machine.stderr_is_terminal {
            Arc::new(Terminal::new(Curtain::default(), masker.clone()))
        } else {
            Arc::new(NoPrompt)
        };
        let settings = machine.session_settings(global.ssh_config.clone(), global.timeout);
        let connector = Arc::new(Connector::new(settings, prompt));
        let targets = project.targets(|host| sudo(&project, host));
        let (members, refused) = fleet::connect(&connector, targets, &sink).await;
        Self { project, members, refused, masker }
    }

    /// Takes the deploy lock on every host, or on none. The sessions hold it until they end.
    pub async fn lock(&self, holder: &Holder, patience: Duration) -> Result<Vec<Facts>, Error> {
        let (sink, mut receiver) = Sink::new(self.masker.clone());
        tokio::spawn(async move {
            while let Some(event) = receiver.recv().await {
                if let Event::Notice { host, text } = event {
                    report::print_stderr(&format!("{}: {text}\n", host.unwrap_or_default()));
                }
            }
        });
        let questions = vec![Question::default(); self.members.len()];
        let (facts, refused) = fleet::lock_and_look(&self.members, &questions, holder, patience, &sink).await;
        self::refused(&refused)?;
        Ok(facts)
    }

    /// What each host that answered looks like; one that does not answer now joins the refused.
    pub async fn facts(&mut self) -> Result<Vec<(String, Facts)>, Error> {
        let found = self.facts_beside(&[]).await?;
        Ok(found.into_iter().map(|(host, facts, _)| (host, facts)).collect())
    }

    /// What each host that answered looks like, with the answers to what `beside` has for it.
    pub async fn facts_beside(&mut self, beside: &[Vec<Command>]) -> Result<Vec<(String, Facts, Vec<Answer>)>, Error> {
        let mut questions: Vec<Question> = Vec::new();
        for member in &self.members {
            let host = self.project.host(&member.name);
            let made = host.map_or(Ok(Question::default()), |host| {
                let shared = self.project.shared(host, &super::project::ReleaseFacts::default())?;
                Ok(question(&self.project.steps_to_check(host)?, shared.files, None))
            });
            questions.push(made.map_err(|found: Problems| problems(&found, false))?);
        }
        let (found, refused) = fleet::look_beside(&self.members, &questions, beside).await;
        self.members.retain(|member| refused.iter().all(|refused| refused.host != member.name));
        self.refused.extend(refused);
        let names = self.members.iter().map(|member| member.name.clone());
        Ok(names.zip(found).map(|(name, (facts, answers))| (name, facts, answers)).collect())
    }

    /// Prints `text`, closes the sessions and says which hosts did not answer.
    pub async fn end(self, text: &str) -> Result<(), Error> {
        super::stage::close(&self.members).await;
        let printed = report::print_stdout(&self.masker.mask(text));
        printed.map_err(|error| Error::new(Kind::Failed, format!("standard output: {error}")))?;
        refused(&self.refused)
    }
}

/// An error that names the hosts that did not answer, where there are any.
pub fn refused(refused: &[Refused]) -> Result<(), Error> {
    if refused.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = refused.iter().map(|refused| format!("{}: {}", refused.host, refused.why)).collect();
    let mut error = Error::new(Kind::Refused, lines.join("\n"));
    error.hints =
        refused.iter().filter_map(|r| r.advice.as_ref().map(|advice| format!("{}: {advice}", r.host))).collect();
    Err(error)
}
