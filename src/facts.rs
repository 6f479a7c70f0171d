//! What a host looked like before the plan was made: the survey and its parser.
//!
//! The survey is read-only and one round trip. It prints `key value` lines, so that every `if` is Rust.
//! Deliberately absent: deciding anything (`plan`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::command::{Command, join, quote};
use crate::layout::{Layout, ReleaseId};

mod detached;

pub use detached::{Detached, DetachedState};
pub mod found;
pub mod images;
mod interrupted;
pub mod placeholders;
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
    /// The kernel's name (`uname -s`).
    pub system: String,
    /// The login user.
    pub user: String,
    /// Programs and where they are.
    pub programs: BTreeMap<String, String>,
    /// Whether `tar` is GNU tar, which takes a list of names that may hold any byte.
    pub gnu_tar: bool,
    /// Whether `cp` has the options of GNU coreutils: it makes clones where the file system can, and links.
    pub gnu_cp: bool,
    /// Free space where releases go, in KiB, where `df` says.
    pub free_kib: Option<u64>,
    /// Free inodes there, where `df` says.
    pub free_inodes: Option<u64>,
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

/// Programs that make a deploy better where a host has them.
const USEFUL: &[&str] = &["zstd", "gzip", "openssl", "awk"];

/// What a survey asks for.
#[derive(Clone, Debug)]
pub struct Survey<'a> {
    /// Paths on the host.
    pub layout: &'a Layout,
    /// Programs to look for, beside [`NEEDED`].
    pub programs: &'a [String],
    /// Shared files to look for, relative to `shared/`.
    pub shared: &'a [String],
    /// Files of the host to look for, as absolute paths.
    pub files: &'a [String],
    /// Settings files in which to look for placeholders, relative to `shared/`.
    pub settings: &'a [String],
    /// Whether it is wanted what of a new release is there: what interrupted uploads left, and the live release's
    /// manifest, or its SHA-256 where it is one of those that this machine has.
    pub manifest: Option<&'a [String]>,
    /// Whether this run holds the deploy lock, so that nobody else works on a release.
    pub held: bool,
    /// Whether the files of releases are hard links: then each link that comes or goes sets their ctime.
    pub read_only: bool,
}

/// What comes before the SHA-256 of a manifest that a host does not send.
const KNOWN: &str = "known ";

/// How many lines of history are read.
const HISTORY_LINES: u32 = 100;

