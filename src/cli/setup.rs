//! `ship setup`: looks at what hosts have of what the recipe's `setup` wants, shows the difference, and makes it so.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::args::{Global, SetupArgs};
use super::check::rights_of;
use super::machine::Machine;
use super::operation::{self, holder};
use super::project::{Project, problems};
use super::stage::{Stage, Telling, close};
use crate::command::Command;
use crate::config::selection::Host;
use crate::document::Problems;
use crate::error::Error;
use crate::event::{Action, Event, HostState, HostSummary, Outcome, Phase};
use crate::execute::Conclusion;
use crate::execute::host::Stop;
use crate::execute::setup::{Progress, carry_out};
use crate::facts::Facts;
use crate::facts::found::Found;
use crate::fleet::{self, Answer, Member, Question, Refused, ask, each};
use crate::output::visible;
use crate::plan::Obstacle;
use crate::plan::record::{HistoryEntry, append_history};
use crate::plan::render::{Filter, programs};
use crate::plan::setup::{HostInput, HostSetup, SetupStep, look, plan};
use crate::plan::setup_text::{counted, outline, text};
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
    let stage = Stage::open(
        global,
        machine,
        Telling {
            action: Action::Setup,
            environment: project.selection.environment.as_deref(),
            transcripts: (!args.dry_run).then(|| project.records().join("log")),
            secrets: project.secrets.values().cloned().collect(),
        },
    )?;
    stage
        .sink
        .emit(Event::RunStarted {
            action: Action::Setup,
            app: project.inventory.app.clone(),
            environment: project.selection.environment.clone(),
            hosts: project.selection.hosts.iter().map(|host| host.name.clone()).collect(),
            revision: None,
            description: None,
        })
        .await;
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
    let run = Run { project, machine, args, token: Machine::release_time((machine.clock)()) };
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
enum Obstruction {
    Refused(Vec<Refused>),
    Obstacles(Vec<Obstacle>),
    Error(Error),
}

