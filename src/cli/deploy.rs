//! `ship deploy` and `ship plan`: look, decide, and (but for `plan`) do.

use std::sync::Arc;

use super::args::{ChangeArgs, DeployArgs, Global};
use super::content::{Files, Here, Scan, Source};
use super::images;
use super::known;
use super::machine::Machine;
use super::operation::{self, Beginning, Fleet, holder, question};
use super::project::{Project, ReleaseFacts, problems};
use super::stage::{Stage, close};
use crate::artifact::Tree;
use crate::artifact::known::Known;
use crate::config::batch::Batch;
use crate::error::{Error, Kind};
use crate::event::{Action, Event, Phase};
use crate::execute::local;
use crate::facts::{Facts, Info};
use crate::fleet::{self, Member, Question};
use crate::layout::ReleaseId;
use crate::plan::deploy::{Common, HostInput, plan};
use crate::plan::render::Filter;
use crate::plan::{Obstacle, Plan, show};
use crate::session::{BoxFuture, Local, Session};
use crate::step::{Action as TaskAction, Step, Task};

/// `ship deploy`, or `ship plan` where `only_show` is set.
pub async fn run(
    global: &Global,
    machine: &Machine,
    args: &DeployArgs,
    options: &[(String, Option<String>)],
    only_show: bool,
) -> Result<(), Error> {
    let only_show = only_show || args.change.dry_run;
    let filter = Filter { skip: args.change.skip.clone(), only: args.change.only.clone(), setup: false };
    let project = Project::load(global, machine, &args.change.select, filter, options)?;
    let source = Source::find(args, &project, machine)?;
    let batch = batch(&args.change, &project)?;
    if !only_show {
        operation::confirm(&project, machine, args.change.yes, &format!("Deploy {}", source.description()))?;
    }
    let (revision, branch) = match &source {
        Source::Git(commit) => (Some(commit.id.clone()), commit.branch.clone()),
        Source::Artifact(_) => (None, None),
    };
    let beginning = Beginning {
        action: Action::Deploy,
        transcript: !only_show,
        revision: revision.clone(),
        description: Some(source.description()),
    };
    let stage = operation::begin(global, machine, &project, beginning).await?;
    if let Source::Git(commit) = &source {
        for warning in &commit.warnings {
            stage.sink.emit(Event::Warning { host: None, text: warning.clone() }).await;
        }
    }
    let targets =
        project.targets(|host| if only_show { project.looks_through_sudo(host) } else { project.needs_sudo(host) });
    let (author, title) = match &source {
        Source::Git(commit) => (Some(commit.author.clone()), Some(commit.title.clone())),
        Source::Artifact(_) => (None, None),
    };
    let facts = ReleaseFacts { release: None, revision, branch, author, title, by: Some(machine.who()) };
    let (project, source) = (Arc::new(project), Arc::new(source));
    let reading = async {
        let here = Arc::new(Here::read(&project, &source, &facts).await?);
        let scan = (!here.builds).then(|| here.scan(&project));
        Ok((here, scan))
    };
    let (connected, here) = tokio::join!(stage.connect(targets), reading);
    let members = match connected {
        Ok(members) => members,
        Err(refused) => return stage.refuse(refused).await,
    };
    let prepared = match here {
        Ok(here) => {
            prepare(&project, machine, &stage, &source, here, &members, facts, batch, !only_show, &args.change).await
        }
        Err(error) => Err(Stop::Error(error)),
    };
    let Prepared { plan, holder, here } = match prepared {
        Ok(prepared) => prepared,
        Err(stop) => {
            close(&members).await;
            return match stop {
                Stop::Error(error) => stage.fail(error).await,
                Stop::Refused(refused) => stage.refuse(refused).await,
                Stop::Obstacles(obstacles) => stage.obstruct(obstacles).await,
            };
        }
    };
    if only_show {
        close(&members).await;
        return stage.show(global, &show::text(&plan, global.verbose)).await;
    }
    let fleet = Fleet { members, holder, patience: args.change.lock_wait.unwrap_or_default() };
    let result = operation::carry_out(stage, machine, plan, fleet, args.change.timing).await;
    drop(here);
    result
}

