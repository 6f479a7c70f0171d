//! Commands that keep ship's own records on a host: states of releases and the history.

use serde::{Deserialize, Serialize};

use crate::command::{Command, quote};
use crate::event::Action;
use crate::facts::{Info, ReleaseState};
use crate::layout::{Layout, ReleaseId};

/// Makes the record and the folder of a new release. The status is not 0 where either is there already:
/// an id is never reused.
pub fn begin(layout: &Layout, release: &ReleaseId, info: &Info) -> Command {
    let info = serde_json::to_string(info).unwrap_or_default();
    Command::subshell(format!(
        "umask 077 && mkdir {record} && printf '%s\\n' {info} >{record}/info && printf 'preparing\\n' >{record}/state && umask 022 && mkdir {folder}",
        record = quote(&layout.record(release)),
        folder = quote(&layout.release(release)),
        info = quote(&info),
    ))
}

/// Writes the states of releases, each by rename, so that none is ever half written.
pub fn states(layout: &Layout, states: &[(&ReleaseId, ReleaseState)]) -> Command {
    Command::subshell(write_states(layout, states))
}

/// The text of [`states`], for commands that do more.
pub(super) fn write_states(layout: &Layout, states: &[(&ReleaseId, ReleaseState)]) -> String {
    let writes: Vec<String> = states
        .iter()
        .map(|(release, state)| {
            let record = layout.record(release);
            format!(
                "printf '{}\\n' >{new} && mv -f {new} {state}",
                state.name(),
                new = quote(&format!("{record}/state.new")),
                state = quote(&format!("{record}/state")),
            )
        })
        .collect();
    format!("umask 077; {}", writes.join(" && "))
}

/// Removes releases and their records. Records go last, so that a release whose folder could not be
/// removed is still known.
pub fn remove(layout: &Layout, releases: &[&ReleaseId]) -> Command {
    let folders = releases.iter().map(|id| quote(&layout.release(id)).into_owned()).collect::<Vec<_>>().join(" ");
    let records = releases.iter().map(|id| quote(&layout.record(id)).into_owned()).collect::<Vec<_>>().join(" ");
    Command::shell(format!("rm -rf {folders} && exec rm -rf {records}"))
}

/// A line of the history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryEntry {
    /// When the run ended, as RFC 3339 in UTC. A single host writes it down by itself: there, when its last commands
    /// were sent.
    pub time: String,
    /// What was done.
    pub action: Option<Action>,
    /// The environment.
    pub environment: Option<String>,
    /// The release.
    pub release: String,
    /// What it was made from.
    pub revision: String,
    /// Branch, author and title, for people.
    pub description: String,
    /// `user@machine`.
    pub by: String,
    /// The page of the CI run, where there is one.
    pub url: Option<String>,
    /// The outcome of the run: `done`, `failed`, `needs_person`, `interrupted`.
    pub outcome: String,
    /// The state of this host.
    pub state: String,
    /// Why, where something went wrong.
    pub why: Option<String>,
    /// The release that was live before.
    pub before: Option<String>,
    /// How long the run took until `time`, in milliseconds.
    pub millis: u64,
}

impl HistoryEntry {
    /// The entry as a line of the history.
    pub fn line(&self) -> String {
        format!("{}\n", serde_json::to_string(self).unwrap_or_default())
    }
}

/// Appends to the history. One short `printf` is one write(2), so lines of two runs cannot mix.
pub fn append_history(layout: &Layout, entry: &HistoryEntry) -> Command {
    let line = serde_json::to_string(entry).unwrap_or_default();
    Command::subshell(format!("umask 077; printf '%s\\n' {} >>{}", quote(&line), quote(&layout.history())))
}