impl From<Error> for Obstruction {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
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
        let facts = self.look(stage, members, true).await?;
        let mut facts = Some(facts);
        for round in 0..ROUNDS {
            let looked = match facts.take() {
                Some(facts) => Ok(facts),
                None => self.look(stage, members, false).await,
            };
            let planned = match looked {
                Ok(facts) => self.plan(members, &facts).await.map(|setups| (facts, setups)),
                Err(obstruction) => Err(obstruction),
            };
            let planned = match planned {
                Ok((facts, setups)) if self.args.dry_run => {
                    let environment = self.project.selection.environment.as_deref();
                    let _ = facts;
                    return Ok(Ended::Shown(text(&self.project.inventory.app, environment, &setups)));
                }
                Ok((facts, setups)) => match self.consent(stage, &setups) {
                    Ok(()) => self.allowed(members, &facts, &setups).await.map(|()| (facts, setups)),
                    Err(obstruction) => Err(obstruction),
                },
                Err(obstruction) => Err(obstruction),
            };
            let (facts, setups) = match planned {
                Ok(planned) => planned,
                Err(obstruction) if round == 0 => return Err(obstruction),
                // Packages are there by now: this is no refusal any more.
                Err(obstruction) => {
                    obstruct(&mut outcomes, members, obstruction);
                    break;
                }
            };
            self.tell(stage, &setups).await;
            let again = setups.iter().any(|setup| setup.packages.is_some());
            let work = setups.iter().any(|setup| !setup.is_done());
            if work {
                self.carry_out(stage, members, setups, &mut outcomes).await;
            }
            let stopped = outcomes.iter().any(|progress| progress.stop.is_some());
            if !again || stopped || stage.cancel.is_cancelled() {
                if work || round > 0 {
                    self.history(stage, members, &facts, &outcomes, began).await;
                }
                break;
            }
        }
        Ok(Ended::Done(conclude(stage, members, &outcomes)))
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
        let sudoers = format!("/etc/sudoers.d/{}", file_name(&self.project.instance()));
        let mut hosts: Vec<(Host, Vec<SetupStep>)> = Vec::new();
        let mut looks = Vec::new();
        for (host, facts) in self.project.selection.hosts.iter().zip(facts) {
            let mut host = host.clone();
            let user = self.deploy_user(&host, facts)?;
            host.target.user = Some(user.clone());
            let steps = self.project.setup_steps(&host).map_err(wrong)?;
            looks.push(look(&Project::layout(&host), &user, facts, &steps, &sudoers));
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
                None => Ok(Contents::plain(fragment(&self.project.instance(), &user, &needs.commands))),
                Some(lack) => Err(lack.clone()),
            };
            let input = HostInput {
                name: host.name.clone(),
                layout: member.layout.clone(),
                facts,
                found,
                deploy_user: &user,
                steps,
                sudoers: (contents, sudoers.clone()),
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

    /// Tells each host how the setup ended, where the login user may write its history.
    async fn history(&self, stage: &Stage, members: &[Member], facts: &[Facts], outcomes: &[Progress], began: Instant) {
        let conclusion = conclude(stage, members, outcomes);
        for (((member, facts), host), summary) in
            members.iter().zip(facts).zip(&self.project.selection.hosts).zip(conclusion.hosts)
        {
            let deploys = self.deploy_user(host, facts).is_ok_and(|user| user == facts.user);
            if summary.state == HostState::Unchanged && summary.why.is_none() || !(deploys || facts.user == "root") {
                continue;
            }
            let entry = HistoryEntry {
                time: (self.machine.clock)().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                action: Some(Action::Setup),
                environment: self.project.selection.environment.clone(),
                by: self.machine.who(),
                url: self.machine.ci_url(),
                outcome: crate::execute::outcome_word(conclusion.outcome).to_owned(),
                state: summary.state.name().to_owned(),
                why: summary.why.map(|why| stage.sink.masker().mask(&why)),
                millis: millis(began.elapsed()),
                ..HistoryEntry::default()
            };
            // The folder is not there where the setup did not come so far.
            let written = ask(member.session.as_ref(), vec![append_history(&member.layout, &entry)]).await;
            if !written.is_ok_and(|answers| answers.iter().all(Answer::success)) {
                let text = "the history could not be written".to_owned();
                stage.sink.emit(Event::Warning { host: Some(member.name.clone()), text }).await;
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What stands in the way once packages were installed, as how each host ended.
fn obstruct(outcomes: &mut [Progress], members: &[Member], obstruction: Obstruction) {
    let reasons: Vec<(Option<String>, String)> = match obstruction {
        Obstruction::Refused(refused) => refused.into_iter().map(|refused| (Some(refused.host), refused.why)).collect(),
        Obstruction::Obstacles(found) => found.into_iter().map(|found| (Some(found.host), found.text)).collect(),
        Obstruction::Error(error) => vec![(None, error.message)],
    };
    for (outcome, member) in outcomes.iter_mut().zip(members) {
        let own = reasons.iter().find(|(host, _)| host.as_ref().is_none_or(|host| *host == member.name));
        if let Some((_, why)) = own {
            outcome.obstacle = Some(why.clone());
        }
    }
}

/// How the run ended, with a row for each host that says what changed.
fn conclude(stage: &Stage, members: &[Member], outcomes: &[Progress]) -> Conclusion {
    let hosts: Vec<HostSummary> = members
        .iter()
        .zip(outcomes)
        .map(|(member, progress)| {
            let changed = counted(progress.done.iter());
            let stop = progress.stop.as_ref().map(Stop::why).or_else(|| progress.obstacle.clone());
            let lost = progress.refused.as_ref().is_some_and(|refused| !refused.by_hand.is_empty());
            let back = progress.refused.as_ref().map(|refused| match lost {
                false => format!("{} is as it was before", refused.path),
                true => format!("{} could not be put back as it was", refused.path),
            });
            let why: Vec<String> = [Some(changed.clone()).filter(|changed| !changed.is_empty()), stop, back]
                .into_iter()
                .flatten()
                .collect();
            HostSummary {
                host: member.name.clone(),
                before: None,
                after: None,
                state: match (lost, changed.is_empty()) {
                    (true, _) => HostState::Unknown,
                    (_, false) => HostState::Changed,
                    (_, true) => HostState::Unchanged,
                },
                why: Some(why.join("; ")).filter(|why| !why.is_empty()),
                commands: progress.refused.as_ref().map(|refused| refused.by_hand.clone()).unwrap_or_default(),
            }
        })
        .collect();
    let failed = outcomes.iter().any(|progress| progress.obstacle.is_some() || progress.stop.is_some());
    let outcome = if hosts.iter().any(|host| host.state == HostState::Unknown) {
        Outcome::NeedsPerson
    } else if stage.cancel.is_cancelled() {
        Outcome::Interrupted
    } else if failed {
        Outcome::Failed
    } else {
        Outcome::Done
    };
    let mut hints = Vec::new();
    if matches!(outcome, Outcome::Failed | Outcome::Interrupted) {
        hints.push("what was changed stays; `ship setup` again goes on from there".to_owned());
    }
    Conclusion { outcome, hosts, hints }
}
