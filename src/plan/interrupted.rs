//! What an interrupted upload left on a host goes into the new release, and is not sent again.
//!
//! The host says which files are there and whole; all of it is a hint, as every file of the new release is verified
//! before it can go live. Where the hint was wrong, what it was about is never looked at again.

use std::collections::BTreeMap;

use super::record;
use crate::artifact::{Kind, Manifest, MemoryFile, manifest, path};
use crate::command::{Command, quote};
use crate::facts::{DetachedState, Facts, ReleaseState};
use crate::layout::{Layout, ReleaseId};
use crate::step::Task;

/// Files that a release has which was never finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// That release.
    pub from: ReleaseId,
    /// The permission bits that they are to have.
    pub mode: u32,
    /// The indices of their entries in the manifest of the new release.
    pub entries: Vec<usize>,
}

impl Taken {
    /// The bytes of the files.
    pub fn bytes(&self, manifest: &Manifest) -> u64 {
        self.entries.iter().filter_map(|index| manifest.entries().get(*index)).map(manifest::Entry::size).sum()
    }
}

/// The releases that were never finished and that nobody uses, the newest first, and what files they have.
fn left(facts: &Facts) -> Vec<(&ReleaseId, &BTreeMap<String, String>)> {
    let runs = |id: &ReleaseId| {
        facts.detached.values().any(|found| found.release == *id && found.state == DetachedState::Runs)
    };
    let live = facts.live();
    facts.interrupted.iter().rev().filter(|(id, _)| Some(*id) != live.as_ref() && !runs(id)).collect()
}

/// Takes out of `entries`, which are to be sent, the files that are there already under the same name.
pub(super) fn take(manifest: &Manifest, entries: &mut Vec<usize>, facts: &Facts) -> Vec<Taken> {
    let sources = left(facts);
    if sources.is_empty() {
        return Vec::new();
    }
    let mut found: BTreeMap<(ReleaseId, u32), Vec<usize>> = BTreeMap::new();
    entries.retain(|index| {
        let Some(entry) = manifest.entries().get(*index) else { return true };
        let (Kind::File { sha256, mode, .. }, Ok(path)) = (&entry.kind, std::str::from_utf8(&entry.path)) else {
            return true;
        };
        let sum = manifest::hex(sha256);
        let Some((from, _)) = sources.iter().find(|(_, files)| files.get(path) == Some(&sum)) else { return true };
        found.entry(((*from).clone(), *mode)).or_default().push(*index);
        false
    });
    found.into_iter().map(|((from, mode), entries)| Taken { from, mode, entries }).collect()
}

/// What to do where the disk is full, and interrupted uploads have a part in it.
pub(super) fn advice(layout: &Layout, facts: &Facts) -> Option<String> {
    let left: Vec<String> = left(facts).iter().map(|(id, _)| quote(&layout.release(id)).into_owned()).collect();
    (!left.is_empty()).then(|| format!("this removes what interrupted uploads left: rm -rf {}", left.join(" ")))
}

/// The name in the record of the list of what is taken.
fn list(index: usize) -> String {
    format!("taken-{index}")
}

/// The paths of what is taken, each followed by NUL, as files of the record whose names `place` makes whole.
pub(super) fn lists(taken: &[Taken], manifest: &Manifest, place: impl Fn(&str) -> String) -> Vec<MemoryFile> {
    let lists = taken.iter().enumerate().map(|(index, taken)| {
        let mut text = Vec::new();
        for entry in taken.entries.iter().filter_map(|index| manifest.entries().get(*index)) {
            text.extend_from_slice(&path::named(&entry.path));
            text.push(0);
        }
        MemoryFile::new(place(&list(index)), 0o600, text)
    });
    lists.collect()
}

/// The status of [`task`] where something is not there after all.
const GONE: i32 = 70;

