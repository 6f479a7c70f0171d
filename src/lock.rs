//! The deploy lock: flock(2) on a file descriptor of the host's long-lived shell.
//!
//! The kernel frees it when that shell ends, and the shell ends when its run does, so it cannot go stale;
//! `Session::guard` covers a client that vanished without a word. Children never inherit the descriptor.
//! Whoever holds the lock is described in a file beside it, which has no meaning while the lock is free.
//! `ship lock` is another file, [`Layout::hold`], which outlives every run on purpose.

use serde::{Deserialize, Serialize};

use crate::command::{Command, quote};
use crate::layout::Layout;

/// Who holds the lock, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holder {
    /// `user@machine`.
    pub by: String,
    /// When, as RFC 3339 in UTC.
    pub since: String,
    /// What for: `deploy of 1a2b3c4`, or the reason that a person gave.
    pub reason: String,
    /// The page of the CI run, where there is one.
    pub url: Option<String>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} since {} ({})", self.by, self.since, self.reason)?;
        match &self.url {
            Some(url) => write!(f, ", {url}"),
            None => Ok(()),
        }
    }
}

/// What each command of [`acquire`] comes to when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The folders could not be made.
    Folders,
    /// The lock file could not be opened.
    Open,
    /// Somebody else holds the lock.
    Held,
    /// The holder could not be written.
    Record,
}

impl Refusal {
    /// The refusal of the command at `index` of [`acquire`].
    pub fn of(index: usize) -> Self {
        match index {
            0 => Self::Folders,
            1 => Self::Open,
            2 => Self::Held,
            _ => Self::Record,
        }
    }
}

/// Makes ship's folders and takes the lock without waiting. The survey goes in the same batch.
pub fn acquire(layout: &Layout, holder: &Holder) -> Vec<Command> {
    let root = quote(layout.root()).into_owned();
    let record = serde_json::to_string(holder).unwrap_or_default();
    vec![
        Command::subshell(format!(
            "umask 022 && {{ [ -d {root}/releases ] && [ -d {root}/shared ] || mkdir -p {root}/releases {root}/shared; }} && \
             umask 077 && {{ [ -d {root}/.ship/releases ] || mkdir -p {root}/.ship/releases; }} && \
             [ -w {root} ] && [ -w {root}/releases ]"
        )),
        // A failed redirection of `exec` would end the shell (POSIX 2.8.1), so it is tried in a subshell first.
        Command::session(format!(
            "( umask 077; : >>{lock} ) 2>/dev/null && exec 8>>{lock}",
            lock = quote(&layout.lock())
        )),
        Command::session("flock -n 8"),
        Command::subshell(format!("umask 077; printf '%s\\n' {} >{}", quote(&record), quote(&layout.holder()))),
    ]
}

/// Frees the lock while the session lives on.
pub fn release() -> Command {
    Command::session("exec 8>&-")
}

/// Reads who holds the lock.
pub fn holder(layout: &Layout) -> Command {
    Command::argv(["cat", &layout.holder()])
}

/// Whether the lock is free, without taking it: status 0 is free.
pub fn probe(layout: &Layout) -> Command {
    let lock = quote(&layout.lock()).into_owned();
    Command::subshell(format!("[ ! -e {lock} ] || flock -n {lock} true"))
}

/// What [`hold`] ends with where somebody holds the lock already; it has printed who.
pub const HELD: i32 = 75;

/// Sets the lock that outlives the run, unless somebody has.
pub fn hold(layout: &Layout, holder: &Holder) -> Command {
    let record = serde_json::to_string(holder).unwrap_or_default();
    let (records, hold) = (quote(&layout.records()).into_owned(), quote(&layout.hold()).into_owned());
    Command::subshell(format!(
        "umask 022; mkdir -p {root} || exit; umask 077; mkdir -p {records} || exit; \
         [ ! -e {hold} ] || {{ cat {hold}; exit {HELD}; }}; set -C; printf '%s\\n' {record} >{hold}",
        root = quote(layout.root()),
        record = quote(&record),
    ))
}

/// Frees the lock that outlives the run, and prints who held it.
pub fn free(layout: &Layout) -> Command {
    let hold = quote(&layout.hold()).into_owned();
    Command::subshell(format!("[ ! -e {hold} ] || {{ cat {hold} && rm -f {hold}; }}"))
}

/// Reads a holder's line; text that is none becomes a holder that says so.
pub fn parse(line: &str) -> Holder {
    serde_json::from_str(line.trim()).unwrap_or_else(|_| Holder {
        by: "somebody".to_owned(),
        since: "an unknown time".to_owned(),
        ..Holder::default()
    })
}
