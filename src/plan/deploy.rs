//! The plan of a deploy: what the new release is made of, how it goes live, and the way back.

use std::sync::Arc;

use super::receive::receive;
use super::render::{Act, PlannedStep, gather, tasks};
use super::transfer::Sending;
use super::{HostPlan, Obstacle, Plan, compose_files, env_files, interrupted, lot, prune, record, sharing};
use crate::artifact::{Chunks, MemoryFile, Tree};
use crate::command::{Command, quote};
use crate::event::{Action as RunAction, Phase};
use crate::facts::{Current, Facts, Info, ReleaseState};
use crate::layout::{Layout, ReleaseId};
use crate::lock;
use crate::step::detach;
use crate::step::link::Link;
use crate::step::swap::{self, Expected};
use crate::step::{Context, Step, Task};

/// What is the same for every host.
#[derive(Clone, Debug)]
pub struct Common {
    /// The application.
    pub app: String,
    /// The environment.
    pub environment: Option<String>,
    /// The new release.
    pub release: ReleaseId,
    /// What it is made from.
    pub info: Info,
    /// How many releases are kept.
    pub keep_releases: u32,
    /// Whether no program changes an uploaded file, so that releases may share them.
    pub read_only: bool,
    /// The sizes of batches, in order.
    pub batches: Vec<usize>,
    /// How many hosts may fail.
    pub max_failures: usize,
    /// Seconds since 1970 of the release, for entries without a time of their own.
    pub time: i64,
}

/// What is known of one host.
pub struct HostInput<'a> {
    /// Its name in the inventory.
    pub name: String,
    /// Its paths.
    pub layout: Layout,
    /// What it looked like.
    pub facts: &'a Facts,
    /// Its steps for the new release.
    pub steps: Vec<PlannedStep>,
    /// Its steps for the release that is live now, for the way back.
    pub steps_before: Vec<PlannedStep>,
    /// The recipe's shared files and folders.
    pub shared: Link,
    /// The host's tree, without settings.
    pub tree: Arc<Tree>,
    /// Settings rendered for the host.
    pub settings: Vec<MemoryFile>,
    /// The chunks of the tree's large files of which the host has another version.
    pub chunks: Arc<Chunks>,
}

/// Space that must stay free beside the release, in bytes.
const SPARE: u64 = 64 * 1024 * 1024;

/// Makes the plan, or names everything that stands in its way.
pub fn plan(common: &Common, hosts: Vec<HostInput<'_>>) -> Result<Plan, Vec<Obstacle>> {
    let mut plans = Vec::new();
    let mut obstacles = Vec::new();
    let count = hosts.len();
    for host in hosts {
        obstacles.extend(obstacles_of(&host.name, &host.layout, host.facts));
        for file in host.shared.files.iter().filter(|file| !host.facts.shared.contains(*file)) {
            obstacles.push(Obstacle::new(
                &host.name,
                format!("the shared file {}/{file} does not exist", host.layout.shared()),
                Some("put it there once; every release links to it".to_owned()),
            ));
        }
        obstacles.extend(env_files::obstacles(&host));
        obstacles.extend(compose_files::obstacles(&host));
        match host_plan(common, &host, count) {
            Ok(plan) => plans.push(plan),
            Err(found) => obstacles.extend(found),
        }
    }
    if !obstacles.is_empty() {
        return Err(obstacles);
    }
    sharing::share(plans.iter_mut().filter_map(|plan| plan.transfer.as_mut()));
    Ok(Plan {
        action: RunAction::Deploy,
        app: common.app.clone(),
        environment: common.environment.clone(),
        release: common.release.clone(),
        revision: common.info.revision.clone(),
        description: common.info.description.clone(),
        batches: batches(&common.batches, plans.len()),
        max_failures: common.max_failures,
        hosts: plans,
    })
}

/// Indices of `count` hosts in groups of the given sizes.
pub(super) fn batches(sizes: &[usize], count: usize) -> Vec<Vec<usize>> {
    let mut indices = 0..count;
    let mut batches: Vec<Vec<usize>> = sizes.iter().map(|size| indices.by_ref().take(*size).collect()).collect();
    batches.push(indices.collect());
    batches.retain(|batch| !batch.is_empty());
    batches
}