/// Takes the files out of the releases that have them, whose folders stay for what else may be in them.
///
/// A link, and a copy where the file system has none. No file belongs to two releases when it is done, so what was not
/// taken, and what is left where this is cut, can be taken by the next.
pub(super) fn task(layout: &Layout, release: &ReleaseId, taken: &[Taken]) -> Option<Task> {
    let new = quote(&layout.release(release)).into_owned();
    let moves = taken.iter().enumerate().map(|(index, taken)| {
        format!(
            "l={list}; cd {old} && {{ xargs -0 cp -fl --parents -t {new} <\"$l\" 2>/dev/null || xargs -0 cp -f --parents -t {new} <\"$l\"; }} && \
             xargs -0 rm -f <\"$l\" && cd {new} && xargs -0 chmod {mode:04o} <\"$l\" && rm \"$l\" || {{ {distrust}exit {GONE}; }}",
            list = quote(&format!("{}/{}", layout.record(release), list(index))),
            old = quote(&layout.release(&taken.from)),
            mode = taken.mode,
            distrust = distrust(layout, std::slice::from_ref(taken)),
        )
    });
    let moves: Vec<String> = moves.collect();
    if moves.is_empty() {
        return None;
    }
    let command = Command::shell(format!("umask 022\n{}", moves.join("\n")));
    let task = Task::own("Take over what an interrupted upload left", command);
    Some(task.meanings(&[(
        GONE,
        "what an interrupted upload left is not there any more; nothing was published, and the next deploy sends it",
    )]))
}

/// Shell text, ended by a semicolon, after which nothing more is taken from where this was.
pub(super) fn distrust(layout: &Layout, taken: &[Taken]) -> String {
    let mut failed: Vec<_> = taken.iter().map(|taken| (&taken.from, ReleaseState::Failed)).collect();
    failed.dedup();
    if failed.is_empty() { String::new() } else { format!("( {} ); ", record::write_states(layout, &failed)) }
}