/// Why there is no plan.
enum Stop {
    Error(Error),
    Refused(Vec<fleet::Refused>),
    Obstacles(Vec<Obstacle>),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

struct Prepared {
    plan: Plan,
    holder: crate::lock::Holder,
    /// What the plan sends is read from here while it is carried out.
    here: Arc<Here>,
}

#[expect(clippy::too_many_arguments, reason = "the whole of what a deploy is made of, used in one place")]
async fn prepare(
    project: &Arc<Project>,
    machine: &Machine,
    stage: &Stage,
    source: &Source,
    (here, scan): (Arc<Here>, Option<Scan>),
    members: &[Member],
    mut release: ReleaseFacts,
    batch: Batch,
    lock: bool,
    change: &ChangeArgs,
) -> Result<Prepared, Stop> {
    let wrong = |found: Vec<crate::document::Problem>| Stop::Error(problems(&found, false));
    let (files, checked) = (&here.files, &here.steps);
    build(project, machine, stage, files, &release).await?;

    // What each host is given, from the files as they are now that the build is over.
    let archives = tokio::task::block_in_place(|| files.images.read())?;
    let scan = scan.unwrap_or_else(|| here.scan(project));
    let scanning = async { Ok(scan.ended().await?) };
    // No host is touched for what a build made before it is known that it can be carried; and what is shared may be named
    // by the revision, which for an artifact is what its files come to.
    let first = here.builds || release.revision.is_none() && shares_by_revision(project, &release).map_err(wrong)?;
    let scanning: BoxFuture<'_, Result<Vec<Arc<Tree>>, Stop>> = if first {
        let trees = unless_cancelled(stage, scanning).await?;
        reveal(&mut release, &trees);
        Box::pin(std::future::ready(Ok(trees)))
    } else {
        Box::pin(scanning)
    };

    let holder = holder(machine, &format!("{} of {}", Action::Deploy.name(), source.description()));
    let manifests = Known::new(project.records().join("manifests"));
    let digests: Arc<[String]> = manifests.digests().into();
    let questions: Vec<_> = checked
        .iter()
        .zip(&project.selection.hosts)
        .map(|(steps, host)| {
            let shared = project.shared(host, &release)?;
            let asked = question(steps, shared.files, Some(Arc::clone(&digests)));
            Ok(Question { read_only: project.recipe.read_only, ..asked })
        })
        .collect::<Result<_, _>>()
        .map_err(wrong)?;
    let looking = async {
        let (mut facts, mut refused) = if lock {
            let patience = change.lock_wait.unwrap_or_default();
            fleet::lock_and_look(members, &questions, &holder, patience, &stage.sink).await
        } else {
            fleet::look(members, &questions).await
        };
        if refused.is_empty() {
            refused = images::look(members, checked, &mut facts).await;
        }
        // At once, so that the locks of the others are free again.
        if refused.is_empty() { Ok(facts) } else { Err(Stop::Refused(refused)) }
    };
    let both = async { tokio::try_join!(scanning, looking) };
    let (trees, mut facts) = unless_cancelled(stage, both).await?;
    reveal(&mut release, &trees);
    let revision = release.revision.clone().unwrap_or_default();
    tokio::task::block_in_place(|| known::recall(&manifests, &mut facts));
    let (id, time) = unused_id(machine, &revision, &facts)?;
    stage.sink.emit(Event::ReleaseChosen { release: id.to_string() }).await;
    release.release = Some(id.clone());
    let common = Common {
        app: project.inventory.app.clone(),
        environment: project.selection.environment.clone(),
        release: id,
        info: Info {
            revision,
            description: source.description(),
            branch: release.branch.clone().unwrap_or_default(),
            author: release.author.clone().unwrap_or_default(),
            title: release.title.clone().unwrap_or_default(),
            by: machine.who(),
        },
        keep_releases: project.inventory.keep_releases,
        read_only: project.recipe.read_only,
        batches: batch.sizes(project.selection.hosts.len()),
        max_failures: usize::try_from(change.max_failures.unwrap_or(project.selection.max_failures))
            .unwrap_or(usize::MAX),
        time,
    };
    let chunks = Arc::new(tokio::task::block_in_place(|| known::chunks(&trees, &facts)));
    let mut inputs = Vec::new();
    for ((host, facts), tree) in project.selection.hosts.iter().zip(&facts).zip(trees) {
        let mut steps = project.steps(host, &release).map_err(wrong)?;
        archives.give(&mut steps);
        let before = operation::release_facts(facts.live(), facts);
        inputs.push(HostInput {
            name: host.name.clone(),
            layout: Project::layout(host),
            facts,
            settings: project.settings_files(host, &release, &steps).map_err(wrong)?,
            steps,
            steps_before: project.steps(host, &before).map_err(wrong)?,
            shared: project.shared(host, &release).map_err(wrong)?,
            tree,
            chunks: Arc::clone(&chunks),
        });
    }
    let plan = plan(&common, inputs).map_err(Stop::Obstacles)?;
    if lock {
        known::remember(manifests, &plan);
    }
    Ok(Prepared { plan, holder, here })
}

