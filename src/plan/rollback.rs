//! The plan of a rollback: publishes an older release through the same steps as a deploy.
//!
//! It needs only the servers: no git, no build, no upload.

use std::collections::BTreeSet;

use super::deploy::{batches, called_live, is_good, obstacles_of, state_task};
use super::render::{Act, PlannedStep, gather, tasks};
use super::{HostPlan, Obstacle, Plan};
use crate::event::{Action as RunAction, Phase};
use crate::facts::{Facts, Info, Release, ReleaseState};
use crate::layout::{Layout, ReleaseId};
use crate::step::swap::{self, Expected};

/// What is the same for every host.
#[derive(Clone, Debug)]
pub struct Common {
    /// The application.
    pub app: String,
    /// The environment.
    pub environment: Option<String>,
    /// The release that will be live again.
    pub release: ReleaseId,
    /// The sizes of batches, in order.
    pub batches: Vec<usize>,
    /// How many hosts may fail.
    pub max_failures: usize,
}

/// What is known of one host.
pub struct HostInput<'a> {
    /// Its name in the inventory.
    pub name: String,
    /// Its paths.
    pub layout: Layout,
    /// What it looked like.
    pub facts: &'a Facts,
    /// Its steps for the release to publish.
    pub steps: Vec<PlannedStep>,
    /// Its steps for the release that is live now, for the way back.
    pub steps_before: Vec<PlannedStep>,
}

/// The releases that can be rolled back to, newest first: older than the newest that is live anywhere, healthy
/// once on every host, and not live on all of them already. Where a run died between two batches, the release
/// that some hosts still have is the one that a person wants.
pub fn candidates(facts: &[&Facts]) -> Vec<ReleaseId> {
    let Some(first) = facts.first() else { return Vec::new() };
    let live: BTreeSet<Option<ReleaseId>> = facts.iter().map(|facts| facts.live()).collect();
    let newest = live.last().cloned().flatten();
    first
        .releases
        .keys()
        .rev()
        .filter(|id| newest.as_ref().is_none_or(|newest| *id < newest))
        .filter(|id| facts.iter().all(|facts| is_good(facts, id)))
        .cloned()
        .collect()
}

/// Whether the release was healthy: also the one that a rollback left, so that a rollback can be undone. Nobody
/// lands on that one without having named it.
fn was_healthy(facts: &Facts, id: &ReleaseId) -> bool {
    let left = |release: &Release| release.present && release.state == Some(ReleaseState::RolledBack);
    is_good(facts, id) || facts.releases.get(id).is_some_and(left)
}

/// The release to roll back to: the one that was asked for, or the newest candidate.
pub fn target(wanted: Option<&ReleaseId>, hosts: &[(&str, &Facts)]) -> Result<ReleaseId, Vec<Obstacle>> {
    let facts: Vec<&Facts> = hosts.iter().map(|(_, facts)| *facts).collect();
    let Some(wanted) = wanted else {
        return candidates(&facts).into_iter().next().ok_or_else(|| {
            hosts
                .iter()
                .map(|(host, facts)| {
                    let good: Vec<&str> =
                        facts.releases.iter().filter(|(_, r)| r.good()).map(|(id, _)| id.as_str()).collect();
                    let has = if good.is_empty() { "none".to_owned() } else { good.join(", ") };
                    Obstacle::new(
                        host,
                        format!("no older release was healthy on every host; healthy here: {has}"),
                        Some("`ship releases` lists all of them; `ship rollback --to RELEASE` names one".to_owned()),
                    )
                })
                .collect()
        });
    };
    let missing: Vec<Obstacle> = hosts
        .iter()
        .filter(|(_, facts)| !was_healthy(facts, wanted))
        .map(|(host, facts)| {
            let text = match facts.releases.get(wanted) {
                Some(release) if release.present => format!(
                    "release {wanted} was never healthy here (state: {})",
                    release.state.map_or("unknown", ReleaseState::name)
                ),
                _ => format!("release {wanted} is not there"),
            };
            let has: Vec<String> = candidates(&[*facts]).iter().map(ToString::to_string).collect();
            Obstacle::new(host, text, (!has.is_empty()).then(|| format!("it could go back to {}", has.join(", "))))
        })
        .collect();
    if missing.is_empty() { Ok(wanted.clone()) } else { Err(missing) }
}

/// What is recorded of the target on the first host that knows.
pub fn info(target: &ReleaseId, facts: &[&Facts]) -> Info {
    facts.iter().find_map(|facts| facts.releases.get(target)).map(|release| release.info.clone()).unwrap_or_default()
}

/// Makes the plan, or names everything that stands in its way.
pub fn plan(common: &Common, info: Info, hosts: Vec<HostInput<'_>>) -> Result<Plan, Vec<Obstacle>> {
    let mut plans = Vec::new();
    let mut obstacles = Vec::new();
    for host in hosts {
        obstacles.extend(obstacles_of(&host.name, &host.layout, host.facts));
        match host_plan(common, &host) {
            Ok(plan) => plans.push(plan),
            Err(lacking) => obstacles.extend(lacking.into_iter().map(|text| Obstacle::new(&host.name, text, None))),
        }
    }
    if !obstacles.is_empty() {
        return Err(obstacles);
    }
    Ok(Plan {
        action: RunAction::Rollback,
        app: common.app.clone(),
        environment: common.environment.clone(),
        release: common.release.clone(),
        revision: info.revision,
        description: info.description,
        batches: batches(&common.batches, plans.len()),
        max_failures: common.max_failures,
        hosts: plans,
    })
}

