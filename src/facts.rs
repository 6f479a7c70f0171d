//! What a host looked like before the plan was made: the survey and its parser.
//!
//! The survey is read-only and one round trip. It prints `key value` lines, so that every `if` is Rust.
//! Deliberately absent: deciding anything (`plan`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::artifact::path::above;
use crate::layout::ReleaseId;

mod detached;

pub use detached::{Detached, DetachedState};
pub use survey::Survey;
pub mod found;
pub mod images;
mod interrupted;
pub mod placeholders;
pub mod survey;
pub mod written;

/// The state of a release, kept in `.ship/releases/<id>/state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseState {
    /// It is being made, or the run that made it died.
    Preparing,
    /// It is complete and was never confirmed healthy.
    Ready,
    /// It is live and passed its checks.
    Live,
    /// It was live and healthy until another release followed.
    Superseded,
    /// It was published, failed its checks and was put back.
    Failed,
    /// It was live until a person rolled back from it.
    RolledBack,
}

impl ReleaseState {
    /// The word in the state file and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Live => "live",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
        }
    }

    /// Reads the word of a state file. A word that is cut or unknown is no state.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Preparing, Self::Ready, Self::Live, Self::Superseded, Self::Failed, Self::RolledBack]
            .into_iter()
            .find(|state| state.name() == word)
    }

    /// Whether the release once passed its checks: only these are targets of a rollback and count when old
    /// releases are removed.
    pub fn good(self) -> bool {
        matches!(self, Self::Live | Self::Superseded)
    }
}

/// What is known of a release beside its state, kept in `.ship/releases/<id>/info`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Info {
    /// The full commit id, or the digest of an artifact.
    pub revision: String,
    /// Branch, author and title, for people.
    pub description: String,
    /// The branch, where it was made from one.
    pub branch: String,
    /// The author of the commit.
    pub author: String,
    /// The title of the commit.
    pub title: String,
    /// Who made it.
    pub by: String,
}

/// A release on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Whether its folder is there.
    pub present: bool,
    /// Its state; `None` where ship did not make it or its record is unreadable.
    pub state: Option<ReleaseState>,
    /// What is known of it.
    pub info: Info,
}

impl Release {
    /// Whether it can be published again.
    pub fn good(&self) -> bool {
        self.present && self.state.is_some_and(ReleaseState::good)
    }
}

/// What `current` is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Current {
    /// There is none.
    #[default]
    Missing,
    /// A link to this.
    Link {
        /// What it points at, as it stands in the link.
        target: String,
        /// Whether that exists.
        exists: bool,
    },
    /// A file or folder, which ship never touches.
    Other,
}

/// Everything the survey found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The login user.
    pub user: String,
    /// Programs and where they are.
    pub programs: BTreeMap<String, String>,
    /// Whether `/bin/sh` is dash, BusyBox or the like, which read their program in blocks and hand what stands in it to
    /// commands through pipes. Others read it byte by byte, and write that to a temporary file first.
    pub plain_shell: bool,
    /// Whether `cp` has the options of GNU coreutils: it makes clones where the file system can, and links.
    pub gnu_cp: bool,
    /// Free space where releases go, in KiB, where `df` says.
    pub free_kib: Option<u64>,
    /// The nearest folder of `deploy_to` that exists.
    pub nearest: String,
    /// Whether the login user may write there.
    pub writable: bool,
    /// What `current` is.
    pub current: Current,
    /// Every release, by id.
    pub releases: BTreeMap<ReleaseId, Release>,
    /// The shared files and folders that exist, of those that were asked for.
    pub shared: BTreeSet<String>,
    /// Whether the deploy lock is there and the login user may take it.
    pub lockable: bool,
    /// The files that can be read, of those that were asked for.
    pub readable: BTreeSet<String>,
    /// The keys of shared settings files in which a placeholder was left, by file.
    pub placeholders: BTreeMap<String, Vec<String>>,
    /// How the services of releases of containers are replaced, as a step wrote it down.
    pub services: BTreeMap<ReleaseId, String>,
    /// The detached commands that it knows of, by key.
    pub detached: BTreeMap<String, Detached>,
    /// What the host's Docker has, where that was asked and it answered.
    pub images: Option<images::Images>,
    /// The text of the lock that a person set, where there is one.
    pub hold: Option<String>,
    /// The last lines of the history, oldest first.
    pub history: Vec<String>,
    /// The manifest of the live release, where every file of it was verified.
    pub manifest: Bytes,
    /// Its SHA-256, in place of the text, where the host was told that this machine has that.
    pub known_manifest: Option<String>,
    /// The chunks of its large files, where it has any.
    pub chunks: Vec<u8>,
    /// What cut uploads left of very large files, by their SHA-256: where each piece begins, and its bytes.
    pub incoming: BTreeMap<String, Vec<(u64, u64)>>,
    /// The files of releases that were never finished: the SHA-256 of each by its path.
    pub interrupted: BTreeMap<ReleaseId, BTreeMap<String, String>>,
    /// How long an answer takes, as far as that was seen.
    pub round_trip: Option<Duration>,
    /// Paths of the live release that were changed since, by the application or by hand. A folder, where what
    /// it holds was; the empty path is the release itself.
    pub touched: BTreeSet<Vec<u8>>,
    /// What the touched folders hold.
    pub listed: BTreeSet<Vec<u8>>,
}