/// What stands in the way of any change on a host.
pub fn obstacles_of(host: &str, layout: &Layout, facts: &Facts) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    let missing = facts.missing();
    if !missing.is_empty() {
        obstacles.push(Obstacle::new(
            host,
            format!("these programs are missing: {}", missing.join(", ")),
            Some("install coreutils, findutils, tar and util-linux (or BusyBox with these applets)".to_owned()),
        ));
    }
    if facts.current == Current::Other {
        obstacles.push(Obstacle::new(
            host,
            format!("{} is a real file or folder, not a link to a release", layout.current()),
            Some("move it away by hand once; ship never removes what it did not make".to_owned()),
        ));
    }
    if !facts.writable {
        obstacles.push(Obstacle::new(
            host,
            format!("{} may not write to {}", facts.user, facts.nearest),
            Some(format!("as root, once: install -d -o {} {}", quote(&facts.user), quote(layout.root()))),
        ));
    }
    if let Some(hold) = &facts.hold {
        obstacles.push(Obstacle::new(
            host,
            format!("deploys are locked by {}", lock::parse(hold)),
            Some("`ship unlock` frees it".to_owned()),
        ));
    }
    obstacles
}

fn host_plan(common: &Common, host: &HostInput<'_>, hosts: usize) -> Result<HostPlan, Vec<Obstacle>> {
    let obstacle = |text: String| Obstacle::new(&host.name, text, None);
    let (layout, facts) = (&host.layout, host.facts);
    let before = facts.live().filter(|live| facts.releases.get(live).is_some_and(|release| release.present));
    let new_target = layout.release_target(&common.release);
    let seen = Expected {
        targets: facts.current_target().map(str::to_owned).into_iter().collect(),
        missing: facts.current == Current::Missing,
    };
    let sending = Sending {
        layout,
        facts,
        release: &common.release,
        time: common.time,
        tree: &host.tree,
        settings: &host.settings,
        chunks: &host.chunks,
        read_only: common.read_only,
        hosts,
    };
    let transfer = sending.transfer().map_err(|text| vec![obstacle(text)])?;
    let more = transfer.tree.manifest().bytes().saturating_sub(transfer.taken()).saturating_sub(transfer.linked());
    let needed = more.saturating_add(transfer.twice()).saturating_add(SPARE);
    if let Some(free) = facts.free_kib.map(|kib| kib.saturating_mul(1024)).filter(|free| *free < needed) {
        let text = format!(
            "{} has {} MiB free, and the release needs {} MiB with what must stay free",
            facts.nearest,
            free >> 20,
            needed >> 20
        );
        return Err(vec![Obstacle::new(&host.name, text, interrupted::advice(layout, facts))]);
    }

    let lacking = |found: Vec<String>| found.into_iter().map(obstacle).collect::<Vec<_>>();
    let made = |phase| tasks(&host.steps, phase, layout, facts, &common.release, &seen, false).map_err(lacking);
    let mut prepare = begin(common, layout);
    prepare.extend(receive(layout, facts, &common.release, common.time, &transfer));
    prepare.extend(shared_links(common, host));
    prepare.extend(made(Phase::Prepare)?);
    let last = host.steps.iter().map(|planned| planned.stage).max().unwrap_or(0);
    prepare.push(Task { stage: last, ..ready(layout, &common.release) });
    prepare.iter_mut().for_each(|task| settle(task, host));

    let mut publish = made(Phase::Publish)?;
    if !host.steps.iter().any(|planned| matches!(planned.step, Step::Swap(_))) {
        return Err(vec![obstacle("the recipe has no `swap` step in `publish`, so nothing would go live".to_owned())]);
    }
    let mut live = vec![(&common.release, ReleaseState::Live)];
    live.extend(called_live(facts, &common.release).map(|id| (id, ReleaseState::Superseded)));
    publish.push(state_task("Mark the release live", layout, &live));

    let prune = prune::removable(facts, &common.release, before.as_ref(), common.keep_releases);
    let mut finish = made(Phase::Finish)?;
    finish.iter_mut().for_each(|task| task.tolerate = true);
    finish.iter_mut().for_each(|task| settle(task, host));
    let detaches = prepare.iter_mut().chain(&mut finish).any(|task| task.detached().is_some());
    if !facts.detached.is_empty() || detaches {
        finish.push(Task::own("Remove records of detached commands", detach::clear(layout)).tolerated());
    }
    let wanted = |name: &String| transfer.pieces.iter().any(|pieces| pieces.name == *name);
    let stale: Vec<&str> = facts.incoming.keys().filter(|name| !wanted(name)).map(String::as_str).collect();
    if !stale.is_empty() {
        finish.push(Task::own("Remove what interrupted uploads left", lot::forget(layout, &stale)).tolerated());
    }
    let kept: Vec<ReleaseId> =
        facts.releases.keys().filter(|id| !prune.contains(id)).chain([&common.release]).cloned().collect();
    let each = |phase, act: Act<'_>| {
        gather(&host.steps, phase, layout, facts, &common.release, &seen, false, act).map_err(lacking)
    };
    let old: Vec<(ReleaseId, Task)> =
        prune.iter().filter_map(|id| Some((id.clone(), removal(layout, std::slice::from_ref(id))?))).collect();
    let pruned = each(Phase::Prepare, &|step, context| step.prune(context, &kept, &old))?;
    if pruned.is_empty() {
        finish.extend(removal(layout, &prune));
    }
    finish.extend(pruned);

    let put_back = match &before {
        Some(before) => {
            let either =
                Expected { targets: seen.targets.iter().cloned().chain([new_target]).collect(), missing: false };
            let mut back =
                tasks(&host.steps_before, Phase::Publish, layout, facts, before, &either, true).map_err(lacking)?;
            let mut states = vec![(&common.release, ReleaseState::Failed)];
            states.extend(Some(before).filter(|id| is_good(facts, id)).map(|id| (id, ReleaseState::Live)));
            back.push(state_task("Mark the release failed", layout, &states));
            back
        }
        None => {
            let way_back = match facts.foreign() {
                // Somebody else's release is what users see: it is what they have to see again.
                Some(target) => swap::back_to(layout, target, &new_target),
                None => swap::unpublish(layout, facts.current_target(), &new_target),
            };
            let mut back = vec![way_back];
            back.extend(each(Phase::Publish, &|step, context| step.unpublish(context))?);
            back.push(state_task("Mark the release failed", layout, &[(&common.release, ReleaseState::Failed)]));
            back
        }
    };
    let mut discard = each(Phase::Prepare, &|step, context| step.discard(context, before.is_none()))?;
    if prepare.iter_mut().any(|task| task.detached().is_some()) {
        discard.push(Task::own("Forget what was made in the release", detach::discard(layout, &common.release)));
    }
    let removal = Task::own("Remove what was prepared", record::remove(layout, &[&common.release]));
    Ok(HostPlan {
        host: host.name.clone(),
        layout: layout.clone(),
        before,
        foreign: facts.foreign().map(str::to_owned),
        transfer: Some(transfer),
        prepare,
        publish,
        finish,
        put_back,
        discard,
        removal: Some(removal),
        keeping: Some(interrupted::keep(layout, &common.release)),
        prune,
    })
}