fn host_plan(common: &Common, host: &HostInput<'_>) -> Result<HostPlan, Vec<String>> {
    let (layout, facts) = (&host.layout, host.facts);
    let before = facts.live().filter(|live| facts.releases.get(live).is_some_and(|release| release.present));
    let mut seen =
        Expected { targets: facts.current_target().map(str::to_owned).into_iter().collect(), missing: false };
    seen.missing = seen.targets.is_empty();
    let mut publish = tasks(&host.steps, Phase::Publish, layout, facts, &common.release, &seen, false)?;
    let mut states = vec![(&common.release, ReleaseState::Live)];
    let left = before.as_ref().filter(|before| **before != common.release);
    let others = called_live(facts, &common.release).filter(|id| Some(*id) != left);
    states.extend(others.map(|id| (id, ReleaseState::Superseded)));
    // Forward again, to a release that a rollback left, is no verdict on the one in between.
    let verdict = |before: &ReleaseId| {
        if *before > common.release { ReleaseState::RolledBack } else { ReleaseState::Superseded }
    };
    states.extend(left.filter(|before| is_good(facts, before)).map(|before| (before, verdict(before))));
    publish.push(state_task("Mark the release live", layout, &states));

    let mut put_back = Vec::new();
    if let Some(before) = left {
        let target = layout.release_target(&common.release);
        let either = Expected { targets: seen.targets.iter().cloned().chain([target]).collect(), missing: false };
        put_back = tasks(&host.steps_before, Phase::Publish, layout, facts, before, &either, true)?;
        let state = |id| facts.releases.get(id).and_then(|release| release.state).unwrap_or(ReleaseState::Ready);
        let states = [(before, state(before)), (&common.release, state(&common.release))];
        put_back.push(state_task("Mark the release from before", layout, &states));
    } else if before.is_none() {
        let target = layout.release_target(&common.release);
        put_back.push(match facts.foreign() {
            Some(foreign) => swap::back_to(layout, foreign, &target),
            None => swap::unpublish(layout, facts.current_target(), &target),
        });
        let unpublish: Act<'_> = &|step, context| step.unpublish(context);
        let made = gather(&host.steps, Phase::Publish, layout, facts, &common.release, &seen, false, unpublish)?;
        put_back.extend(made);
        let state = facts.releases.get(&common.release).and_then(|release| release.state);
        let state = state.unwrap_or(ReleaseState::Ready);
        put_back.push(state_task("Mark the release as before", layout, &[(&common.release, state)]));
    }
    Ok(HostPlan {
        host: host.name.clone(),
        layout: layout.clone(),
        before,
        foreign: facts.foreign().map(str::to_owned),
        transfer: None,
        prepare: Vec::new(),
        publish,
        finish: Vec::new(),
        put_back,
        discard: Vec::new(),
        removal: None,
        keeping: None,
        prune: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Current;

    fn id(second: u32) -> ReleaseId {
        ReleaseId::new(&format!("20261121T1015{second:02}Z"), "aaaaaaa").expect("an id")
    }

    fn facts(live: u32, states: &[(u32, ReleaseState)]) -> Facts {
        let mut facts = Facts {
            current: Current::Link { target: format!("releases/{}", id(live)), exists: true },
            ..Facts::default()
        };
        for (second, state) in states {
            let release = Release { present: true, state: Some(*state), info: Info::default() };
            facts.releases.insert(id(*second), release);
        }
        facts
    }

    use ReleaseState::{Failed, Live, Preparing, Ready, RolledBack, Superseded};

    #[test]
    fn a_rollback_never_lands_on_a_release_that_failed_or_was_never_finished() {
        let host = facts(4, &[(1, Superseded), (2, Failed), (3, Preparing), (4, Live)]);
        assert_eq!(candidates(&[&host]), [id(1)]);
    }

    #[test]
    fn after_a_failed_deploy_the_live_release_is_not_its_own_rollback() {
        let host = facts(2, &[(1, Superseded), (2, Live), (3, Failed)]);
        assert_eq!(candidates(&[&host]), [id(1)]);
    }

    #[test]
    fn the_target_was_healthy_on_every_host() {
        let one = facts(3, &[(1, Superseded), (2, Superseded), (3, Live)]);
        let other = facts(3, &[(1, Superseded), (2, Failed), (3, Live)]);
        assert_eq!(candidates(&[&one, &other]), [id(1)]);
        let refused = target(Some(&id(2)), &[("web1", &one), ("web2", &other)]).expect_err("web2 never had it healthy");
        assert_eq!(refused.iter().map(|o| o.host.as_str()).collect::<Vec<_>>(), ["web2"]);
    }

    #[test]
    fn a_release_that_a_rollback_left_is_gone_to_only_by_name() {
        let host = facts(1, &[(1, Live), (2, RolledBack)]);
        assert!(target(None, &[("web1", &host)]).is_err());
        assert_eq!(target(Some(&id(2)), &[("web1", &host)]), Ok(id(2)));
    }

    #[test]
    fn with_one_release_there_is_nothing_to_go_back_to() {
        let host = facts(1, &[(1, Live)]);
        assert!(target(None, &[("web1", &host)]).is_err());
    }

    #[test]
    fn a_fleet_that_was_left_mixed_goes_back_to_what_all_of_it_had() {
        let switched = facts(2, &[(1, Superseded), (2, Live)]);
        let behind = facts(1, &[(1, Live), (2, Ready)]);
        assert_eq!(candidates(&[&switched, &behind]), [id(1)]);
    }

    #[test]
    fn two_rollbacks_in_a_row_go_further_back() {
        let host = facts(2, &[(1, Superseded), (2, Live), (3, RolledBack)]);
        assert_eq!(candidates(&[&host]), [id(1)]);
    }
}