/// Leaves a release that was prepared in vain to the next deploy. One that is ready is looked at by nobody.
pub(super) fn keep(layout: &Layout, release: &ReleaseId) -> Task {
    let preparing = record::write_states(layout, &[(release, ReleaseState::Preparing)]);
    let record = layout.record(release);
    let command = Command::shell(format!("[ ! -e {} ] || {{ {preparing}; }}", quote(&format!("{record}/state"))));
    Task::own("Keep what was uploaded", command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Current, Detached};
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    fn id(second: u32) -> ReleaseId {
        ReleaseId::new(&format!("20261121T1015{second:02}Z"), "aaaaaaa").unwrap()
    }

    /// A manifest of files and folders: `path=byte`, with an `x` behind it where the file can be executed.
    fn manifest(text: &str) -> Manifest {
        let mut lines = vec!["ship manifest 1".to_owned()];
        for word in text.split_whitespace() {
            lines.push(match word.split_once('=') {
                Some((path, mark)) => {
                    let mode = if mark.ends_with('x') { "0755" } else { "0644" };
                    format!("file {mode} 10 {} {path}", sum(&mark[..1]))
                }
                None => format!("dir 0755 {word}"),
            });
        }
        Manifest::parse((lines.join("\n") + "\n").as_bytes()).unwrap()
    }

    fn sum(byte: &str) -> String {
        byte.repeat(64)
    }

    fn facts(releases: &[(u32, &str)]) -> Facts {
        let mut facts = Facts::default();
        for (second, files) in releases {
            let files = files.split_whitespace().filter_map(|word| word.split_once('='));
            let files = files.map(|(path, byte)| (path.to_owned(), sum(byte)));
            facts.interrupted.insert(id(*second), files.collect());
        }
        facts
    }

    fn shown(new: &str, sent: &[usize], facts: &Facts) -> (String, Vec<usize>) {
        let manifest = manifest(new);
        let mut entries = sent.to_vec();
        let taken = take(&manifest, &mut entries, facts);
        let shown = taken.iter().map(|taken| {
            let paths = taken.entries.iter().map(|index| String::from_utf8_lossy(&manifest.entries()[*index].path));
            format!("{}:{:o}:{}", &taken.from.as_str()[13..15], taken.mode, paths.collect::<Vec<_>>().join(","))
        });
        (shown.collect::<Vec<_>>().join(" "), entries)
    }

    #[test]
    fn what_is_there_and_whole_is_not_sent() {
        let new = "a=1 b=2 c=3x d d/e=4 f=5";
        let all = [0, 1, 2, 3, 4, 5];
        let nothing = (String::new(), all.to_vec());
        assert_eq!(shown(new, &all, &Facts::default()), nothing);
        // One of another content, one that was cut, one under another name, one that is no more.
        let one = facts(&[(1, "a=1 b=9 c=3 d/e=4 other=5 gone=6")]);
        assert_eq!(shown(new, &all, &one), ("01:644:a,d/e 01:755:c".to_owned(), vec![1, 3, 5]));
        // What comes from the live release is not taken too.
        assert_eq!(shown(new, &[1, 2], &one), ("01:755:c".to_owned(), vec![1]));
        let two = facts(&[(1, "a=1 b=2"), (2, "b=2 d/e=4")]);
        assert_eq!(shown(new, &all, &two), ("01:644:a 02:644:b,d/e".to_owned(), vec![2, 3, 5]));
    }

    #[test]
    fn nothing_is_taken_from_what_is_in_use() {
        let new = "a=1";
        let mut facts = facts(&[(1, "a=1")]);
        facts.current = Current::Link { target: format!("releases/{}", id(1)), exists: true };
        assert_eq!(shown(new, &[0], &facts).0, "");
        facts.current = Current::Missing;
        for (state, expected) in [(DetachedState::Runs, ""), (DetachedState::Ended(0), "01:644:a")] {
            facts.detached.insert("k".to_owned(), Detached { name: "n".to_owned(), release: id(1), state });
            assert_eq!(shown(new, &[0], &facts).0, expected);
        }
    }

    #[test]
    fn a_full_disk_is_explained() {
        let layout = Layout::new("/srv/my app");
        assert_eq!(advice(&layout, &Facts::default()), None);
        insta::assert_snapshot!(advice(&layout, &facts(&[(1, "a=1")])).unwrap(), @"this removes what interrupted uploads left: rm -rf '/srv/my app/releases/20261121T101501Z-aaaaaaa'");
    }

    /// A host with an interrupted release 1 that has `a` and `d/-e`, and a release 2 that is made.
    fn host(root: &Path) -> (Layout, Vec<Taken>) {
        let layout = Layout::new(root.join("it's here").to_str().unwrap());
        for second in [1, 2] {
            fs::create_dir_all(layout.record(&id(second))).unwrap();
            fs::create_dir_all(layout.release(&id(second)) + "/d").unwrap();
        }
        for (path, mode) in [("a", 0o600), ("d/-e", 0o600), ("cut", 0o644)] {
            let path = format!("{}/{path}", layout.release(&id(1)));
            fs::write(&path, "text").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::write(layout.record(&id(1)) + "/state", "preparing\n").unwrap();
        let manifest = manifest("a=1x d d/-e=2");
        let taken = take(&manifest, &mut vec![0, 1, 2], &facts(&[(1, "a=1 d/-e=2")]));
        for file in lists(&taken, &manifest, |name| format!("{}/{name}", layout.record(&id(2)))) {
            fs::write(std::str::from_utf8(file.path()).unwrap(), file.contents()).unwrap();
        }
        (layout, taken)
    }

    fn run(layout: &Layout, taken: &[Taken]) -> Option<i32> {
        let text = task(layout, &id(2), taken).unwrap().command().unwrap().to_shell();
        std::process::Command::new("/bin/sh").arg("-c").arg(text).status().unwrap().code()
    }

    fn state(layout: &Layout) -> String {
        fs::read_to_string(layout.record(&id(1)) + "/state").unwrap()
    }

    #[test]
    fn files_move_and_get_their_modes() {
        let folder = tempfile::tempdir().unwrap();
        let (layout, taken) = host(folder.path());
        assert_eq!(run(&layout, &taken), Some(0));
        let mode = |path: &str| {
            fs::metadata(format!("{}/{path}", layout.release(&id(2)))).map(|found| found.permissions().mode() & 0o777)
        };
        assert_eq!((mode("a").unwrap(), mode("d/-e").unwrap()), (0o755, 0o644));
        let left = |path: &str| Path::new(&layout.release(&id(1))).join(path).exists();
        assert_eq!((left("a"), left("d/-e"), left("cut")), (false, false, true));
        assert_eq!(state(&layout), "preparing\n");
        assert_eq!(fs::read_dir(layout.record(&id(2))).unwrap().count(), 0);
    }

    #[test]
    fn what_is_gone_is_not_looked_for_again() {
        let folder = tempfile::tempdir().unwrap();
        let (layout, taken) = host(folder.path());
        fs::remove_file(layout.release(&id(1)) + "/d/-e").unwrap();
        assert_eq!(run(&layout, &taken), Some(GONE));
        assert_eq!(state(&layout), "failed\n");
    }
}
