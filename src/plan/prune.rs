//! Which old releases are removed after a deploy.

use std::collections::BTreeSet;

use crate::facts::{DetachedState, Facts};
use crate::layout::ReleaseId;

/// The releases to remove once `release` is live and `before` is its predecessor.
///
/// The live release and its predecessor always stay. Only releases that were once healthy count towards
/// `keep`; every other one that ship made (failed, abandoned by a run that died, rolled back) goes. Folders
/// that ship did not make stay, and so do those in which a detached command still works.
pub fn removable(facts: &Facts, release: &ReleaseId, before: Option<&ReleaseId>, keep: u32) -> Vec<ReleaseId> {
    let good = facts.releases.iter().rev().filter(|(id, found)| found.good() && *id != release).map(|(id, _)| id);
    // The new release is one of those that are kept.
    let others = usize::try_from(keep).unwrap_or(usize::MAX).saturating_sub(1);
    let busy = facts.detached.values().filter(|found| found.state == DetachedState::Runs).map(|found| &found.release);
    let kept: BTreeSet<&ReleaseId> = good.take(others).chain(before).chain([release]).chain(busy).collect();
    facts
        .releases
        .iter()
        .filter(|(id, found)| !kept.contains(id) && (found.state.is_some() || !found.present))
        .map(|(id, _)| id.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Info, Release, ReleaseState};

    fn id(second: u32) -> ReleaseId {
        ReleaseId::new(&format!("20261121T1015{second:02}Z"), "aaaaaaa").expect("an id")
    }

    fn facts(states: &[(u32, Option<ReleaseState>)]) -> Facts {
        let mut facts = Facts::default();
        for (second, state) in states {
            facts.releases.insert(id(*second), Release { present: true, state: *state, info: Info::default() });
        }
        facts
    }

    #[test]
    fn failed_releases_never_push_out_good_ones() {
        use ReleaseState::{Failed, Live, Preparing, Superseded};
        let facts = facts(&[
            (1, Some(Superseded)),
            (2, Some(Superseded)),
            (3, Some(Live)),
            (4, Some(Failed)),
            (5, Some(Failed)),
            (6, Some(Preparing)),
        ]);
        assert_eq!(removable(&facts, &id(9), Some(&id(3)), 3), [id(1), id(4), id(5), id(6)]);
    }

    #[test]
    fn the_live_release_and_its_predecessor_stay_whatever_their_state() {
        use ReleaseState::{Failed, Superseded};
        let facts = facts(&[(1, Some(Superseded)), (2, Some(Failed))]);
        assert_eq!(removable(&facts, &id(9), Some(&id(2)), 1), [id(1)]);
    }

    #[test]
    fn a_release_in_which_something_still_runs_stays() {
        use ReleaseState::Preparing;
        let mut facts = facts(&[(1, Some(Preparing)), (2, Some(Preparing))]);
        for (second, state) in [(1, DetachedState::Runs), (2, DetachedState::Ended(0))] {
            let found = crate::facts::Detached { name: "Build".to_owned(), release: id(second), state };
            facts.detached.insert(second.to_string(), found);
        }
        assert_eq!(removable(&facts, &id(9), None, 1), [id(2)]);
    }

    #[test]
    fn folders_that_ship_did_not_make_stay() {
        assert_eq!(removable(&facts(&[(1, None)]), &id(9), None, 1), []);
    }
}
