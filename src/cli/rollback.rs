//! `ship rollback`: publishes an older release that was healthy on every host. Needs only the servers.

use super::args::{Global, RollbackArgs};
use super::deploy::batch;
use super::machine::Machine;
use super::operation::{self, Beginning, Fleet, holder, question, release_facts};
use super::project::{Project, problems};
use super::stage::close;
use crate::document::Problems;
use crate::error::Error;
use crate::event::{Action, Event};
use crate::facts::Facts;
use crate::fleet;
use crate::layout::ReleaseId;
use crate::plan::render::Filter;
use crate::plan::rollback::{Common, HostInput, info, plan, target};
use crate::plan::{Obstacle, Plan, show};

/// `ship rollback`.
pub async fn run(
    global: &Global,
    machine: &Machine,
    args: &RollbackArgs,
    options: &[(String, Option<String>)],
) -> Result<(), Error> {
    let change = &args.change;
    let wanted = match &args.to {
        None => None,
        Some(text) => Some(ReleaseId::parse(text).ok_or_else(|| {
            Error::usage(format!("{text:?} is not the name of a release")).hint("`ship releases` lists them")
        })?),
    };
    let filter = Filter { skip: change.skip.clone(), only: change.only.clone(), setup: false };
    let project = Project::load(global, machine, &change.select, filter, options)?;
    let sizes = batch(change, &project)?.sizes(project.selection.hosts.len());
    let to = wanted.as_ref().map_or("the newest older healthy release".to_owned(), ToString::to_string);
    if !change.dry_run {
        operation::confirm(&project, machine, change.yes, &format!("Roll back to {to}"))?;
    }
    let beginning = Beginning {
        action: Action::Rollback,
        transcript: !change.dry_run,
        revision: None,
        description: Some(to.clone()),
    };
    let stage = operation::begin(global, machine, &project, beginning).await?;
    let targets = project.targets(|host| !change.dry_run && project.needs_sudo(host));
    let members = match stage.connect(targets).await {
        Ok(members) => members,
        Err(refused) => return stage.refuse(refused).await,
    };
    let questions = project
        .selection
        .hosts
        .iter()
        .map(|host| Ok(question(&project.steps_to_check(host)?, Vec::new(), None)))
        .collect::<Result<Vec<_>, Problems>>()
        .map_err(|found| problems(&found, false))?;
    let holder = holder(machine, &format!("rollback to {to}"));
    let patience = change.lock_wait.unwrap_or_default();
    let (facts, refused) = if change.dry_run {
        fleet::look(&members, &questions).await
    } else {
        tokio::select! {
            found = fleet::lock_and_look(&members, &questions, &holder, patience, &stage.sink) => found,
            () = stage.cancel.cancelled() => (Vec::new(), Vec::new()),
        }
    };
    if !refused.is_empty() || stage.cancel.is_cancelled() {
        close(&members).await;
        return stage.refuse(refused).await;
    }
    let max_failures = change.max_failures.unwrap_or(project.selection.max_failures);
    let plan =
        match decide(&project, wanted.as_ref(), &facts, sizes, usize::try_from(max_failures).unwrap_or(usize::MAX)) {
            Ok(plan) => plan,
            Err(Stop::Obstacles(obstacles)) => {
                close(&members).await;
                return stage.obstruct(obstacles).await;
            }
            Err(Stop::Problems(found)) => {
                close(&members).await;
                return stage.fail(problems(&found, false)).await;
            }
        };
    stage.sink.emit(Event::ReleaseChosen { release: plan.release.to_string() }).await;
    if change.dry_run {
        close(&members).await;
        return stage.show(global, &show::text(&plan, global.verbose)).await;
    }
    operation::carry_out(stage, machine, plan, Fleet { members, holder, patience }, change.timing).await
}

enum Stop {
    Obstacles(Vec<Obstacle>),
    Problems(Problems),
}

fn decide(
    project: &Project,
    wanted: Option<&ReleaseId>,
    facts: &[Facts],
    batches: Vec<usize>,
    max_failures: usize,
) -> Result<Plan, Stop> {
    let hosts = &project.selection.hosts;
    let named: Vec<(&str, &Facts)> = hosts.iter().map(|host| host.name.as_str()).zip(facts).collect();
    let release = target(wanted, &named).map_err(Stop::Obstacles)?;
    let all: Vec<&Facts> = facts.iter().collect();
    let known = info(&release, &all);
    let common = Common {
        app: project.inventory.app.clone(),
        environment: project.selection.environment.clone(),
        release: release.clone(),
        batches,
        max_failures,
    };
    let mut inputs = Vec::new();
    for (host, facts) in hosts.iter().zip(facts) {
        let to = release_facts(Some(release.clone()), facts);
        let before = release_facts(facts.live(), facts);
        inputs.push(HostInput {
            name: host.name.clone(),
            layout: Project::layout(host),
            facts,
            steps: project.steps(host, &to).map_err(Stop::Problems)?,
            steps_before: project.steps(host, &before).map_err(Stop::Problems)?,
        });
    }
    plan(&common, known, inputs).map_err(Stop::Obstacles)
}
