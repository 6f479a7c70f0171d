//! What a host does with a transfer: it takes the rest from the live release, puts files together, and verifies all.

use super::transfer::{Lists, Transfer, part};
use super::{interrupted, lot};
use crate::artifact::patch::Segment;
use crate::artifact::{Kind, Patch, lists};
use crate::command::{Command, quote};
use crate::facts::Facts;
use crate::layout::{Layout, ReleaseId};
use crate::step::{Action, Task};

/// Receives the transfer, takes from the live release what it can, and verifies every file.
pub fn receive(layout: &Layout, facts: &Facts, release: &ReleaseId, time: i64, transfer: &Transfer) -> Vec<Task> {
    let mut tasks = vec![Task::new("Upload the release", Action::Transfer)];
    let record = layout.record(release);
    let folder = layout.release(release);
    tasks.extend(interrupted::task(layout, release, &transfer.taken));
    // What was taken from a release that turns out to be damaged makes the new one damaged.
    let source = facts.live().filter(|_| !transfer.difference.unchanged.is_empty() || !transfer.patches.is_empty());
    if let Lists::Made { based } = transfer.lists {
        let live = facts.live().filter(|_| based).map(|live| layout.record(&live));
        let task = Task::own("Write the lists of the release", write_lists(&record, live.as_deref(), transfer));
        tasks.push(task.meanings(&[(
            71,
            "the manifest of the live release is not what it was; nothing was published, and the next deploy sends every file",
        )]));
    }
    if let Some(live) = source.as_ref().filter(|_| !transfer.difference.unchanged.is_empty()) {
        let (name, text) = if transfer.read_only {
            ("Link unchanged files to the live release", link(&folder, &record))
        } else {
            ("Copy unchanged files from the live release", copy("", &folder, &record))
        };
        tasks.push(Task::own(name, Command::shell(format!("umask 0; {text}")).directory(layout.release(live))));
    }
    if let Some(live) = source.as_ref().filter(|_| !transfer.patches.is_empty()) {
        let all: Vec<String> = transfer.patches.iter().filter_map(|patch| rebuild(patch, transfer, &record)).collect();
        let text = format!("set -e; umask 077; old={}\n{}", quote(&layout.release(live)), all.join("\n"),);
        tasks.push(Task::own("Put changed large files together", Command::shell(text).directory(&folder)));
    }
    if !transfer.pieces.is_empty() {
        let command = lot::assemble(layout, release, time, &transfer.tree, &transfer.pieces);
        tasks.push(Task::own("Put very large files in their place", command));
    }
    if transfer.tree.manifest().files() > 0 {
        let openssl = facts.program("openssl").is_some() && !transfer.tree.manifest().has_escaped_sums();
        let rely_no_more =
            |live: &ReleaseId| format!("rm -f {}; ", quote(&format!("{}/verified", layout.record(live))));
        let distrust =
            source.as_ref().map(rely_no_more).unwrap_or_default() + &interrupted::distrust(layout, &transfer.taken);
        let digest = transfer.tree.manifest().digest();
        let check = Command::shell(verify(&record, &digest, &distrust, openssl)).directory(folder);
        let task = Task::own("Verify the release", check);
        tasks.push(task.meanings(&[(
            70,
            "files on the host are not what was sent; nothing was published, and the next deploy sends every file",
        )]));
    }
    tasks
}

/// Makes the lists in a release's record, of what was sent and of those in the record `live`. It fails with 71 where
/// the manifest is not the one that was meant.
fn write_lists(record: &str, live: Option<&str>, transfer: &Transfer) -> Command {
    let distrust = live.map(|live| format!("rm -f {}; ", quote(&format!("{live}/verified")))).unwrap_or_default();
    let base = live.map_or("/dev/null".to_owned(), |live| format!("{live}/manifest"));
    let text = format!(
        "umask 077; : >sums; : >copied; LC_ALL=C awk -v linked={linked} {program} lists {base} && \
         [ \"$(sha256sum <manifest)\" = '{digest}  -' ] || {{ {distrust}exit 71; }}\n\
         tr '\\n' '\\0' <copied >keep; rm copied lists",
        program = quote(lists::PROGRAM),
        linked = u8::from(transfer.read_only),
        base = quote(&base),
        digest = transfer.tree.manifest().digest(),
    );
    Command::shell(text).directory(record)
}