impl Survey<'_> {
    /// The commands, which all succeed on any host; [`Facts::parse`] takes their outputs in this order.
    pub fn commands(&self) -> Vec<Command> {
        vec![self.host(), self.application(), self.live_manifest(), self.touched(), self.listed(), self.live_chunks()]
    }

    fn host(&self) -> Command {
        let programs: BTreeSet<&str> =
            NEEDED.iter().chain(USEFUL).copied().chain(self.programs.iter().map(String::as_str)).collect();
        let files = join(self.files.iter().map(String::as_str));
        let files = if files.is_empty() {
            String::new()
        } else {
            format!("for f in {files}; do [ -f \"$f\" ] && [ -r \"$f\" ] && printf 'readable %s\\n' \"$f\"; done\n")
        };
        Command::shell(format!(
            "printf 'system %s\\nuser %s\\n' \"$(uname -s)\" \"$(id -un)\"\n\
             for p in {programs}; do w=$(command -v \"$p\") && printf 'program %s %s\\n' \"$p\" \"$w\"; done\n\
             {files}\
             case $(tar --version 2>/dev/null) in *GNU*) echo gnu_tar;; esac\n\
             case $(cp --help 2>/dev/null) in *--parents*--reflink*) echo gnu_cp;; esac\n\
             d={root}; while [ ! -d \"$d\" ]; do d=$(dirname \"$d\"); done; printf 'nearest %s\\n' \"$d\"\n\
             [ -w \"$d\" ] && echo writable\n\
             df -Pk \"$d\" 2>/dev/null | awk 'NR==2 {{print \"free_kib \" $4}}'\n\
             df -Pi \"$d\" 2>/dev/null | awk 'NR==2 {{print \"free_inodes \" $4}}'\n\
             :",
            programs = join(programs),
            root = quote(self.layout.root()),
        ))
    }

    fn application(&self) -> Command {
        let shared = join(self.shared.iter().map(String::as_str));
        let shared = if shared.is_empty() {
            String::new()
        } else {
            format!("for f in {shared}; do [ -e \"shared/$f\" ] && printf 'shared %s\\n' \"$f\"; done\n")
        };
        let settings = join(self.settings.iter().map(String::as_str));
        let settings = if settings.is_empty() {
            String::new()
        } else {
            format!(
                "for f in {settings}; do [ -r \"shared/$f\" ] && sed -n {} \"shared/$f\" | while read -r k; do printf 'placeholder %s %s\\n' \"$k\" \"$f\"; done; done\n",
                quote(placeholders::SEARCH)
            )
        };
        Command::shell(format!(
            "cd {root} 2>/dev/null || exit 0\n\
             if [ -L current ]; then printf 'current %s\\n' \"$(readlink current)\"; [ -d current/ ] && echo current_exists\n\
             elif [ -e current ]; then echo current_other; fi\n\
             for r in releases/*; do [ -d \"$r\" ] && printf 'release %s\\n' \"${{r#releases/}}\"; done\n\
             for s in .ship/releases/*; do n=${{s#.ship/releases/}}\n\
             [ -r \"$s/state\" ] && read -r v <\"$s/state\"; printf 'state %s %s\\n' \"$n\" \"$v\"\n\
             {interrupted}\
             v=\n\
             [ -r \"$s/info\" ] && read -r v <\"$s/info\" && printf 'info %s %s\\n' \"$n\" \"$v\"; v=\n\
             [ -r \"$s/compose.services.json\" ] && read -r v <\"$s/compose.services.json\" && printf 'services %s %s\\n' \"$n\" \"$v\"; v=; done\n\
             for f in .ship/incoming/*; do [ -f \"$f\" ] && printf 'incoming %s %s\\n' \"${{f##*/}}\" \"$(wc -c <\"$f\")\"; done\n\
             {shared}{settings}\
             {detached}\
             [ -w .ship/lock ] && echo lockable\n\
             [ -r .ship/hold ] && sed 's/^/hold /' .ship/hold\n\
             [ -r .ship/history.jsonl ] && tail -n {HISTORY_LINES} .ship/history.jsonl | sed 's/^/history /'\n\
             :",
            root = quote(self.layout.root()),
            detached = detached::LOOK,
            interrupted = if self.manifest.is_some() { interrupted::look(self.held) } else { String::new() },
        ))
    }

    fn live_manifest(&self) -> Command {
        let known = self.manifest.unwrap_or_default().join(" ");
        self.of_live_release(&format!(
            "[ -e \"$r/verified\" ] || exit 0\n\
             d=; read -r d <\"$r/verified\"\n\
             case \" {known} \" in *\" ${{d:-none}} \"*) printf '{KNOWN}%s\\n' \"$d\" ;; *) cat \"$r/manifest\" ;; esac"
        ))
    }

    fn live_chunks(&self) -> Command {
        self.of_live_release("[ ! -e \"$r/verified\" ] || [ ! -e \"$r/chunks\" ] || cat \"$r/chunks\"")
    }

    /// Every change of a file sets its ctime (POSIX XBD 4.9), and `verified` was made after the last file.
    fn touched(&self) -> Command {
        self.of_live_release(&format!("[ ! -e \"$r/verified\" ] || find current/ {} -print0", self.changed()))
    }

    /// What `find` asks of what was changed since the live release was verified. Where files are shared, their ctime
    /// says nothing, and their times of modification have to do.
    fn changed(&self) -> &'static str {
        if self.read_only { "-newer \"$r/verified\"" } else { "-cnewer \"$r/verified\"" }
    }

    /// What is gone leaves its trace in its folder alone.
    fn listed(&self) -> Command {
        self.of_live_release(&format!(
            "[ ! -e \"$r/verified\" ] || find current/ -type d {} -print0 | \
             xargs -0 sh -c '[ $# = 0 ] || find \"$@\" -mindepth 1 -maxdepth 1 -print0' sh",
            self.changed()
        ))
    }

    /// `text` in `deploy_to`, where `$r` is the record of the live release.
    fn of_live_release(&self, text: &str) -> Command {
        if self.manifest.is_none() {
            return Command::argv(["true"]);
        }
        Command::shell(format!(
            "cd {root} 2>/dev/null && [ -d current/ ] || exit 0; t=$(readlink current) || exit 0; r=.ship/releases/${{t##*/}}; {text}",
            root = quote(self.layout.root()),
        ))
    }
}

