//! How a setup ended, host by host.

use super::setup::Obstruction;
use crate::event::{HostState, HostSummary, Outcome};
use crate::execute::Conclusion;
use crate::execute::host::Stop;
use crate::execute::setup::Progress;
use crate::fleet::Member;
use crate::plan::setup_text::counted;

/// What stands in the way once packages were installed, as how each host ended.
pub fn obstruct(outcomes: &mut [Progress], members: &[Member], obstruction: Obstruction) {
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
pub fn conclude(members: &[Member], outcomes: &[Progress], interrupted: bool) -> Conclusion {
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
    } else if interrupted {
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
