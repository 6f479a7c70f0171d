//! Trees on disk → scan → pack → the `tar` programs that hosts have → scan: the same manifest.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use proptest::prelude::*;

use super::{Coding, Manifest, MemoryFile, Packing, Part, ScanOptions, Tally, Tree, scan};

/// The programs that can read a stream here; GNU tar always can. Where it does not run as root, BusyBox keeps
/// modes only under an open umask, whatever `-p` says.
fn readers() -> Vec<(&'static str, Vec<&'static str>)> {
    let all = [
        ("tar", vec!["-x", "-p", "-o", "-f", "-"]),
        ("busybox", vec!["sh", "-c", "umask 0; busybox tar -x -p -o -f -"]),
        ("bsdtar", vec!["-x", "-p", "-o", "-f", "-"]),
        (
            "python3",
            vec![
                "-c",
                "import sys, tarfile
archive = tarfile.open(fileobj=sys.stdin.buffer, mode='r|')
archive.extraction_filter = getattr(tarfile, 'fully_trusted_filter', None)
archive.extractall()",
            ],
        ),
    ];
    let installed = |program: &str| Command::new(program).arg("--help").output().is_ok();
    all.into_iter().filter(|(program, _)| installed(program)).collect()
}

fn whole(tree: Tree) -> Packing {
    let entries = (0..tree.manifest().entries().len()).collect();
    Packing {
        tree: Arc::new(tree),
        entries,
        prefix: "releases/1".to_owned(),
        extra: Vec::new(),
        parts: Vec::new(),
        chunks: None,
        time: 1_700_000_000,
    }
}

fn collect(packing: Packing) -> std::io::Result<Vec<u8>> {
    let total = packing.total();
    let mut body = packing.start(Coding::Plain, &Tally::default());
    let mut bytes = Vec::new();
    while let Some(chunk) = body.blocking_recv() {
        bytes.extend_from_slice(&chunk?);
    }
    assert_eq!(bytes.len() as u64, total, "the announced length");
    Ok(bytes)
}

fn unpack(program: &str, arguments: &[&str], stream: &[u8], into: &Path) {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(into)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stream).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{program}: {output:?}");
}

fn part(from: &Path) -> Part {
    Part { from: from.to_owned(), to: String::new(), exclude: Vec::new() }
}

