//! How far each host came, and how a run ended.

use crate::event::{HostState, HostSummary, Outcome};
use crate::plan::Plan;

/// How far a host has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing that users see was changed.
    Untouched,
    /// `publish` began.
    Publishing,
    /// `publish` ended well.
    Published,
    /// The release from before is live again.
    PutBack,
    /// Neither.
    Unknown,
}

/// How far it has come, and why no further.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// How far.
    pub(super) progress: Progress,
    /// Why no further, where something went wrong.
    pub(super) why: Option<String>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conclusion {
    /// How.
    pub outcome: Outcome,
    /// A row for each host.
    pub hosts: Vec<HostSummary>,
    /// What to do next.
    pub hints: Vec<String>,
}

/// The word of the history for how a run ended.
pub fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Failed => "failed",
        Outcome::Refused => "refused",
        Outcome::NeedsPerson => "needs_person",
        Outcome::Interrupted => "interrupted",
    }
}

/// What the standings of all hosts come to.
pub(super) fn conclude(plan: &Plan, outcome: Outcome, standings: &[Standing]) -> Conclusion {
    let hosts: Vec<HostSummary> = plan
        .hosts
        .iter()
        .zip(standings)
        .map(|(host, standing)| {
            let before = host.live_before();
            let (state, after) = match standing.progress {
                Progress::Untouched => (HostState::Unchanged, before.clone()),
                Progress::Published => (HostState::Live, Some(plan.release.to_string())),
                Progress::PutBack => (HostState::PutBack, before.clone()),
                Progress::Publishing | Progress::Unknown => (HostState::Unknown, None),
            };
            let commands = if state == HostState::Unknown { host.by_hand() } else { Vec::new() };
            HostSummary { host: host.host.clone(), before, after, state, why: standing.why.clone(), commands }
        })
        .collect();
    let unknown = hosts.iter().any(|host| host.state == HostState::Unknown);
    let outcome = match outcome {
        // Stopped at once, yet no host was between two states.
        Outcome::NeedsPerson if !unknown => Outcome::Interrupted,
        _ if unknown => Outcome::NeedsPerson,
        other => other,
    };
    let mut hints = Vec::new();
    if unknown {
        hints.push("`ship status` shows what is live where; the commands above put a host back by hand".to_owned());
    }
    Conclusion { outcome, hosts, hints }
}