/// Copies the files of the record's list from the live release, in whose folder it runs: as clones where the file system
/// can, so that a file that is changed in one release never changes in another. Links are copied as links.
fn copy(options: &str, folder: &str, record: &str) -> String {
    format!(
        "xargs -0 -r cp -P {options}--preserve=mode,timestamps --parents --reflink=auto -t {folder} -- <{keep}",
        folder = quote(folder),
        keep = quote(&format!("{record}/keep")),
    )
}

/// Makes hard links of the files of the record's list, where the recipe says that nothing changes them. Another user's
/// files cannot be linked (`fs.protected_hardlinks` in proc(5)): they are copied.
fn link(folder: &str, record: &str) -> String {
    format!(
        "xargs -0 -r cp -Pl --parents -t {folder} -- <{keep} 2>/dev/null || {copy}",
        folder = quote(folder),
        keep = quote(&format!("{record}/keep")),
        copy = copy("--remove-destination ", folder, record),
    )
}

/// Shell text that verifies the files of the release in whose folder it runs, and writes down the `digest` of its
/// manifest then. It fails with 70 and names the files that differ, after the shell text `distrust`: nothing that files
/// came from is relied on any more.
///
/// OpenSSL is several times faster than coreutils where the processor has instructions for SHA-256. `sha256sum` has the
/// last word, so it does not matter what another version of it prints.
fn verify(record: &str, digest: &str, distrust: &str, openssl: bool) -> String {
    let fast = if openssl {
        r#"cut -b 67- "$r/sums" | tr '\n' '\0' | xargs -0 openssl dgst -sha256 -r -- 2>/dev/null | sed 's/ \*/  /' | cmp -s - "$r/sums" || "#
    } else {
        ""
    };
    // The kernel stamps files by a clock that ticks every few milliseconds: what a step changes right afterwards
    // must have a later time than `verified`, which is the time when the verification began.
    format!(
        "r={record}; echo {digest} >\"$r/began\"\n\
         [ ! -s \"$r/sums\" ] || {fast}sha256sum -c \"$r/sums\" >\"$r/check\" || {{ grep -v ': OK$' \"$r/check\"; {distrust}exit 70; }}\n\
         mv \"$r/began\" \"$r/verified\"\n\
         n=0; while [ $n -lt 1000 ] && : >\"$r/check\" && [ -z \"$(find \"$r/check\" -cnewer \"$r/verified\")\" ]; do n=$((n + 1)); done; rm -f \"$r/check\" \"$r/sums\" \"$r/keep\"",
        record = quote(record),
    )
}

