//! What a host does with a transfer, on a real shell: a project and a host that are folders of this machine.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use super::on_shell::run;
use super::receive::receive;
use super::record;
use super::transfer::{Lists, Sending, Transfer, held};
use crate::artifact::known::Known;
use crate::artifact::patch::candidates;
use crate::artifact::{Chunks, Coding, Kind, Part, ScanOptions, Tally, Tree, scan};
use crate::command::EnvValue;
use crate::facts::{Facts, Info, ReleaseState, Survey};
use crate::layout::{Layout, ReleaseId};
use crate::step::Action;

/// A project and a host, both folders of this machine.
struct Place {
    project: tempfile::TempDir,
    host: tempfile::TempDir,
    /// Programs that the host is taken not to have.
    without: &'static [&'static str],
    /// What the recipe says.
    read_only: bool,
    /// What of the release's record does not arrive.
    lost: Option<&'static str>,
    /// Where the host finds programs before all others.
    programs: Option<tempfile::TempDir>,
}

fn id(number: u32) -> ReleaseId {
    ReleaseId::new(&format!("20261121T1015{number:02}Z"), "aaaaaaa").expect("an id")
}

impl Place {
    fn new(without: &'static [&'static str]) -> Self {
        let place = Self {
            project: tempfile::tempdir().expect("a project"),
            host: tempfile::tempdir().expect("a host"),
            without,
            read_only: false,
            lost: None,
            programs: None,
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
        let outputs: Vec<Vec<u8>> = survey.commands().iter().map(|command| run(command, b"").stdout).collect();
        let mut facts = Facts::parse(&outputs);
        facts.programs.retain(|program, _| !self.without.contains(&program.as_str()));
        facts
    }

    /// Deploys the project as release `number`: what was sent, and how the first task that failed ended.
    fn deploy(&self, number: u32, facts: &Facts) -> (Transfer, Result<(), Output>) {
        let (layout, release, tree) = (self.layout(), id(number), Arc::new(self.tree()));
        // As the deploy does it: those of files of which the host has another version.
        let had = Chunks::parse(&facts.chunks);
        let mut chunks = Chunks::default();
        for index in candidates(tree.manifest(), &held(facts), &had) {
            if let Kind::File { sha256, .. } = &tree.manifest().entries()[index].kind {
                chunks.insert(*sha256, tree.chunks(index).expect("its chunks"));
            }
        }
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
        assert!(run(&record::begin(&layout, &release, &Info::default()), b"").status.success());
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
                        let output = run(&lot.command(Coding::Plain), &bytes);
                        assert!(output.status.success(), "{output:?}");
                    }
                    if let Some(name) = self.lost {
                        fs::remove_file(self.record(number).join(name)).expect("it was sent");
                    }
                }
                Action::Command(mut command) if result.is_ok() => {
                    if let Some(programs) = &self.programs {
                        let path = std::env::var("PATH").expect("a path");
                        command = command.env("PATH", EnvValue::Plain(format!("{}:{path}", programs.path().display())));
                    }
                    let output = run(&command, b"");
                    if !output.status.success() {
                        result = Err(output);
                    }
                }
                _ => {}
            }
        }
        if result.is_ok() {
            let live = record::states(&layout, &[(&release, ReleaseState::Live)]);
            assert!(run(&live, b"").status.success());
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
    for (path, contents) in [
        ("-rf", "1"),
        ("-", "stdin"),
        ("(", "8"),
        ("!", "9"),
        ("a *b", "2"),
        ("d/same", "3"),
        ("d/other", "4"),
        ("gone/x", "5"),
    ] {
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
        assert_eq!(matches!(second.lists, Lists::Sent { .. }), made);
        assert!(made || matches!(second.lists, Lists::Made { based: true, .. }));
        assert!(!matches!(first.lists, Lists::Made { based: true, .. }));
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
fn a_list_of_files_that_did_not_arrive_is_not_taken_for_an_empty_one() {
    // What unpacks a stream that ends between two files may say nothing of it.
    for (without, lost, status) in [(&["awk"][..], "sums", 70), (&[], "lists", 71)] {
        let mut place = Place::new(without);
        place.lost = Some(lost);
        place.write("a", "1");
        let output = place.deploy(1, &place.survey(&[])).1.expect_err("nothing was verified");
        assert_eq!(output.status.code(), Some(status), "{output:?}");
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
fn many_files_are_taken_by_several_programs_or_by_one() {
    for (read_only, several) in [(true, true), (false, true), (true, false), (false, false)] {
        let mut place = Place::new(&[]);
        place.read_only = read_only;
        for number in 0..1500 {
            place.write(&format!("d{}/e{}/{number}", number % 7, number % 3), &number.to_string());
        }
        place.deploy(1, &place.survey(&[])).1.expect("a release");
        let log = place.host.path().join("log");
        if !several {
            // As in a BusyBox that was built without.
            let programs = tempfile::tempdir().expect("a folder");
            let text = format!(
                "#!/bin/sh\ncase \" $* \" in *' -P 4 '*) exit 1; esac\necho >>'{}'\nPATH=${{PATH#*:}} exec xargs \"$@\"\n",
                log.display()
            );
            fs::write(programs.path().join("xargs"), text).expect("a program");
            fs::set_permissions(programs.path().join("xargs"), fs::Permissions::from_mode(0o755)).expect("its mode");
            place.programs = Some(programs);
        }
        place.write("d0/e0/new", "new");
        let (second, result) = place.deploy(2, &place.survey(&[]));
        assert!(result.is_ok(), "{result:?} {read_only} {several}");
        assert_eq!((second.difference.bytes_to_send, second.difference.unchanged.len()), (3, 1500 + 7 + 21));
        assert_eq!(log.exists(), !several);
        let file = |number| fs::metadata(place.release(number).join("d0/e0/0")).expect("the file");
        assert_eq!(scanned(&place.release(1)).lines().count() + 1, scanned(&place.release(2)).lines().count());
        assert_eq!(file(1).ino() == file(2).ino(), read_only && several);
        // And what several find to be changed is named.
        let changed = place.release(2).join("d1/e1/1");
        fs::remove_file(&changed).expect("the file");
        fs::write(&changed, "x").expect("the file");
        let (_, result) = place.deploy(3, &place.survey(&[]));
        assert!(result.is_ok(), "{result:?} {read_only} {several}");
        assert_eq!(fs::read(place.release(3).join("d1/e1/1")).expect("the file"), b"1");
    }
}

/// Bytes that do not repeat.
fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(step).take(length).collect()
}

#[test]
fn a_large_file_is_made_of_the_one_before_wherever_it_changed() {
    type Change = fn(&mut Vec<u8>);
    let in_place: Change = |bytes| bytes[2_000_000..2_000_500].fill(7);
    let shifted: Change = |bytes| drop(bytes.splice(2_000_000..2_000_000, *b"more"));
    let longer: Change = |bytes| bytes.extend_from_slice(&noise(9, 300_000));
    let shorter: Change = |bytes| bytes.truncate(4_300_000);
    for (gnu, read_only) in [(true, false), (true, true), (false, false)] {
        let changes = if read_only { vec![in_place] } else { vec![in_place, shifted, longer, shorter] };
        for change in changes {
            let mut place = Place::new(&[]);
            place.read_only = read_only;
            let mut bytes = noise(1, 5_000_000);
            fs::write(place.project.path().join("it's large"), &bytes).expect("a file");
            place.deploy(1, &place.survey(&[])).1.expect("a release");
            change(&mut bytes);
            fs::write(place.project.path().join("it's large"), &bytes).expect("a file");
            let facts = Facts { gnu_cp: gnu, ..place.survey(&[]) };
            let (second, result) = place.deploy(2, &facts);
            assert!(result.is_ok(), "{result:?}");
            assert_eq!(second.patches.len(), 1);
            assert!(second.bytes() < 2_500_000, "{}", second.bytes());
            assert!(fs::read(place.release(2).join("it's large")).expect("the file") == bytes);
            let expected = place.tree().manifest().to_bytes();
            assert_eq!(fs::read(place.record(2).join("manifest")).expect("the manifest"), expected);
            let found = fs::metadata(place.release(2).join("it's large")).expect("the file");
            let mode = if read_only { 0o444 } else { 0o644 };
            assert_eq!((found.mode() & 0o777, found.mtime()), (mode, 1_700_000_000));
        }
    }
}

/// A release of a read-only tree, and what the host looks like then.
fn linked(without: &'static [&'static str]) -> (Place, Facts) {
    let mut place = Place::new(without);
    place.read_only = true;
    fill(&place, false);
    place.write("deep/er/file", "deep");
    place.deploy(1, &place.survey(&[])).1.expect("a release");
    let facts = place.survey(&[]);
    (place, facts)
}

/// Long ago.
fn age(path: &Path) {
    let file = fs::File::options().append(true).open(path).expect("the file");
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("its time");
}

#[test]
fn a_file_that_was_put_in_the_place_of_a_shared_one_is_not_shared() {
    for without in [&[][..], &["awk"]] {
        for (path, folder) in [("index", false), ("deep/er/file", false), ("deep", true)] {
            let (place, _) = linked(without);
            place.write("index", "index");
            place.deploy(2, &place.survey(&[])).1.expect("a release");
            // Prepared elsewhere, with a time long ago.
            let other = place.root().join("other");
            let file = if folder {
                fs::create_dir_all(other.join("er")).expect("a folder");
                other.join("er/file")
            } else {
                other.clone()
            };
            fs::write(&file, "maintenance").expect("a file");
            age(&file);
            let target = place.release(2).join(path);
            if folder {
                fs::remove_dir_all(&target).expect("it goes");
            }
            fs::rename(&other, &target).expect("it is put there");
            let output = place.deploy(3, &place.survey(&[])).1;
            if let Err(output) = output {
                assert_eq!(output.status.code(), Some(70), "{output:?}");
                assert!(place.deploy(4, &place.survey(&[])).1.is_ok());
                assert_eq!(scanned(&place.release(4)), scanned_read_only(&place), "{path}");
            } else {
                assert_eq!(scanned(&place.release(3)), scanned_read_only(&place), "{path}");
            }
        }
    }
}

fn scanned_read_only(place: &Place) -> String {
    String::from_utf8_lossy(&place.tree().manifest().to_bytes()).into_owned()
}

#[test]
fn a_shared_file_that_changes_during_the_upload_is_seen() {
    let (place, facts) = linked(&[]);
    let file = place.release(1).join("d/same");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("its mode");
    fs::write(&file, "edited").expect("the file");
    let output = place.deploy(2, &facts).1.expect_err("it was changed");
    assert_eq!(output.status.code(), Some(70), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("d/same"), "{output:?}");
    assert!(place.deploy(3, &place.survey(&[])).1.is_ok());
    assert_eq!(scanned(&place.release(3)), scanned_read_only(&place));
}

#[test]
fn a_live_release_that_lacks_a_file_is_not_relied_on_twice() {
    for read_only in [false, true] {
        let mut place = Place::new(&[]);
        place.read_only = read_only;
        fill(&place, false);
        place.deploy(1, &place.survey(&[])).1.expect("a release");
        let facts = place.survey(&[]);
        fs::remove_file(place.release(1).join("d/same")).expect("it goes");
        let output = place.deploy(2, &facts).1.expect_err("a file is gone");
        assert_eq!(output.status.code(), Some(73), "{output:?}");
        assert!(place.survey(&[]).manifest.is_empty());
        assert!(place.deploy(3, &place.survey(&[])).1.is_ok());
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
