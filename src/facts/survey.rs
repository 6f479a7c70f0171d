//! What a host is asked before a plan is made: text for its shell, which changes nothing and succeeds everywhere.
//!
//! Few programs are started, and none for what the shell can do itself: with many hosts that is most of what it costs.

use std::collections::BTreeSet;

use super::{NEEDED, detached, interrupted, placeholders};
use crate::command::{Command, join, quote};
use crate::layout::Layout;

/// Programs that make a deploy better where a host has them.
const USEFUL: &[&str] = &["zstd", "gzip", "openssl", "awk", "base64"];

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
pub(super) const KNOWN: &str = "known ";

/// What comes before a path that was changed; the others are what a changed folder holds.
pub(super) const TOUCHED: &str = "touched ";

/// What comes before the table of df(1).
pub(super) const FREE: &str = "df";
/// What comes after it.
pub(super) const END: &str = "df_end";

/// What comes before the lines of the history.
pub(super) const HISTORY: &str = "history";

/// How many lines of history are read.
const HISTORY_LINES: u32 = 100;

impl Survey<'_> {
    /// The commands, which all succeed on any host; [`super::Facts::parse`] takes their outputs in this order.
    pub fn commands(&self) -> Vec<Command> {
        let look = Command::subshell(format!("{}{}:", self.host(), self.application()));
        let Some(known) = self.manifest else { return vec![look] };
        vec![look, self.live_lists(known), self.touched()]
    }

    /// Lines of what the host has, each a key and a value.
    fn host(&self) -> String {
        let programs: BTreeSet<&str> =
            NEEDED.iter().chain(USEFUL).copied().chain(self.programs.iter().map(String::as_str)).collect();
        let files = join(self.files.iter().map(String::as_str));
        let files = if files.is_empty() {
            String::new()
        } else {
            format!("for f in {files}; do [ -f \"$f\" ] && [ -r \"$f\" ] && printf 'readable %s\\n' \"$f\"; done\n")
        };
        format!(
            "printf 'user '; id -un\n\
             for p in {programs}; do printf 'program %s ' \"$p\"; command -v \"$p\" || echo; done\n\
             {files}\
             [ -z \"$BASH_VERSION$KSH_VERSION$YASH_VERSION$ZSH_VERSION\" ] && echo plain_shell\n\
             case $(cp --help 2>/dev/null) in *--parents*--reflink*) echo gnu_cp;; esac\n\
             d={root}; while [ ! -d \"$d\" ]; do d=$(dirname \"$d\"); done; printf 'nearest %s\\n' \"$d\"\n\
             [ -w \"$d\" ] && echo writable\n\
             echo {FREE}; df -Pk \"$d\" 2>/dev/null\n\
             echo {END}\n",
            programs = join(programs),
            root = quote(self.layout.root()),
        )
    }

    /// Lines of what is in `deploy_to`, the history last: a new release is made without it.
    fn application(&self) -> String {
        let (interrupted, history) = if self.manifest.is_some() {
            (interrupted::look(self.held), String::new())
        } else {
            let read = format!("tail -n {HISTORY_LINES} .ship/history.jsonl");
            (String::new(), format!("[ -r .ship/history.jsonl ] && echo {HISTORY} && {read}\n"))
        };
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
        format!(
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
             {history}",
            root = quote(self.layout.root()),
            detached = detached::LOOK,
        )
    }

    /// The manifest and the chunks of the live release.
    fn live_lists(&self, known: &[String]) -> Command {
        self.of_live_release(Command::subshell, &format!(
            "d=; read -r d <\"$r/verified\"\n\
             case \" {known} \" in *\" ${{d:-none}} \"*) printf '{KNOWN}%s\\n' \"$d\" ;; *) cat \"$r/manifest\" ;; esac\n\
             [ ! -e \"$r/chunks\" ] || cat \"$r/chunks\"",
            known = known.join(" "),
        ))
    }

    /// What was changed since the live release was verified, and what the folders among that hold: what is gone leaves
    /// its trace in its folder alone.
    ///
    /// Every change of a file sets its ctime (POSIX XBD 4.9), and `verified` was made after the last file. Where files are
    /// shared, that says nothing of them, and the time of modification has to do; folders are never shared. `verified`
    /// itself comes first: a `find` that does not name it knows no ctime (BusyBox), and everything counts as changed.
    fn touched(&self) -> Command {
        let newer = if self.read_only {
            "-type d -cnewer \"$r/verified\" -o -newer \"$r/verified\""
        } else {
            "-cnewer \"$r/verified\""
        };
        // It walks through everything, which can take long. What may not be read has changed, and is no trouble.
        self.of_live_release(
            Command::shell,
            &format!(
                "find \"$r/verified\" current/ \\( -path \"$r/verified\" -o {newer} \\) -exec \
             sh -c 'printf \"{TOUCHED}%s\\0\" \"$@\"; exec find \"$@\" -mindepth 1 -maxdepth 1 -print0' sh {{}} +\n:"
            ),
        )
    }

    /// `text` in `deploy_to`, where `$r` is the record of the live release, if that was verified.
    fn of_live_release(&self, command: fn(String) -> Command, text: &str) -> Command {
        command(format!(
            "cd -P {current}/ 2>/dev/null || exit 0; r=.ship/releases/${{PWD##*/}}; cd {root} && [ -e \"$r/verified\" ] || exit 0\n{text}",
            current = quote(&self.layout.current()),
            root = quote(self.layout.root()),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{Current, Facts, Release};
    use super::*;

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
