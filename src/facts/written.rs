//! Which files `ship setup` wrote on a host: what ship may replace without asking.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How many digests are kept of one file: of what is written now, and of what stood there before.
const KEPT: usize = 2;

/// The record, kept as `.ship/setup.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Written {
    /// SHA-256 digests of what ship wrote, the newest last, by path.
    pub files: BTreeMap<String, Vec<String>>,
    /// Files of a run that did not come to its end: what follows a change of them may not have been done.
    pub unfinished: BTreeSet<String>,
}

impl Written {
    /// Reads a record. One that is missing or damaged knows nothing, so that ship asks about every file.
    pub fn parse(text: &[u8]) -> Self {
        serde_json::from_slice(text).unwrap_or_default()
    }

    /// The text of the record.
    pub fn text(&self) -> String {
        format!("{}\n", serde_json::to_string(self).unwrap_or_default())
    }

    /// Whether ship wrote `contents` to `path`.
    pub fn wrote(&self, path: &str, contents: &[u8]) -> bool {
        self.files.get(path).is_some_and(|digests| digests.contains(&digest(contents)))
    }

    /// Notes that `contents` are written to `path`. The digest before it stays known: the run may end before.
    pub fn note(&mut self, path: &str, contents: &[u8]) {
        let digests = self.files.entry(path.to_owned()).or_default();
        let digest = digest(contents);
        digests.retain(|known| *known != digest);
        digests.push(digest);
        let excess = digests.len().saturating_sub(KEPT);
        digests.drain(..excess);
    }
}

fn digest(contents: &[u8]) -> String {
    Sha256::digest(contents).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_and_what_stood_there_before_are_both_known() {
        let mut written = Written::default();
        for contents in ["one", "two", "two", "three"] {
            written.note("/etc/x", contents.as_bytes());
        }
        let read = Written::parse(written.text().as_bytes());
        assert_eq!(read, written);
        assert!(read.wrote("/etc/x", b"three") && read.wrote("/etc/x", b"two"));
        assert!(!read.wrote("/etc/x", b"one") && !read.wrote("/etc/y", b"two"));
        assert_eq!(Written::parse(b"{\"files\": 3}"), Written::default());
    }
}