impl Facts {
    /// Reads the outputs of [`Survey::commands`]. Lines that make no sense are left out: they come from a host.
    pub fn parse(outputs: &[Vec<u8>]) -> Self {
        let mut facts = Self::default();
        for output in outputs.iter().take(2) {
            for line in String::from_utf8_lossy(output).lines() {
                let (key, value) = line.split_once(' ').unwrap_or((line, ""));
                facts.take(key, value);
            }
        }
        let manifest = outputs.get(2).cloned().unwrap_or_default();
        match manifest.strip_prefix(KNOWN.as_bytes()).map(<[u8]>::trim_ascii_end).map(str::from_utf8) {
            Some(Ok(digest)) => facts.known_manifest = Some(digest.to_owned()),
            _ => facts.manifest = manifest.into(),
        }
        facts.touched = paths(outputs.get(3));
        facts.listed = paths(outputs.get(4));
        facts.chunks = outputs.get(5).cloned().unwrap_or_default();
        facts
    }

    /// Whether what the live release has at `path` may be another thing than what was sent: it or a folder above
    /// it was changed, replaced or removed.
    pub fn may_differ(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut above: &[u8] = b"";
        for end in ends.chain([path.len()]) {
            let part = path.get(..end).unwrap_or(path);
            if self.touched.contains(above) && !self.listed.contains(part) {
                return true;
            }
            above = part;
        }
        self.touched.contains(path)
    }

