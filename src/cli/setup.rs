//! `ship setup`: looks at what hosts have of what the recipe's `setup` wants, shows the difference, and makes it so.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::args::{Global, SetupArgs};
use super::check::rights_of;
use super::machine::Machine;
use super::operation::{self, Beginning, holder};
use super::project::{Project, problems};
use super::setup_ending::{conclude, obstruct};
use super::stage::{Stage, close};
use crate::command::Command;
use crate::config::selection::Host;
use crate::document::Problems;
use crate::error::Error;
use crate::event::{Action, Event, HostState, HostSummary, Phase, millis};
use crate::execute::host::{Host as Told, Stop};
use crate::execute::setup::{Progress, carry_out};
use crate::execute::{Conclusion, outcome_word};
use crate::facts::Facts;
use crate::facts::found::Found;
use crate::fleet::{self, Answer, Member, Question, Refused, ask, each};
use crate::layout::Layout;
use crate::output::visible;
use crate::plan::Obstacle;
use crate::plan::record::{HistoryEntry, append_history};
use crate::plan::render::{Filter, programs};
use crate::plan::setup::{HostInput, HostSetup, SetupStep, append, look, plan};
use crate::plan::setup_text::{outline, text};
use crate::plan::sudoers::{file_name, fragment};
use crate::step::diff::Contents;
use crate::target::SudoPassword;

/// How often hosts are looked at in one run: packages may bring what has to be looked at again.
const ROUNDS: usize = 2;

/// `ship setup`.
pub async fn run(
    global: &Global,
    machine: &Machine,
    args: &SetupArgs,
    options: &[(String, Option<String>)],
) -> Result<(), Error> {
    let filter = Filter { skip: args.skip.clone(), only: args.only.clone(), setup: true };
    let project = Project::load(global, machine, &args.select, filter, options)?;
    if !args.dry_run {
        operation::confirm(&project, machine, args.yes, "Set up the hosts")?;
    }
    let beginning = Beginning { action: Action::Setup, transcript: !args.dry_run, revision: None, description: None };
    let stage = operation::begin(global, machine, &project, beginning).await?;
    let mut targets = project.targets(|_| true);
    if let Some(user) = &args.user {
        for (target, _) in &mut targets {
            target.user = Some(user.clone());
            // The passwords in the inventory are those of the user in the inventory.
            target.password = None;
            target.sudo = target.sudo.take().filter(|_| user != "root").map(|_| SudoPassword::Ask);
        }
    }
    let members = match stage.connect(targets).await {
        Ok(members) => members,
        Err(refused) => return stage.refuse(refused).await,
    };
    let run = Run { project, machine, args, token: token(machine) };
    let ended = run.rounds(&stage, &members).await;
    close(&members).await;
    match ended {
        Ok(Ended::Shown(text)) => stage.show(global, &text).await,
        Ok(Ended::Done(conclusion)) => stage.conclude(conclusion).await,
        Err(Obstruction::Refused(refused)) => stage.refuse(refused).await,
        Err(Obstruction::Obstacles(obstacles)) => stage.obstruct(obstacles).await,
        Err(Obstruction::Error(error)) => stage.fail(error).await,
    }
}

/// How a run ended that was not obstructed.
enum Ended {
    Shown(String),
    Done(Conclusion),
}

/// Why nothing was done.
pub enum Obstruction {
    /// Hosts that could not be reached, looked at or locked.
    Refused(Vec<Refused>),
    /// What stands in the way on hosts.
    Obstacles(Vec<Obstacle>),
    /// Something that is wrong here.
    Error(Error),
}

impl From<Error> for Obstruction {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// A name that no other run has, also one that begins in the same second.
fn token(machine: &Machine) -> String {
    let mut random = [0; 4];
    // Without random numbers the folder may be there already, and then nothing is done.
    let _ = getrandom::fill(&mut random);
    format!("{}-{:08x}", Machine::release_time((machine.clock)()), u32::from_be_bytes(random))
}

fn wrong(found: Problems) -> Obstruction {
    Obstruction::Error(problems(&found, false))
}

struct Run<'a> {
    project: Project,
    machine: &'a Machine,
    args: &'a SetupArgs,
    token: String,
}