/// Programs that every deploy needs on a host.
pub const NEEDED: &[&str] = &["tar", "timeout", "flock", "sha256sum", "xargs", "readlink", "mktemp"];

impl Facts {
    /// Reads the outputs of [`Survey::commands`]. Lines that make no sense are left out: they come from a host.
    pub fn parse(outputs: &[Vec<u8>]) -> Self {
        let mut facts = Self::default();
        let text = outputs.first().map(|output| String::from_utf8_lossy(output)).unwrap_or_default();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            match line {
                survey::FREE => {
                    facts.free_kib = available(lines.by_ref().take_while(|line| *line != survey::END));
                }
                survey::HISTORY => facts.history.extend(lines.by_ref().map(str::to_owned)),
                line => {
                    let (key, value) = line.split_once(' ').unwrap_or((line, ""));
                    facts.take(key, value);
                }
            }
        }
        let lists = outputs.get(1).map(Vec::as_slice).unwrap_or_default();
        // No line of a manifest begins like the first of the chunks.
        let first_line = chunks_at(lists).unwrap_or(lists.len());
        let (manifest, chunks) = lists.split_at_checked(first_line).unwrap_or_default();
        facts.chunks = chunks.to_vec();
        match manifest.strip_prefix(survey::KNOWN.as_bytes()).map(<[u8]>::trim_ascii_end).map(str::from_utf8) {
            Some(Ok(digest)) => facts.known_manifest = Some(digest.to_owned()),
            _ => facts.manifest = Bytes::copy_from_slice(manifest),
        }
        let touched = outputs.get(2).map(Vec::as_slice).unwrap_or_default();
        if touched.is_empty() {
            // The host could not tell what: everything may have been.
            facts.touched.insert(Vec::new());
        }
        for path in touched.split(|byte| *byte == 0) {
            let (set, path) = match path.strip_prefix(survey::TOUCHED.as_bytes()) {
                Some(path) => (&mut facts.touched, path),
                None => (&mut facts.listed, path),
            };
            set.extend(path.strip_prefix(b"current/").map(<[u8]>::to_vec));
        }
        facts
    }

    /// Whether what the live release has at `path` may be another thing than what was sent: it or a folder above
    /// it was changed, replaced or removed.
    pub fn may_differ(&self, path: &[u8]) -> bool {
        let mut folder: &[u8] = b"";
        for part in above(path).chain([path]) {
            if self.touched.contains(folder) && !self.listed.contains(part) {
                return true;
            }
            folder = part;
        }
        self.touched.contains(path)
    }

    /// Whether what the live release has at `path` may have been put in the place of what was sent, with the times that
    /// it had elsewhere: the folder that it is in was changed, or one above it, which may be another one itself.
    pub fn may_be_replaced(&self, path: &[u8]) -> bool {
        let mut folders = above(path).peekable();
        if folders.peek().is_none() {
            return self.touched.contains(&b""[..]);
        }
        folders.any(|folder| self.touched.contains(folder))
    }

    /// Whether what a command reads can travel with it: quickly, and with nothing but memory needed.
    pub fn can_inline(&self) -> bool {
        self.plain_shell && self.gnu_cp && self.program("base64").is_some()
    }

    fn take(&mut self, key: &str, value: &str) {
        match key {
            "user" => self.user = value.to_owned(),
            "program" => {
                if let Some((name, path)) = value.split_once(' ')
                    && path.starts_with('/')
                {
                    self.programs.insert(name.to_owned(), path.to_owned());
                }
            }
            "plain_shell" => self.plain_shell = true,
            "gnu_cp" => self.gnu_cp = true,
            "nearest" => self.nearest = value.to_owned(),
            "writable" => self.writable = true,
            "current" => self.current = Current::Link { target: value.to_owned(), exists: false },
            "current_exists" => {
                if let Current::Link { exists, .. } = &mut self.current {
                    *exists = true;
                }
            }
            "current_other" => self.current = Current::Other,
            "release" => {
                if let Some(id) = ReleaseId::parse(value) {
                    self.release_mut(id).present = true;
                }
            }
            "state" => {
                if let Some((id, word)) = value.split_once(' ')
                    && let Some(id) = ReleaseId::parse(id)
                {
                    self.release_mut(id).state = ReleaseState::parse(word);
                }
            }
            "info" => {
                if let Some((id, json)) = value.split_once(' ')
                    && let Some(id) = ReleaseId::parse(id)
                    && let Ok(info) = serde_json::from_str(json)
                {
                    self.release_mut(id).info = info;
                }
            }
            "incoming" => {
                if let Some((name, length)) = value.split_once(' ')
                    && let Some((name, offset)) = name.split_once('.')
                    && name.len() == 64
                    && name.bytes().all(|byte| byte.is_ascii_hexdigit())
                    && let (Ok(offset), Ok(length)) = (offset.parse(), length.trim().parse())
                {
                    self.incoming.entry(name.to_owned()).or_default().push((offset, length));
                }
            }
            "whole" => {
                if let Some((id, path, sum)) = interrupted::read(value) {
                    self.interrupted.entry(id).or_default().insert(path, sum);
                }
            }
            "placeholder" => {
                if let Some((key, file)) = value.split_once(' ') {
                    self.placeholders.entry(file.to_owned()).or_default().push(key.to_owned());
                }
            }
            "services" => {
                if let Some((id, json)) = value.split_once(' ')
                    && let Some(id) = ReleaseId::parse(id)
                {
                    self.services.insert(id, json.to_owned());
                }
            }
            "shared" => {
                self.shared.insert(value.to_owned());
            }
            "lockable" => self.lockable = true,
            "readable" => {
                self.readable.insert(value.to_owned());
            }
            "hold" => self.hold = Some(value.to_owned()),
            "detached" => self.detached.extend(detached::read(value)),
            _ => {}
        }
    }

    fn release_mut(&mut self, id: ReleaseId) -> &mut Release {
        self.releases.entry(id).or_insert(Release { present: false, state: None, info: Info::default() })
    }

    /// Where `program` is, where the survey asked for it and found it.
    pub fn program(&self, program: &str) -> Option<&str> {
        self.programs.get(program).map(String::as_str)
    }

    /// The release that `current` points at, where it is one.
    pub fn live(&self) -> Option<ReleaseId> {
        match &self.current {
            Current::Link { target, .. } => ReleaseId::parse(target.trim_end_matches('/').rsplit('/').next()?),
            Current::Missing | Current::Other => None,
        }
    }

    /// What `current` points at, where that is there and no release of ship.
    pub fn foreign(&self) -> Option<&str> {
        let known = self.live().is_some_and(|live| self.releases.get(&live).is_some_and(|release| release.present));
        match &self.current {
            Current::Link { target, exists: true } if !known => Some(target),
            _ => None,
        }
    }

    /// What `current` points at, as it stands in the link.
    pub fn current_target(&self) -> Option<&str> {
        match &self.current {
            Current::Link { target, .. } => Some(target),
            Current::Missing | Current::Other => None,
        }
    }

    /// The needed programs that are missing.
    pub fn missing(&self) -> Vec<&'static str> {
        NEEDED.iter().copied().filter(|program| self.program(program).is_none()).collect()
    }
}