    fn take(&mut self, key: &str, value: &str) {
        match key {
            "system" => self.system = value.to_owned(),
            "user" => self.user = value.to_owned(),
            "program" => {
                if let Some((name, path)) = value.split_once(' ')
                    && path.starts_with('/')
                {
                    self.programs.insert(name.to_owned(), path.to_owned());
                }
            }
            "gnu_tar" => self.gnu_tar = true,
            "gnu_cp" => self.gnu_cp = true,
            "nearest" => self.nearest = value.to_owned(),
            "writable" => self.writable = true,
            "free_kib" => self.free_kib = value.parse().ok(),
            "free_inodes" => self.free_inodes = value.parse().ok(),
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
            "history" => self.history.push(value.to_owned()),
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

/// NUL-terminated paths below `current/`, as paths of the release.
fn paths(output: Option<&Vec<u8>>) -> BTreeSet<Vec<u8>> {
    let output = output.map(Vec::as_slice).unwrap_or_default();
    let paths = output.split(|byte| *byte == 0).filter_map(|path| path.strip_prefix(b"current/"));
    paths.map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survey_is_read_and_nonsense_in_it_is_left_out() {
        let host = b"system Linux\nuser deployer\nprogram tar /usr/bin/tar\nprogram flock alias flock=x\ngnu_tar\nnearest /var/www\nwritable\nfree_kib 1024\nrubbish\n".to_vec();
        let application = b"current releases/20261121T101500Z-1a2b3c4\ncurrent_exists\nrelease 20261121T101500Z-1a2b3c4\nrelease ../../etc\nstate 20261121T101500Z-1a2b3c4 live\nstate 20261120T101500Z-0000000 prepar\ninfo 20261121T101500Z-1a2b3c4 {\"revision\":\"1a2b3c4d\"}\nshared .env\nhold {\"by\":\"ann\"}\nhistory {}\n".to_vec();
        let facts = Facts::parse(&[host, application, b"m".to_vec()]);
        assert_eq!(facts.live().map(|id| id.to_string()).as_deref(), Some("20261121T101500Z-1a2b3c4"));
        assert_eq!(facts.program("tar"), Some("/usr/bin/tar"));
        assert_eq!(facts.program("flock"), None);
        let states: Vec<_> = facts.releases.values().map(|r| (r.present, r.state, r.info.revision.as_str())).collect();
        assert_eq!(states, [(false, None, ""), (true, Some(ReleaseState::Live), "1a2b3c4d")]);
        assert_eq!((facts.hold.as_deref(), facts.history.len()), (Some("{\"by\":\"ann\"}"), 1));
    }

    #[test]
    fn the_survey_runs_on_a_real_shell_with_nothing_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("not/yet");
        let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let layout = Layout::new(&root.to_string_lossy());
        let survey = Survey {
            layout: &layout,
            programs: &["sh".to_owned()],
            shared: &["a b".to_owned()],
            files: &[file("it's there"), file("not/there"), file("")],
            settings: &[],
            manifest: Some(&[]),
            held: true,
            read_only: false,
        };
        std::fs::write(file("it's there"), "x").expect("a file");
        let facts = Facts::parse(&run(&survey));
        assert_eq!(facts.readable, BTreeSet::from([file("it's there")]));
        assert_eq!(facts.nearest, folder.path().to_string_lossy());
        assert!(facts.writable && facts.program("sh").is_some() && facts.free_kib.is_some());
        assert_eq!(facts.current, Current::Missing);
    }

    #[test]
    fn the_survey_sees_releases_states_and_shared_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("app's home");
        let id = "20261121T101500Z-1a2b3c4";
        std::fs::create_dir_all(root.join("releases").join(id)).expect("releases");
        std::fs::create_dir_all(root.join(".ship/releases").join(id)).expect("records");
        std::fs::create_dir_all(root.join("shared")).expect("shared");
        std::fs::write(root.join("shared/a b"), "").expect("shared file");
        std::fs::write(root.join(".ship/releases").join(id).join("state"), "live\n").expect("state");
        std::fs::write(root.join(".ship/releases").join(id).join("manifest"), "m\nn").expect("manifest");
        std::os::unix::fs::symlink(format!("releases/{id}"), root.join("current")).expect("current");
        std::fs::write(root.join("releases").join(id).join("before"), "").expect("a file");
        std::fs::write(root.join(".ship/releases").join(id).join("verified"), "").expect("verified");
        // The kernel stamps files by a clock that ticks every few milliseconds. Each try is a new file, so that
        // the folder has its time too.
        let after = root.join("releases").join(id).join("after\nit");
        let stamp = |path: &std::path::Path| std::fs::metadata(path).and_then(|m| m.modified()).expect("a time");
        let verified = stamp(&root.join(".ship/releases").join(id).join("verified"));
        while std::fs::write(&after, "").is_err() || stamp(&after) <= verified {
            std::fs::remove_file(&after).expect("the file");
        }
        let layout = Layout::new(&root.to_string_lossy());
        let survey = Survey {
            layout: &layout,
            programs: &[],
            shared: &["a b".to_owned(), "c".to_owned()],
            files: &[],
            settings: &[],
            manifest: Some(&[]),
            held: true,
            read_only: false,
        };
        let facts = Facts::parse(&run(&survey));
        assert_eq!(facts.current, Current::Link { target: format!("releases/{id}"), exists: true });
        assert!(facts.releases.values().all(Release::good) && facts.releases.len() == 1);
        assert_eq!(facts.shared.iter().collect::<Vec<_>>(), ["a b"]);
        assert_eq!(&facts.manifest[..], b"m\nn");
        let root: &[u8] = b"";
        assert_eq!(facts.touched.iter().collect::<Vec<_>>(), [root, b"after\nit"]);
        assert_eq!(facts.listed.iter().collect::<Vec<_>>(), [&b"after\nit"[..], b"before"]);
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
    }

    fn run(survey: &Survey<'_>) -> Vec<Vec<u8>> {
        survey
            .commands()
            .iter()
            .map(|command| {
                let output =
                    std::process::Command::new("/bin/sh").arg("-c").arg(command.to_shell()).output().expect("sh");
                assert!(output.status.success(), "{output:?}");
                output.stdout
            })
            .collect()
    }
}