impl Run<'_> {
    async fn rounds(&self, stage: &Stage, members: &[Member]) -> Result<Ended, Obstruction> {
        let mut outcomes: Vec<Progress> = members.iter().map(|_| Progress::default()).collect();
        let began = Instant::now();
        let mut last = None;
        for round in 0..ROUNDS {
            let (facts, setups) = match self.decide(stage, members, round == 0).await {
                Ok(decided) => decided,
                Err(obstruction) if round == 0 => return Err(obstruction),
                // Packages are there by now: this is no refusal any more.
                Err(obstruction) => {
                    obstruct(&mut outcomes, members, obstruction);
                    break;
                }
            };
            if self.args.dry_run {
                let environment = self.project.selection.environment.as_deref();
                return Ok(Ended::Shown(text(&self.project.inventory.app, environment, &setups)));
            }
            self.tell(stage, &setups).await;
            let again = setups.iter().any(|setup| setup.packages.is_some());
            last = Some((facts, setups.iter().map(|setup| setup.stage.clone()).collect::<Vec<_>>()));
            if setups.iter().any(|setup| !setup.is_done()) {
                self.carry_out(stage, members, setups, &mut outcomes).await;
            }
            let stopped = outcomes.iter().any(|progress| progress.stop.is_some());
            if !again || stopped || stage.cancel.is_cancelled() {
                break;
            }
        }
        let conclusion = conclude(members, &outcomes, stage.cancel.is_cancelled());
        if let Some((facts, stages)) = last {
            self.history(stage, members, &facts, &stages, &conclusion, began).await;
        }
        Ok(Ended::Done(conclusion))
    }

    /// Looks at the hosts and says what is going to be done. Packages are installed in the first round.
    async fn decide(
        &self,
        stage: &Stage,
        members: &[Member],
        first: bool,
    ) -> Result<(Vec<Facts>, Vec<HostSetup>), Obstruction> {
        let facts = self.look(stage, members, first).await?;
        let setups = self.plan(members, &facts).await?;
        if !first {
            let missing = setups.iter().filter_map(|setup| Some((setup, setup.packages.as_ref()?)));
            let obstacles = missing.map(|(setup, packages)| Obstacle {
                host: setup.host.clone(),
                text: format!(
                    "after installing them, packages are missing (is each the name of a real one?): {}",
                    packages.title
                ),
                advice: None,
            });
            let obstacles: Vec<Obstacle> = obstacles.collect();
            if !obstacles.is_empty() {
                return Err(Obstruction::Obstacles(obstacles));
            }
        }
        if !self.args.dry_run {
            self.consent(stage, &setups)?;
            self.allowed(members, &facts, &setups).await?;
        }
        Ok((facts, setups))
    }

    /// What the hosts look like; under the deploy lock, where there is one that the login user may take.
    async fn look(&self, stage: &Stage, members: &[Member], lock: bool) -> Result<Vec<Facts>, Obstruction> {
        let mut questions = Vec::new();
        for host in &self.project.selection.hosts {
            let mut wanted = programs(&self.project.steps_to_check(host).map_err(wrong)?);
            wanted.extend(programs(&self.project.deploy_steps(host).map_err(wrong)?));
            questions.push(Question { programs: wanted, ..Question::default() });
        }
        let (mut facts, refused) = fleet::look(members, &questions).await;
        if !refused.is_empty() {
            return Err(Obstruction::Refused(refused));
        }
        if lock && !self.args.dry_run {
            let able: Vec<usize> =
                facts.iter().enumerate().filter(|(_, facts)| facts.lockable).map(|(index, _)| index).collect();
            let chosen: Vec<Member> = able.iter().filter_map(|index| members.get(*index)).cloned().collect();
            let asked: Vec<Question> = able.iter().filter_map(|index| questions.get(*index)).cloned().collect();
            let (holder, patience) = (holder(self.machine, "setup"), self.args.lock_wait.unwrap_or_default());
            let (locked, refused) = tokio::select! {
                found = fleet::lock_and_look(&chosen, &asked, &holder, patience, &stage.sink) => found,
                () = stage.cancel.cancelled() => return Err(Obstruction::Refused(Vec::new())),
            };
            if !refused.is_empty() {
                return Err(Obstruction::Refused(refused));
            }
            for (index, found) in able.into_iter().zip(locked) {
                if let Some(facts) = facts.get_mut(index) {
                    *facts = found;
                }
            }
        }
        if stage.cancel.is_cancelled() { Err(Obstruction::Refused(Vec::new())) } else { Ok(facts) }
    }

    /// Who deploys to `host`: the user in the inventory, and else the one that logged in.
    fn deploy_user(&self, host: &Host, facts: &Facts) -> Result<String, Error> {
        match (&host.target.user, &self.args.user) {
            (Some(user), _) => Ok(user.clone()),
            (None, None) => Ok(facts.user.clone()),
            (None, Some(_)) => Err(Error::usage(format!("nobody says who deploys to {}", host.name))
                .hint("say `user = \"…\"` of the host in the inventory: `--user` is who sets it up")),
        }
    }

    async fn plan(&self, members: &[Member], facts: &[Facts]) -> Result<Vec<HostSetup>, Obstruction> {
        let rules = |layout: &Layout| self.project.rules_name(layout);
        let sudoers = |layout: &Layout| format!("/etc/sudoers.d/{}", file_name(&rules(layout)));
        let mut hosts: Vec<(Host, Vec<SetupStep>)> = Vec::new();
        let mut looks = Vec::new();
        for (host, facts) in self.project.selection.hosts.iter().zip(facts) {
            let mut host = host.clone();
            let user = self.deploy_user(&host, facts)?;
            host.target.user = Some(user.clone());
            let steps = self.project.setup_steps(&host).map_err(wrong)?;
            let layout = Project::layout(&host);
            looks.push(look(&layout, &user, facts, &steps, &sudoers(&layout)));
            hosts.push((host, steps));
        }
        let (found, refused) = fleet::found::find(members, &looks).await;
        if !refused.is_empty() {
            return Err(Obstruction::Refused(refused));
        }
        self.unlocked(members, facts, &found).await?;
        let (mut setups, mut obstacles) = (Vec::new(), Vec::new());
        for ((((host, steps), member), facts), found) in hosts.into_iter().zip(members).zip(facts).zip(&found) {
            let user = host.target.user.clone().unwrap_or_default();
            let steps_of_deploys = self.project.deploy_steps(&host).map_err(wrong)?;
            let needs = rights_of(&steps_of_deploys, &member.layout, facts);
            let contents = match needs.lacking.first() {
                None => Ok(Contents::plain(fragment(&rules(&member.layout), &user, &needs.commands))),
                Some(lack) => Err(lack.clone()),
            };
            let input = HostInput {
                name: host.name.clone(),
                layout: member.layout.clone(),
                facts,
                found,
                deploy_user: &user,
                steps,
                sudoers: (contents, sudoers(&member.layout)),
                token: &self.token,
            };
            match plan(input) {
                Ok(setup) => setups.push(setup),
                Err(found) => obstacles.extend(found),
            }
        }
        if obstacles.is_empty() { Ok(setups) } else { Err(Obstruction::Obstacles(obstacles)) }
    }

    /// A lock that only root may see is not taken, but nothing is done while somebody holds it.
    async fn unlocked(&self, members: &[Member], facts: &[Facts], found: &[Found]) -> Result<(), Obstruction> {
        let mut refused = Vec::new();
        for ((member, facts), found) in members.iter().zip(facts).zip(found) {
            let lock = member.layout.lock();
            if facts.lockable || self.args.dry_run || !found.entries.contains_key(&lock) {
                continue;
            }
            let probe = Command::argv(["flock", "-n", &lock, "true"]).sudo();
            let answers = ask(member.session.as_ref(), vec![probe]).await;
            if !answers.is_ok_and(|answers| answers.iter().all(Answer::success)) {
                refused.push(Refused {
                    host: member.name.clone(),
                    why: "somebody deploys to the host, or its lock cannot be looked at".to_owned(),
                    advice: Some("try again when that run has ended".to_owned()),
                });
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(Obstruction::Refused(refused)) }
    }

    /// Whether sudo allows what is going to be done, where it needs no password: half a setup helps nobody. A
    /// password was proven when the connection was made.
    async fn allowed(&self, members: &[Member], facts: &[Facts], setups: &[HostSetup]) -> Result<(), Obstruction> {
        let mut refused = Vec::new();
        for ((member, facts), setup) in members.iter().zip(facts).zip(setups) {
            if facts.user == "root" || member.target.sudo.is_some() {
                continue;
            }
            let commands = setup.sudo_commands();
            let question = |argv: &Vec<String>| {
                Command::argv(["sudo", "-n", "-l", "--"].map(str::to_owned).into_iter().chain(argv.iter().cloned()))
            };
            let answers = ask(member.session.as_ref(), commands.iter().map(question).collect()).await;
            let answers = answers.map_err(|error| {
                Obstruction::Refused(vec![Refused { host: member.name.clone(), why: error.to_string(), advice: None }])
            })?;
            if let Some(argv) =
                commands.iter().zip(&answers).find(|(_, answer)| !answer.success()).map(|(argv, _)| argv)
            {
                refused.push(Refused {
                    host: member.name.clone(),
                    why: format!("sudo does not let {} run {}", facts.user, visible(argv.join(" ").as_bytes())),
                    advice: Some(
                        "`--user NAME` sets the host up as another login: root, or one that may use sudo for everything; \
                         `sudo_password` of the host says where a password comes from"
                            .to_owned(),
                    ),
                });
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(Obstruction::Refused(refused)) }
    }

    /// Asks about each file that would be overwritten and that ship did not write.
    fn consent(&self, stage: &Stage, setups: &[HostSetup]) -> Result<(), Obstruction> {
        let mut agreed: BTreeSet<(&str, &str)> = BTreeSet::new();
        let mut obstacles = Vec::new();
        let named = |path: &str| self.args.overwrite.iter().any(|named| named == path);
        for (host, file) in setups.iter().flat_map(|setup| setup.foreign().map(move |file| (&setup.host, file))) {
            let (path, diff) = (file.0, stage.sink.masker().mask(file.1));
            if named(path) || agreed.contains(&file) {
                continue;
            }
            let answer = stage.ask(&format!("{host}: ship did not write {path}.\n{diff}Overwrite it?"));
            if answer == Some(true) {
                agreed.insert(file);
                continue;
            }
            let (text, advice) = match answer {
                Some(_) => ("and it is left as it is", "change the recipe, or overwrite it with"),
                None => ("and it would be overwritten", "to overwrite it:"),
            };
            let diff: String = diff.lines().map(|line| format!("\n  {line}")).collect();
            obstacles.push(Obstacle {
                host: host.clone(),
                text: format!("ship did not write {path}, {text}"),
                advice: Some(format!("{advice} `--overwrite {path}`{diff}")),
            });
        }
        if obstacles.is_empty() { Ok(()) } else { Err(Obstruction::Obstacles(obstacles)) }
    }

    /// Tells what is going to change, with the diff of each file.
    async fn tell(&self, stage: &Stage, setups: &[HostSetup]) {
        for (hosts, text) in outline(setups) {
            let one = match hosts.as_slice() {
                [host] => Some((*host).to_owned()),
                _ => None,
            };
            let names = if one.is_none() { format!("on {}:\n", hosts.join(", ")) } else { String::new() };
            stage.sink.emit(Event::Notice { host: one, text: format!("{names}{}", text.trim_end()) }).await;
        }
    }

    async fn carry_out(&self, stage: &Stage, members: &[Member], setups: Vec<HostSetup>, outcomes: &mut [Progress]) {
        let phase = Phase::Setup;
        let hosts = members.iter().map(|member| member.name.clone()).collect();
        stage.sink.emit(Event::PhaseStarted { phase, hosts, batch: None }).await;
        let began = Instant::now();
        let setups = Arc::new(setups);
        let work = each(members, |index, member| {
            let (setups, sink, cancel) = (Arc::clone(&setups), stage.sink.clone(), stage.cancel.clone());
            async move {
                match setups.get(index) {
                    Some(setup) if !setup.is_done() => carry_out(setup, member.session, &sink, &cancel).await,
                    _ => Progress::default(),
                }
            }
        });
        let stopped = || Progress { stop: Some(Stop::Cancelled), ..Progress::default() };
        let results = tokio::select! {
            results = work => results,
            () = stage.abort.cancelled() => members.iter().map(|_| stopped()).collect(),
        };
        for (outcome, result) in outcomes.iter_mut().zip(results) {
            outcome.done.extend(result.done);
            outcome.stop = result.stop;
            outcome.refused = result.refused;
        }
        stage.sink.emit(Event::PhaseFinished { phase, millis: millis(began.elapsed()) }).await;
    }

    /// Tells each host how the setup ended.
    async fn history(
        &self,
        stage: &Stage,
        members: &[Member],
        facts: &[Facts],
        stages: &[String],
        conclusion: &Conclusion,
        began: Instant,
    ) {
        let entry = |summary: &HostSummary| HistoryEntry {
            time: (self.machine.clock)().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            action: Some(Action::Setup),
            environment: self.project.selection.environment.clone(),
            by: self.machine.who(),
            url: self.machine.ci_url(),
            outcome: outcome_word(conclusion.outcome).to_owned(),
            state: summary.state.name().to_owned(),
            why: summary.why.as_ref().map(|why| stage.sink.masker().mask(why)),
            millis: millis(began.elapsed()),
            ..HistoryEntry::default()
        };
        let hosts = members.iter().zip(facts).zip(&self.project.selection.hosts).zip(stages).zip(&conclusion.hosts);
        for ((((member, facts), host), folder), summary) in hosts {
            if summary.state == HostState::Unchanged && summary.why.is_none() {
                continue;
            }
            let deploys = self.deploy_user(host, facts).is_ok_and(|user| user == facts.user);
            if !deploys && facts.user != "root" {
                let (transfer, tasks) = append(&member.layout, &entry(summary), folder);
                let told = Told::new(member.name.clone(), Arc::clone(&member.session), stage.sink.clone());
                let _ = told.carry_out(Phase::Setup, &tasks, Some(&transfer), &CancellationToken::new()).await;
                continue;
            }
            let written = ask(member.session.as_ref(), vec![append_history(&member.layout, &entry(summary))]).await;
            if !written.is_ok_and(|answers| answers.iter().all(Answer::success)) {
                let text = "the history could not be written".to_owned();
                stage.sink.emit(Event::Warning { host: Some(member.name.clone()), text }).await;
            }
        }
    }
}
