//! What runs have in common: asking first, beginning, carrying out, finding a lost host again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::args::Global;
use super::machine::Machine;
use super::project::{Project, ReleaseFacts};
use super::prompt;
use super::stage::{Stage, Telling, close};
use crate::error::Error;
use crate::event::{Action, Event, Sink};
use crate::execute::timing::Times;
use crate::execute::{Reconnect, Run, execute};
use crate::facts::Facts;
use crate::fleet::{self, Member, Question};
use crate::layout::ReleaseId;
use crate::lock::Holder;
use crate::plan::Plan;
use crate::plan::record::HistoryEntry;
use crate::plan::render::{PlannedStep, programs};
use crate::session::{BoxFuture, Connector, Session};

/// The connected hosts of a run that holds their locks.
pub struct Fleet {
    /// The hosts, in the order of the plan.
    pub members: Vec<Member>,
    /// What the locks say.
    pub holder: Holder,
    /// How long to wait for the lock of a host that was lost and found again.
    pub patience: Duration,
}

/// Asks before a change, where the environment wants that and `--yes` does not answer.
pub fn confirm(project: &Project, machine: &Machine, yes: bool, what: &str) -> Result<(), Error> {
    if yes || !project.selection.confirm {
        return Ok(());
    }
    let hosts: Vec<&str> = project.selection.hosts.iter().map(|host| host.name.as_str()).collect();
    let environment = project.selection.environment.as_deref().unwrap_or("the hosts");
    if !machine.stdin_is_terminal {
        return Err(Error::usage(format!("{environment} asks for confirmation, and there is no terminal"))
            .hint("add --yes where nobody can answer"));
    }
    let visible = |text: &str| crate::output::visible(text.as_bytes());
    // Each line by itself, so that no title of a commit can begin one of its own.
    let question = format!("{}\nto {} ({})?", visible(what), visible(environment), visible(&hosts.join(", ")));
    if prompt::confirm(&question) { Ok(()) } else { Err(Error::usage("nothing was done")) }
}

/// What a run is about to do, for those who watch it.
pub struct Beginning {
    /// What is done.
    pub action: Action,
    /// Whether a transcript is kept.
    pub transcript: bool,
    /// What is deployed: a commit, where it is one.
    pub revision: Option<String>,
    /// For people.
    pub description: Option<String>,
}

/// Opens the stage of a run on the hosts of `project`, and tells that it begins.
pub async fn begin(
    global: &Global,
    machine: &Machine,
    project: &Project,
    beginning: Beginning,
) -> Result<Stage, Error> {
    let Beginning { action, transcript, revision, description } = beginning;
    let stage = Stage::open(
        global,
        machine,
        Telling {
            action,
            environment: project.selection.environment.as_deref(),
            transcripts: transcript.then(|| project.records().join("log")),
            secrets: project.secrets.values().cloned().collect(),
        },
    )?;
    let hosts = project.selection.hosts.iter().map(|host| host.name.clone()).collect();
    let (app, environment) = (project.inventory.app.clone(), project.selection.environment.clone());
    stage.sink.emit(Event::RunStarted { action, app, environment, hosts, revision, description }).await;
    Ok(stage)
}

/// What the deploy lock says while this run holds it.
pub fn holder(machine: &Machine, reason: &str) -> Holder {
    Holder {
        by: machine.who(),
        since: (machine.clock)().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        reason: reason.to_owned(),
        url: machine.ci_url(),
    }
}

/// What the survey of a host asks for, from what its steps need.
pub fn question(steps: &[PlannedStep], mut shared: Vec<String>, manifest: Option<Arc<[String]>>) -> Question {
    let files = steps.iter().filter_map(|planned| planned.step.host_file()).map(str::to_owned).collect();
    let settings: Vec<String> = steps.iter().flat_map(|planned| planned.step.env_files()).cloned().collect();
    shared.extend(settings.iter().cloned());
    Question { programs: programs(steps), shared, files, settings, manifest, read_only: false }
}

/// What templates know of a release that is on a host.
pub fn release_facts(release: Option<ReleaseId>, facts: &Facts) -> ReleaseFacts {
    let known = release.as_ref().and_then(|release| facts.releases.get(release));
    let info = known.map(|known| known.info.clone()).unwrap_or_default();
    ReleaseFacts {
        revision: Some(info.revision),
        branch: Some(info.branch),
        author: Some(info.author),
        title: Some(info.title),
        by: Some(info.by),
        release: release.or_else(|| ReleaseId::parse("00000000T000000Z-none")),
    }
}

/// Carries out the plan to its end and tells how it ended.
pub async fn carry_out(stage: Stage, machine: &Machine, plan: Plan, fleet: Fleet, timing: bool) -> Result<(), Error> {
    let members = fleet.members.clone();
    let clock = machine.clock;
    let (by, url) = (machine.who(), machine.ci_url());
    let times: Arc<Times> = Arc::default();
    let run = Run {
        times: Arc::clone(&times),
        plan: Arc::new(plan),
        sessions: members.iter().map(|member| Arc::clone(&member.session)).collect(),
        sink: stage.sink.clone(),
        cancel: stage.cancel.clone(),
        abort: stage.abort.clone(),
        reconnect: Arc::new(Again { connector: Arc::clone(&stage.connector), fleet, sink: stage.sink.clone() }),
        history: Arc::new(move || HistoryEntry {
            time: clock().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            by: by.clone(),
            url: url.clone(),
            ..HistoryEntry::default()
        }),
    };
    let conclusion = execute(run).await;
    if timing {
        for text in times.lines() {
            stage.sink.emit(Event::Notice { host: None, text }).await;
        }
        for member in &members {
            let usage = member.session.usage();
            let text = format!(
                "{} channels, {} round trips, {} bytes sent, {} bytes received",
                usage.channels, usage.round_trips, usage.sent, usage.received
            );
            stage.sink.emit(Event::Notice { host: Some(member.name.clone()), text }).await;
        }
    }
    close(&members).await;
    stage.conclude(conclusion).await
}

/// How long a host that was lost is sought. The lock that our own lost session holds is freed by the guard
/// after a minute of silence.
const OWN_LOCK: Duration = Duration::from_secs(90);

/// The pause before a host that cannot be reached is tried again.
const PAUSE: Duration = Duration::from_secs(2);

struct Again {
    connector: Arc<Connector>,
    fleet: Fleet,
    sink: Sink,
}

impl Reconnect for Again {
    fn again(&self, index: usize) -> BoxFuture<'_, Result<Arc<dyn Session>, String>> {
        Box::pin(async move {
            let member = self.fleet.members.get(index).ok_or("no such host")?;
            let until = Instant::now() + self.fleet.patience.max(OWN_LOCK);
            loop {
                let left = until.saturating_duration_since(Instant::now());
                match fleet::again(&self.connector, member, &self.fleet.holder, left, &self.sink).await {
                    Ok(session) => return Ok(session),
                    Err(refused) if left.is_zero() => return Err(refused.why),
                    Err(_) => tokio::time::sleep(PAUSE.min(left)).await,
                }
            }
        })
    }
}