/// Names a detached command by what it works on: the tree and the settings of the host.
fn settle(task: &mut Task, host: &HostInput<'_>) {
    if let Some(detached) = task.detached() {
        let mut tree = host.tree.digest().to_owned();
        for file in &host.settings {
            tree.push_str(&String::from_utf8_lossy(file.path()));
            tree.push_str(&String::from_utf8_lossy(file.contents()));
        }
        *detached = detached.clone().of(&tree, host.facts);
    }
}

/// The releases other than `release` whose state is live: the one that is, and one that a run which died left so.
pub(super) fn called_live<'a>(facts: &'a Facts, release: &'a ReleaseId) -> impl Iterator<Item = &'a ReleaseId> {
    let live = facts
        .releases
        .iter()
        .filter(move |(id, found)| *id != release && found.present && found.state == Some(ReleaseState::Live));
    live.map(|(id, _)| id)
}

pub(super) fn is_good(facts: &Facts, id: &ReleaseId) -> bool {
    facts.releases.get(id).is_some_and(crate::facts::Release::good)
}

pub(super) fn state_task(name: &str, layout: &Layout, states: &[(&ReleaseId, ReleaseState)]) -> Task {
    Task::own(name, record::states(layout, states))
}

/// Removing old releases may fail without harm: the new one is live.
pub(super) fn removal(layout: &Layout, releases: &[ReleaseId]) -> Option<Task> {
    if releases.is_empty() {
        return None;
    }
    let all: Vec<&ReleaseId> = releases.iter().collect();
    let task = Task::own("Remove old releases", record::remove(layout, &all));
    Some(task.tolerated().meanings(&[(1, "files of another user are in the way: remove them once as root")]))
}

fn begin(common: &Common, layout: &Layout) -> Vec<Task> {
    let command = record::begin(layout, &common.release, &common.info);
    vec![Task::own("Begin the release", command)]
}

fn shared_links(common: &Common, host: &HostInput<'_>) -> Vec<Task> {
    let none = Expected::default();
    let directory = host.layout.release(&common.release);
    let context = Context {
        layout: &host.layout,
        facts: host.facts,
        release: &common.release,
        expected: &none,
        phase: Phase::Prepare,
        put_back: false,
        name: "Link shared files",
        directory: &directory,
        environment: &[],
        timeout: None,
        attempts: 1,
        detach: None,
    };
    host.shared.tasks(&context)
}

/// Marks the release complete once it is on the disk. `sync -f` is GNU's and BusyBox's syncfs(2); where it is
/// not known, plain `sync` is right and slower.
fn ready(layout: &Layout, release: &ReleaseId) -> Task {
    let command = Command::shell(format!(
        "sync -f {folder} 2>/dev/null || sync; {}",
        record::write_states(layout, &[(release, ReleaseState::Ready)]),
        folder = quote(&layout.release(release)),
    ));
    Task::own("Mark the release ready", command)
}