/// What `work` comes to, unless the run is stopped before.
async fn unless_cancelled<T>(stage: &Stage, work: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
    tokio::select! {
        result = work => result,
        () = stage.cancel.cancelled() => Err(Stop::Refused(Vec::new())),
    }
}

/// The revision of an artifact is the digest of its files.
fn reveal(release: &mut ReleaseFacts, trees: &[Arc<Tree>]) {
    if release.revision.is_none() {
        release.revision = trees.first().map(|tree| tree.digest().to_owned());
    }
}

/// Whether the name of something that is shared has the revision in it.
fn shares_by_revision(project: &Project, release: &ReleaseFacts) -> Result<bool, Vec<crate::document::Problem>> {
    let other = ReleaseFacts { revision: Some("1".repeat(64)), ..release.clone() };
    for host in &project.selection.hosts {
        if project.shared(host, release)? != project.shared(host, &other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Runs the recipe's `local` steps, and writes down the images that are sent.
async fn build(
    project: &Project,
    machine: &Machine,
    stage: &Stage,
    files: &Files,
    release: &ReleaseFacts,
) -> Result<(), Stop> {
    let steps = project.build_steps(release).map_err(|found| Stop::Error(problems(&found, false)))?;
    let mut tasks: Vec<Task> = steps
        .iter()
        .filter_map(|planned| match &planned.step {
            Step::Local(local) => {
                let directory = files.folder.join(&planned.directory);
                let mut command = crate::command::Command::shell(local.command.clone())
                    .directory(directory.to_string_lossy().into_owned());
                for (name, value) in &planned.environment {
                    command = command.env(name.clone(), value.clone());
                }
                if let Some(timeout) = planned.timeout {
                    command = command.timeout(timeout);
                }
                let mut task = Task::new(planned.name.clone(), TaskAction::Command(command));
                task.attempts = planned.attempts.max(1);
                task.tolerate = planned.tolerate;
                Some(task)
            }
            _ => None,
        })
        .collect();
    tasks.extend(files.images.saving());
    if tasks.is_empty() {
        return Ok(());
    }
    let session: Arc<dyn Session> = Arc::new(Local::new(
        Some(files.folder.clone()),
        // The build runs other people's code: the key to the servers is none of its business.
        machine
            .environment
            .iter()
            .filter(|(name, _)| !Machine::KEYS.contains(&name.as_str()))
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
    ));
    let result = tokio::select! {
        result = local::build(Arc::clone(&session), &tasks, &stage.sink, &stage.cancel) => result,
        () = stage.abort.cancelled() => Err(crate::execute::host::Stop::Cancelled),
    };
    session.close().await;
    match result {
        Ok(()) => Ok(()),
        // The terminal sends an interrupt to the build too, which then ends as if it had failed.
        Err(_) if stage.cancel.is_cancelled() => Err(Stop::Refused(Vec::new())),
        Err(stop) => Err(Stop::Error(Error::new(
            Kind::Failed,
            format!("the {} failed on this machine, and no host was changed: {}", Phase::Build.name(), stop.why()),
        ))),
    }
}

/// An id that no host has, and its time in seconds since 1970: this second, or the next that is free.
fn unused_id(machine: &Machine, revision: &str, facts: &[Facts]) -> Result<(ReleaseId, i64), Error> {
    let mut time = (machine.clock)();
    for _ in 0..100 {
        let id = ReleaseId::new(&Machine::release_time(time), revision)
            .ok_or_else(|| Error::new(Kind::Failed, "this machine's clock makes no release id"))?;
        // Ids sort by time, so a new one must also be later than every other, whatever our clock says.
        let latest = facts.iter().filter_map(|facts| facts.releases.keys().next_back()).max();
        match latest {
            Some(latest) if latest.as_str().get(..16) >= id.as_str().get(..16) => {
                let stamp = latest.as_str().get(..16).unwrap_or_default();
                let latest = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", stamp)
                    .and_then(|parsed| parsed.to_datetime())
                    .and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC))
                    .map_err(|error| Error::new(Kind::Failed, format!("release {latest}: {error}")))?;
                time = latest.timestamp() + jiff::SignedDuration::from_secs(1);
            }
            // A minute ago: tar on a host whose clock is a little behind would warn of a time in the future.
            _ => return Ok((id, time.as_second() - 60)),
        }
    }
    Err(Error::new(Kind::Failed, "no release id is free"))
}

/// How many hosts are published at once.
pub fn batch(change: &ChangeArgs, project: &Project) -> Result<Batch, Error> {
    match &change.batch {
        None => Ok(project.selection.batch),
        Some(text) => Batch::parse(text).ok_or_else(|| {
            Error::usage(format!("--batch {text}: expected a number, a percentage such as 50%, or `all`"))
        }),
    }
}