fn scanned(from: &Path) -> Tree {
    scan(&[part(from)], &ScanOptions::default()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn check_all_readers(tree: &Tree) {
    check_readers(tree, &readers());
}

fn check_readers(tree: &Tree, readers: &[(&str, Vec<&str>)]) {
    let stream = collect(whole(tree.clone())).unwrap();
    for (program, arguments) in readers {
        let host = tempfile::tempdir().unwrap();
        unpack(program, arguments, &stream, host.path());
        let release = host.path().join("releases/1");
        if tree.manifest().entries().is_empty() {
            continue;
        }
        let back = scanned(&release);
        assert_eq!(
            String::from_utf8_lossy(&back.manifest().to_bytes()),
            String::from_utf8_lossy(&tree.manifest().to_bytes()),
            "{program}"
        );
    }
}

/// What is put at a path.
#[derive(Clone, Debug)]
enum Thing {
    File(Vec<u8>, u32),
    Directory(u32),
    Symlink,
}

fn build(root: &Path, things: &[(Vec<Vec<u8>>, Thing)]) {
    for (names, thing) in things {
        let mut place = root.to_owned();
        for name in names {
            let _ = fs::create_dir(&place);
            place.push(OsStr::from_bytes(name));
        }
        // Names may collide, or need a folder where a file is: then this one is left out.
        match thing {
            _ if fs::symlink_metadata(&place).is_ok() => {}
            Thing::File(contents, mode) => {
                if fs::write(&place, contents).is_ok() {
                    fs::set_permissions(&place, Permissions::from_mode(*mode)).unwrap();
                }
            }
            Thing::Directory(mode) => {
                if fs::create_dir(&place).is_ok() {
                    fs::set_permissions(&place, Permissions::from_mode(*mode | 0o700)).unwrap();
                }
            }
            Thing::Symlink => {
                let _ = symlink(OsStr::from_bytes(names.last().unwrap()), &place);
            }
        }
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("a byte of a name", |byte| !matches!(byte, 0 | b'/'));
    let odd: Vec<&[u8]> = vec![
        b"-rf",
        b"a b",
        b"new\nline",
        b"it's",
        b"\"q\"",
        b"\\",
        b"$(id)",
        b"\x1b[31m",
        b"\xff\xfe",
        b"*",
        b"~",
        b".x",
    ];
    let odd: Vec<Vec<u8>> = odd.into_iter().map(<[u8]>::to_vec).collect();
    prop_oneof![
        3 => "[a-c]".prop_map(String::into_bytes),
        2 => prop::sample::select(odd),
        1 => prop::collection::vec(byte, 1..12),
        1 => (1_usize..=255).prop_map(|length| vec![b'n'; length]),
    ]
    .prop_filter("a name", |name| !matches!(name.as_slice(), b"." | b".." | b".git" | b".ship"))
}

fn thing() -> impl Strategy<Value = Thing> {
    let size = prop_oneof![0_usize..3, 510_usize..515, Just(1024), Just(300_000)];
    prop_oneof![
        4 => (size, any::<u8>(), 0_u32..0o1000).prop_map(|(size, byte, mode)| Thing::File(vec![byte; size], mode | 0o400)),
        1 => (0_u32..0o1000).prop_map(Thing::Directory),
        1 => Just(Thing::Symlink),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_is_packed_is_what_was_scanned(
        things in prop::collection::vec((prop::collection::vec(name(), 1..5), thing()), 0..24),
    ) {
        let folder = tempfile::tempdir().unwrap();
        build(folder.path(), &things);
        // Python takes most of a second to start.
        let quick: Vec<_> = readers().into_iter().filter(|(program, _)| *program != "python3").collect();
        check_readers(&scanned(folder.path()), &quick);
    }
}

#[test]
fn names_around_the_length_of_a_header_arrive() {
    let folder = tempfile::tempdir().unwrap();
    for length in [80, 86, 87, 88, 89, 90, 98, 99, 100, 101, 254, 255] {
        let name = "n".repeat(length);
        fs::write(folder.path().join(&name), &name).unwrap();
        let inner = folder.path().join("d".repeat(length));
        fs::create_dir(&inner).unwrap();
        symlink(&name, inner.join("link")).unwrap();
    }
    check_all_readers(&scanned(folder.path()));
}

#[test]
fn a_stream_of_many_chunks_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let contents: Vec<u8> = (0..700_001_u32).map(|number| (number % 251) as u8).collect();
    for name in ["a", "b", "c"] {
        fs::write(folder.path().join(name), &contents).unwrap();
    }
    check_all_readers(&scanned(folder.path()));
}

#[test]
fn streams_that_are_unpacked_at_once_are_the_whole_tree() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..40 {
        let place = folder.path().join(format!("d{}/e{}", number / 20, number / 5));
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(format!("{number}")), vec![7; 10_000 + number]).unwrap();
        fs::set_permissions(place, Permissions::from_mode(0o700)).unwrap();
    }
    let tree = scanned(folder.path());
    let record = MemoryFile::new("record", 0o600, b"1".to_vec());
    let streams = Packing { extra: vec![record], ..whole(tree.clone()) }.split(&[100_000, 100_000, 1]);
    assert_eq!(streams.len(), 4);
    for (program, arguments) in readers() {
        let host = tempfile::tempdir().unwrap();
        // As the release's folder is made before any upload begins.
        fs::create_dir_all(host.path().join("releases/1")).unwrap();
        std::thread::scope(|scope| {
            for packing in &streams {
                let (arguments, host) = (&arguments, &host);
                scope.spawn(move || unpack(program, arguments, &collect(packing.clone()).unwrap(), host.path()));
            }
        });
        assert_eq!(scanned(&host.path().join("releases/1")).manifest(), tree.manifest(), "{program}");
        assert!(host.path().join("record").exists());
    }
}

#[test]
fn settings_and_records_travel_with_their_modes() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("app"), "code").unwrap();
    let tree = scanned(folder.path()).with_files(&[MemoryFile::new("conf/.env", 0o600, b"KEY=1".to_vec())]).unwrap();
    let record = MemoryFile::new(".ship/releases/1/manifest", 0o640, tree.manifest().to_bytes());
    let stream = collect(Packing { extra: vec![record], ..whole(tree.clone()) }).unwrap();
    for (program, arguments) in readers() {
        let host = tempfile::tempdir().unwrap();
        unpack(program, &arguments, &stream, host.path());
        assert_eq!(scanned(&host.path().join("releases/1")).manifest(), tree.manifest(), "{program}");
        let record = host.path().join(".ship/releases/1/manifest");
        assert_eq!(fs::metadata(&record).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(Manifest::parse(&fs::read(record).unwrap()).as_ref(), Ok(tree.manifest()));
    }
}

#[test]
fn files_keep_their_time_and_the_same_release_is_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("index.html");
    fs::write(&file, "hello").unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    let tree = scanned(folder.path());
    let stream = collect(whole(tree.clone())).unwrap();
    assert_eq!(collect(whole(tree)).unwrap(), stream);
    let host = tempfile::tempdir().unwrap();
    unpack("tar", &["-x"], &stream, host.path());
    assert_eq!(fs::metadata(host.path().join("releases/1/index.html")).unwrap().modified().unwrap(), time);
}

#[test]
fn a_file_that_changes_after_the_scan_stops_the_stream() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a\nb");
    for (change, contents) in [("shorter", &b"12"[..]), ("other", b"54321")] {
        fs::write(&file, "12345").unwrap();
        let tree = scanned(folder.path());
        fs::write(&file, contents).unwrap();
        let error = collect(whole(tree)).unwrap_err().to_string();
        assert!(error.contains(r"a\x0ab: it changed"), "{change}: {error}");
    }
    let tree = scanned(folder.path());
    fs::remove_file(&file).unwrap();
    assert!(collect(whole(tree)).unwrap_err().to_string().contains(r"a\x0ab"));
}

#[test]
fn a_stream_that_nobody_takes_ends() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("big"), vec![0; 5_000_000]).unwrap();
    let mut packing = whole(scanned(folder.path()));
    let tree = Arc::clone(&packing.tree);
    packing.prefix = "a/../b".to_owned();
    assert!(collect(packing).unwrap_err().to_string().contains("leads out"));
    let mut body = whole(scanned(folder.path())).start(Coding::Plain, &Tally::default());
    assert!(body.blocking_recv().unwrap().is_ok());
    drop(body);
    let waiting = whole((*tree).clone());
    let weak = Arc::downgrade(&waiting.tree);
    drop(waiting.start(Coding::Plain, &Tally::default()));
    for _ in 0..200 {
        if weak.upgrade().is_none() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the thread still runs");
}
