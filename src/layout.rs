//! Where things are on a host: releases, `current`, `shared` and ship's own records.
//!
//! Deliberately absent: what to do there (`plan`, `step`).

use std::fmt;

/// The name of a release: UTC time and short revision, for example `20261121T101500Z-1a2b3c4`.
///
/// Ids sort by time and are never reused. They are made of `[A-Za-z0-9.-]` alone, so they are safe in
/// paths, links and commands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReleaseId(String);

impl ReleaseId {
    /// Reads a name that a host or a user gave; `None` where it is no release id.
    pub fn parse(text: &str) -> Option<Self> {
        let shaped = |(index, byte): (usize, u8)| match index {
            8 => byte == b'T',
            15 => byte == b'Z',
            16 => byte == b'-',
            0..=14 => byte.is_ascii_digit(),
            _ => byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.',
        };
        let valid = (18..=64).contains(&text.len()) && text.bytes().enumerate().all(shaped);
        valid.then(|| Self(text.to_owned()))
    }

    /// The id of a release made at `time` (`YYYYMMDDTHHMMSSZ`) from `revision`, of which the first seven
    /// characters that a name may have are kept.
    pub fn new(time: &str, revision: &str) -> Option<Self> {
        let short: String = revision.chars().filter(char::is_ascii_alphanumeric).take(7).collect();
        Self::parse(&format!("{time}-{}", if short.is_empty() { "0" } else { &short }))
    }

    /// When it was made, as RFC 3339 in UTC.
    pub fn time(&self) -> String {
        let part = |range: std::ops::Range<usize>| self.0.get(range).unwrap_or_default();
        let (date, clock) = ([part(0..4), part(4..6), part(6..8)], [part(9..11), part(11..13), part(13..15)]);
        format!("{}T{}Z", date.join("-"), clock.join(":"))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ReleaseId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is not the name of a release"))
    }
}

impl From<ReleaseId> for String {
    fn from(id: ReleaseId) -> Self {
        id.0
    }
}

/// The paths of one application on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: String,
}

impl Layout {
    /// The layout under `deploy_to`, an absolute path.
    pub fn new(deploy_to: &str) -> Self {
        Self { root: deploy_to.trim_end_matches('/').to_owned() }
    }

    /// `deploy_to` itself.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The link to the live release.
    pub fn current(&self) -> String {
        format!("{}/current", self.root)
    }

    /// The folder of all releases.
    pub fn releases(&self) -> String {
        format!("{}/releases", self.root)
    }

    /// The folder of one release.
    pub fn release(&self, id: &ReleaseId) -> String {
        format!("{}/releases/{id}", self.root)
    }

    /// What `current` points at for a release: relative, so that it stays right in chroots and bind mounts.
    pub fn release_target(&self, id: &ReleaseId) -> String {
        format!("releases/{id}")
    }

    /// What outlives releases.
    pub fn shared(&self) -> String {
        format!("{}/shared", self.root)
    }

    /// ship's own records, mode 0700.
    pub fn records(&self) -> String {
        format!("{}/.ship", self.root)
    }

    /// What ship knows of one release: `state`, `manifest`.
    pub fn record(&self, id: &ReleaseId) -> String {
        format!("{}/.ship/releases/{id}", self.root)
    }

    /// The file whose flock(2) is the deploy lock.
    pub fn lock(&self) -> String {
        format!("{}/.ship/lock", self.root)
    }

    /// Who holds the deploy lock, as one JSON line.
    pub fn holder(&self) -> String {
        format!("{}/.ship/holder", self.root)
    }

    /// The lock that a person set with `ship lock`: it outlives the run, as one JSON line.
    pub fn hold(&self) -> String {
        format!("{}/.ship/hold", self.root)
    }

    /// What `ship setup` wrote on the host.
    pub fn written(&self) -> String {
        format!("{}/.ship/setup.json", self.root)
    }

    /// What was done here, one JSON line each.
    pub fn history(&self) -> String {
        format!("{}/.ship/history.jsonl", self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_ids_are_read_back_and_nothing_else_is() {
        let id = ReleaseId::new("20261121T101500Z", "1a2b3c4d5e6f").map(|id| id.to_string());
        assert_eq!(id.as_deref(), Some("20261121T101500Z-1a2b3c4"));
        let time = id.and_then(|id| ReleaseId::parse(&id)).map(|id| id.time());
        assert_eq!(time.as_deref(), Some("2026-11-21T10:15:00Z"));
        for other in
            ["", "current", "20261121101500", "20261121T101500Z-", "20261121T101500Z-a/b", "../../etc/passwd-aaaaaa"]
        {
            assert_eq!(ReleaseId::parse(other), None, "{other}");
        }
    }

    #[test]
    fn ids_sort_by_time() {
        let ids = [ReleaseId::new("20261121T101500Z", "fff"), ReleaseId::new("20261121T101501Z", "000")];
        assert!(ids.is_sorted());
    }
}