/// Shell text that puts one file together in the release's folder, `$old` being the live release.
///
/// `tail -c +N` and `head -c` are in POSIX or in every system's head; both seek in a file rather than read it.
fn rebuild(patch: &Patch, transfer: &Transfer, record: &str) -> Option<String> {
    let entry = transfer.tree.manifest().entries().get(patch.entry)?;
    let Kind::File { mode, .. } = entry.kind else { return None };
    let path = std::str::from_utf8(&entry.path).ok()?;
    let mut sent: u64 = 0;
    let pieces: Vec<String> = patch
        .segments
        .iter()
        .map(|segment| match segment {
            Segment::Had(range) => format!("tail -c +{} \"$old/$f\" | head -c {}", range.offset + 1, range.length),
            Segment::Sent(range) => {
                let piece = format!("tail -c +{} \"$p\" | head -c {}", sent + 1, range.length);
                sent += range.length;
                piece
            }
        })
        .collect();
    Some(format!(
        "f={} p={}\n{{ {}; }} >\"./$f\"; chmod {mode:04o} \"./$f\"; rm \"$p\"",
        quote(path),
        quote(&format!("{record}/{}", part(patch))),
        pieces.join("; "),
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::Path;
    use std::process::{Command as Process, Output, Stdio};
    use std::sync::Arc;

    use super::*;
    use crate::artifact::known::Known;
    use crate::artifact::{Chunks, Coding, Part, ScanOptions, Tally, Tree, scan};
    use crate::facts::{Info, ReleaseState, Survey};
    use crate::plan::record;
    use crate::plan::transfer::Sending;

    /// A project and a host, both folders of this machine.
    struct Place {
        project: tempfile::TempDir,
        host: tempfile::TempDir,
        /// Programs that the host is taken not to have.
        without: &'static [&'static str],
        /// What the recipe says.
        read_only: bool,
    }

    fn id(number: u32) -> ReleaseId {
        ReleaseId::new(&format!("20261121T1015{number:02}Z"), "aaaaaaa").expect("an id")
    }

    fn shell(command: &Command, input: Option<&[u8]>) -> Output {
        let mut child = Process::new("/bin/sh")
            .args(["-c", &command.to_shell()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh");
        child.stdin.take().expect("its input").write_all(input.unwrap_or_default()).expect("it reads");
        child.wait_with_output().expect("its end")
    }

    impl Place {
        fn new(without: &'static [&'static str]) -> Self {
            let place = Self {
                project: tempfile::tempdir().expect("a project"),
                host: tempfile::tempdir().expect("a host"),
                without,
                read_only: false,
            };
            for folder in ["releases", ".ship/releases"] {
                fs::create_dir_all(place.root().join(folder)).expect("the folders that setup makes");
            }
            place
        }

        fn root(&self) -> std::path::PathBuf {
            self.host.path().join("it's there")
        }

        fn layout(&self) -> Layout {
            Layout::new(&self.root().to_string_lossy())
        }

        fn write(&self, path: &str, contents: &str) {
            let path = self.project.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, contents).expect("a file");
        }

        fn tree(&self) -> Tree {
            let part = Part { from: self.project.path().to_owned(), to: String::new(), exclude: Vec::new() };
            scan(&[part], &ScanOptions { read_only: self.read_only, ..ScanOptions::default() }).expect("a tree")
        }

        fn survey(&self, known: &[String]) -> Facts {
            let layout = self.layout();
            let survey = Survey {
                layout: &layout,
                programs: &[],
                shared: &[],
                files: &[],
                settings: &[],
                manifest: Some(known),
                held: true,
                read_only: self.read_only,
            };
            let outputs: Vec<Vec<u8>> = survey.commands().iter().map(|command| shell(command, None).stdout).collect();
            let mut facts = Facts::parse(&outputs);
            facts.programs.retain(|program, _| !self.without.contains(&program.as_str()));
            facts
        }

        /// Deploys the project as release `number`: what was sent, and how the first task that failed ended.
        fn deploy(&self, number: u32, facts: &Facts) -> (Transfer, Result<(), Output>) {
            let (layout, release, tree) = (self.layout(), id(number), Arc::new(self.tree()));
            let chunks = Chunks::default();
            let sending = Sending {
                layout: &layout,
                facts,
                release: &release,
                time: 1_700_000_000,
                tree: &tree,
                settings: &[],
                chunks: &chunks,
                read_only: self.read_only,
                hosts: 1,
            };
            let transfer = sending.transfer().expect("a transfer");
            assert!(shell(&record::begin(&layout, &release, &Info::default()), None).status.success());
            let mut result = Ok(());
            for task in receive(&layout, facts, &release, 1_700_000_000, &transfer) {
                match task.action {
                    Action::Transfer => {
                        for lot in &transfer.lots {
                            let mut body = lot.clone().start(Coding::Plain, &Tally::default());
                            let mut bytes = Vec::new();
                            while let Some(chunk) = body.blocking_recv() {
                                bytes.extend_from_slice(&chunk.expect("a chunk"));
                            }
                            let output = shell(&lot.command(Coding::Plain), Some(&bytes));
                            assert!(output.status.success(), "{output:?}");
                        }
                    }
                    Action::Command(command) if result.is_ok() => {
                        let output = shell(&command, None);
                        if !output.status.success() {
                            result = Err(output);
                        }
                    }
                    _ => {}
                }
            }
            if result.is_ok() {
                let live = record::states(&layout, &[(&release, ReleaseState::Live)]);
                assert!(shell(&live, None).status.success());
                let current = self.root().join("current");
                let _ = fs::remove_file(&current);
                symlink(layout.release_target(&release), current).expect("current");
            }
            (transfer, result)
        }

        fn release(&self, number: u32) -> std::path::PathBuf {
            self.root().join("releases").join(id(number).as_str())
        }

        fn record(&self, number: u32) -> std::path::PathBuf {
            self.root().join(".ship/releases").join(id(number).as_str())
        }
    }

    fn scanned(folder: &Path) -> String {
        let part = Part { from: folder.to_owned(), to: String::new(), exclude: Vec::new() };
        let tree = scan(&[part], &ScanOptions::default()).expect("a tree");
        String::from_utf8_lossy(&tree.manifest().to_bytes()).into_owned()
    }

    /// What hosts lack, and whether names are odd: each is another way.
    fn ways() -> impl Iterator<Item = (Place, bool)> {
        let all: [&'static [&'static str]; 4] = [&[], &["awk"], &["openssl"], &["awk", "openssl"]];
        all.into_iter().flat_map(|without| [false, true].map(|odd| (Place::new(without), odd)))
    }

    fn fill(place: &Place, odd: bool) {
        for (path, contents) in [("-rf", "1"), ("a *b", "2"), ("d/same", "3"), ("d/other", "4"), ("gone/x", "5")] {
            place.write(path, contents);
        }
        place.write("d/ü  x", "6");
        if odd {
            place.write("a\nb\\", "7");
        }
        fs::create_dir(place.project.path().join("empty")).expect("a folder");
        fs::set_permissions(place.project.path().join("d"), fs::Permissions::from_mode(0o750)).expect("its mode");
        symlink("d/same", place.project.path().join("link")).expect("a link");
    }

    #[test]
    fn a_second_release_is_made_of_the_first_and_of_what_changed() {
        for (place, odd) in ways() {
            fill(&place, odd);
            let (first, result) = place.deploy(1, &place.survey(&[]));
            assert!(result.is_ok(), "{result:?} {:?} {odd}", place.without);
            assert_eq!(scanned(&place.release(1)), scanned(place.project.path()));

            place.write("d/other", "changed");
            place.write("new/file", "new");
            fs::remove_dir_all(place.project.path().join("gone")).expect("it goes");
            let (second, result) = place.deploy(2, &place.survey(&[]));
            assert!(result.is_ok(), "{result:?} {:?} {odd}", place.without);
            assert_eq!(scanned(&place.release(2)), scanned(place.project.path()));
            assert_eq!(second.difference.bytes_to_send, "changed".len() as u64 + "new".len() as u64);
            let manifest = fs::read_to_string(place.record(2).join("manifest")).expect("the manifest");
            assert_eq!(manifest, scanned(place.project.path()));
            let made = odd || place.without.contains(&"awk");
            assert_eq!(second.lists, if made { Lists::Sent } else { Lists::Made { based: true } });
            assert_ne!(first.lists, Lists::Made { based: true });
            let verified = fs::read_to_string(place.record(2).join("verified")).expect("verified");
            assert_eq!(verified.trim_end(), second.tree.manifest().digest());
            let mut left: Vec<_> = fs::read_dir(place.record(2)).expect("the record").flatten().collect();
            left.sort_by_key(fs::DirEntry::file_name);
            let left: Vec<_> = left.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            assert_eq!(left, ["info", "manifest", "state", "verified"]);
            // A file that is changed in one release never changes in another.
            let inode = |number| fs::metadata(place.release(number).join("d/same")).expect("the file").ino();
            assert_ne!(inode(1), inode(2));
        }
    }

    #[test]
    fn a_damaged_file_is_named_and_the_next_deploy_sends_everything() {
        for (place, odd) in ways() {
            fill(&place, odd);
            place.deploy(1, &place.survey(&[])).1.expect("a release");
            let facts = place.survey(&[]);
            // After the survey, or it would not be relied on in the first place.
            fs::write(place.release(1).join("d/same"), "damaged").expect("the file");
            let output = place.deploy(2, &facts).1.expect_err("it is damaged");
            assert_eq!(output.status.code(), Some(70), "{output:?}");
            assert!(String::from_utf8_lossy(&output.stdout).contains("d/same"), "{output:?}");
            let (third, result) = place.deploy(3, &place.survey(&[]));
            assert!(result.is_ok() && third.difference.unchanged.is_empty(), "{result:?}");
        }
    }

    #[test]
    fn releases_of_a_read_only_tree_share_what_did_not_change() {
        for (mut place, odd) in ways() {
            place.read_only = true;
            fill(&place, odd);
            place.deploy(1, &place.survey(&[])).1.expect("a release");
            let file = |number, name: &str| fs::metadata(place.release(number).join(name)).expect("the file");
            assert_eq!(file(1, "d/same").mode() & 0o777, 0o444);
            place.write("d/other", "changed");
            let (second, result) = place.deploy(2, &place.survey(&[]));
            assert!(result.is_ok(), "{result:?} {:?} {odd}", place.without);
            assert_eq!(second.difference.bytes_to_send, "changed".len() as u64);
            assert_eq!(file(1, "d/same").ino(), file(2, "d/same").ino());
            assert_ne!(file(1, "d/other").ino(), file(2, "d/other").ino());
            assert_eq!(fs::read(place.release(1).join("d/other")).expect("the file"), b"4");
            let manifest = fs::read(place.record(2).join("manifest")).expect("the manifest");
            assert_eq!(manifest, place.tree().manifest().to_bytes());

            // Links that come and go change nothing, and nothing at all may have changed.
            fs::remove_dir_all(place.release(1)).expect("it goes");
            let (third, result) = place.deploy(3, &place.survey(&[]));
            assert!(result.is_ok(), "{result:?} {:?} {odd}", place.without);
            assert_eq!(third.difference.bytes_to_send, 0);
            assert_eq!(file(2, "d/other").ino(), file(3, "d/other").ino());

            // What is changed by force is sent again, as a file of its own.
            let forced = place.release(3).join("d/same");
            fs::set_permissions(&forced, fs::Permissions::from_mode(0o644)).expect("its mode");
            fs::write(&forced, "by force").expect("the file");
            let (fourth, result) = place.deploy(4, &place.survey(&[]));
            assert!(result.is_ok() && fourth.difference.bytes_to_send == 1, "{result:?} {:?}", fourth.difference);
            assert_eq!(fs::read(place.release(4).join("d/same")).expect("the file"), b"3");
        }
    }

    #[test]
    fn a_damaged_manifest_is_seen() {
        let place = Place::new(&[]);
        fill(&place, false);
        place.deploy(1, &place.survey(&[])).1.expect("a release");
        let facts = place.survey(&[]);
        fs::write(place.record(1).join("manifest"), "ship manifest 1\nfile rubbish\n").expect("the manifest");
        let output = place.deploy(2, &facts).1.expect_err("it is damaged");
        assert_eq!(output.status.code(), Some(71), "{output:?}");
        assert!(place.survey(&[]).manifest.is_empty());
        assert!(place.deploy(3, &place.survey(&[])).1.is_ok());
    }

    #[test]
    fn a_manifest_that_this_machine_has_does_not_travel() {
        let place = Place::new(&[]);
        fill(&place, false);
        place.deploy(1, &place.survey(&[])).1.expect("a release");
        let folder = tempfile::tempdir().expect("a folder");
        let known = Known::new(folder.path().to_owned());
        known.keep(place.tree().manifest()).expect("it is kept");
        let facts = place.survey(&known.digests());
        assert_eq!(facts.known_manifest, Some(place.tree().manifest().digest()));
        assert!(facts.manifest.is_empty());
        let facts = place.survey(&["00".repeat(32)]);
        assert_eq!((facts.known_manifest, facts.manifest.to_vec()), (None, place.tree().manifest().to_bytes()));
    }
}