/// What a table of df(1) with `-P` says is available (XCU, df).
fn available<'a>(mut lines: impl Iterator<Item = &'a str>) -> Option<u64> {
    let row = lines.nth(1);
    // The rest of the table is of no use, and not of the next one.
    lines.for_each(drop);
    row?.split_whitespace().nth(3)?.parse().ok()
}

/// Where the chunks begin among the lists of the live release.
fn chunks_at(lists: &[u8]) -> Option<usize> {
    const FIRST: &[u8] = b"ship chunks ";
    if lists.starts_with(FIRST) {
        return Some(0);
    }
    lists.windows(FIRST.len() + 1).position(|bytes| bytes.strip_prefix(b"\n") == Some(FIRST)).map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survey_is_read_and_nonsense_in_it_is_left_out() {
        let host = b"user deployer\nprogram tar /usr/bin/tar\nprogram flock alias flock=x\nprogram base64 /bin/base64\nplain_shell\nprogram useless \nnearest /var/www\nwritable\ndf\nFilesystem 1024-blocks Used Available Capacity Mounted on\n/dev/a 9 8 1024 10% /\ndf_end\nrubbish\n";
        let application = b"current releases/20261121T101500Z-1a2b3c4\ncurrent_exists\nrelease 20261121T101500Z-1a2b3c4\nrelease ../../etc\nstate 20261121T101500Z-1a2b3c4 live\nstate 20261120T101500Z-0000000 prepar\ninfo 20261121T101500Z-1a2b3c4 {\"revision\":\"1a2b3c4d\"}\nshared .env\nhold {\"by\":\"ann\"}\nhistory\n{}\nuser x\n";
        let lists = b"m\nfile ship chunks 1\nship chunks 1\nc\n".to_vec();
        let touched = b"touched current/a\0touched current/\0current/a\0current/b\0elsewhere\0".to_vec();
        let facts = Facts::parse(&[[&host[..], application].concat(), lists, touched]);
        assert_eq!((facts.free_kib, facts.user.as_str()), (Some(1024), "deployer"));
        assert_eq!(
            (&facts.manifest[..], &facts.chunks[..]),
            (&b"m\nfile ship chunks 1\n"[..], &b"ship chunks 1\nc\n"[..])
        );
        assert_eq!((facts.touched.len(), facts.listed.len()), (2, 2));
        assert_eq!(facts.live().map(|id| id.to_string()).as_deref(), Some("20261121T101500Z-1a2b3c4"));
        assert_eq!(facts.program("tar"), Some("/usr/bin/tar"));
        assert_eq!(facts.program("flock"), None);
        assert!(!facts.can_inline() && Facts { gnu_cp: true, ..facts.clone() }.can_inline());
        let states: Vec<_> = facts.releases.values().map(|r| (r.present, r.state, r.info.revision.as_str())).collect();
        assert_eq!(states, [(false, None, ""), (true, Some(ReleaseState::Live), "1a2b3c4d")]);
        assert_eq!((facts.hold.as_deref(), facts.history.len()), (Some("{\"by\":\"ann\"}"), 2));
    }

    #[test]
    fn what_is_gone_or_was_changed_may_differ() {
        let set = |text: &str| text.split(' ').map(|path| path.trim_end_matches('.').as_bytes().to_vec()).collect();
        let facts = Facts {
            touched: set(". a a/edited swapped"),
            listed: set("a a/edited a/kept a/b swapped c"),
            ..Facts::default()
        };
        for same in ["a/kept", "a/b/c", "c", "c/d"] {
            assert!(!facts.may_differ(same.as_bytes()), "{same}");
        }
        for other in ["a/edited", "a/gone", "gone", "gone/below", "swapped", "swapped/file"] {
            assert!(facts.may_differ(other.as_bytes()), "{other}");
        }
        assert!(!Facts::default().may_differ(b"anything"));
        for (path, replaced) in [("c", true), ("c/d", false), ("a/kept", true), ("a/b/c", true), ("ab/c", false)] {
            assert_eq!(facts.may_be_replaced(path.as_bytes()), replaced, "{path}");
        }
    }
}
