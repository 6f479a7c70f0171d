//! Files arrive exactly: contents, modes, links and names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use crate::deploy::fleet::Fleet;
use crate::deploy::host::tree;
use crate::deploy::recipe::{SWAP, UPLOAD};

/// Names that shells, tar, git and sha256sum take for something else.
const ODD: &[&[u8]] = &[
    b"with space",
    b" leading and trailing ",
    b"it's",
    b"\"double\"",
    b"new\nline",
    b"back\\slash",
    b"\\x41",
    b"-rf",
    b"--checkpoint-action=exec=sh",
    b"caf\xe9",
    "\u{fc}n\u{ef}".as_bytes(),
    b"*",
    b"$(touch pwned)",
    b"#hash",
    b"tab\there",
    b"@at",
    b"%s",
];

fn plant(folder: &Path) {
    let at = |name: &[u8]| folder.join(OsStr::from_bytes(name));
    for name in ODD {
        fs::write(at(name), name).unwrap();
        let below = at(&[b"dir ".as_slice(), name].concat());
        fs::create_dir(&below).unwrap();
        fs::write(below.join(OsStr::from_bytes(name)), "below").unwrap();
    }
    fs::write(at(&[b'n'; 255]), "long").unwrap();
    fs::write(at(b"empty"), "").unwrap();
    fs::write(at(b"binary"), (0..=255u8).cycle().take(1_000_000).collect::<Vec<_>>()).unwrap();
    fs::write(at(b"tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(at(b"tool"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("tool", at(b"link")).unwrap();
    symlink("nowhere at all", at(b"dangling")).unwrap();
    symlink("../with space", at(b"dir it's/up")).unwrap();
    symlink("dir *", at(b"link to folder")).unwrap();
    symlink(OsStr::from_bytes(b"caf\xe9"), at(b"link\nto odd")).unwrap();
    let deep = folder.join("deep/".repeat(40));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "deep").unwrap();
}

#[test]
fn a_commit_arrives_exactly() {
    let fleet = Fleet::of(&["web1"]);
    plant(&fleet.project());
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves_exactly("v1");
    // Unchanged files are copied on the host: by another way than the first time.
    fs::remove_file(fleet.project().join("-rf")).unwrap();
    fs::set_permissions(fleet.project().join("empty"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(fleet.project().join("link")).unwrap();
    symlink("empty", fleet.project().join("link")).unwrap();
    fleet.commit("v2", &[("it's", "changed")]);
    let second = fleet.ship(&["deploy", "--output", "json"]).exits(0);
    assert!(second.uploaded("web1") < 256 * 1024, "{second}");
    fleet.serves_exactly("v2");
    fleet.ship(&["rollback"]).exits(0);
    fleet.serves_exactly("v1");
}

/// What only a folder or an archive can carry: modes and empty folders.
fn artifact(fleet: &Fleet) -> std::path::PathBuf {
    let folder = fleet.at("artifact");
    fs::create_dir(&folder).unwrap();
    plant(&folder);
    fs::write(folder.join("version"), "a1").unwrap();
    fs::create_dir_all(folder.join("empty folder/inner")).unwrap();
    for (path, mode) in
        [("tool", 0o750), ("binary", 0o600), ("version", 0o444), ("dir *", 0o750), ("empty folder/inner", 0o700)]
    {
        fs::set_permissions(folder.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    folder
}

#[test]
fn what_is_shared_may_be_named_by_the_digest_of_an_artifact() {
    let fleet = Fleet::of(&["web1"]);
    let path = artifact(&fleet).display().to_string();
    let shared = "[shared]\nfiles = [\"conf-{{ revision }}\"]\n";
    let fleet = fleet.recipe(&[shared, UPLOAD, SWAP].concat());
    let lacking = fleet.ship(&["deploy", "--artifact", &path]).exits(3).says("does not exist").to_string();
    let name = lacking.split("shared/conf-").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    fleet.host("web1").put(&format!("shared/conf-{name}"), "x");
    fleet.ship(&["deploy", "--artifact", &path]).exits(0);
    assert!(fleet.host("web1").root.join("current").join(format!("conf-{name}")).exists());
}

#[test]
fn a_folder_arrives_exactly() {
    let fleet = Fleet::of(&["web1"]);
    let folder = artifact(&fleet);
    let path = folder.display().to_string();
    fleet.ship(&["deploy", "--artifact", &path]).exits(0);
    assert!(fleet.host("web1").live_tree() == tree(&folder));
    fs::write(folder.join("added"), "a2").unwrap();
    fs::remove_dir(folder.join("empty folder/inner")).unwrap();
    fs::set_permissions(folder.join("tool"), fs::Permissions::from_mode(0o700)).unwrap();
    let second = fleet.ship(&["deploy", "--artifact", &path, "--output", "json"]).exits(0);
    assert!(second.uploaded("web1") < 256 * 1024, "{second}");
    assert!(fleet.host("web1").live_tree() == tree(&folder));
    fleet.ship(&["rollback"]).exits(0);
    assert!(!fleet.host("web1").root.join("current/added").exists());
}

#[test]
fn an_archive_arrives_exactly() {
    let fleet = Fleet::of(&["web1"]);
    let folder = artifact(&fleet);
    for (number, options) in
        [["-cf", "--format=gnu"], ["-cf", "--format=pax"], ["-czf", "--format=gnu"]].iter().enumerate()
    {
        let archive = fleet.at(&format!("site{number}.tar"));
        let [create, format] = options;
        let tar = Command::new("tar").arg(create).arg(&archive).arg(format).arg("-C").arg(&folder).arg(".").status();
        assert!(tar.unwrap().success());
        fleet.ship(&["deploy", "--artifact", &archive.display().to_string()]).exits(0);
        assert!(fleet.host("web1").live_tree() == tree(&folder), "{options:?}");
    }
}

#[test]
fn what_cannot_be_carried_is_refused_before_anything_starts() {
    let fleet = Fleet::of(&["web1"]);
    let folder = fleet.at("artifact");
    fs::create_dir(&folder).unwrap();
    let path = folder.display().to_string();
    assert!(Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap().success());
    fleet.ship(&["deploy", "--artifact", &path]).exits(2).says("pipe");
    fs::remove_file(folder.join("pipe")).unwrap();
    symlink("/etc/passwd", folder.join("absolute")).unwrap();
    fleet.ship(&["deploy", "--artifact", &path]).exits(2).says("absolute");
    fleet.ship(&["deploy", "--artifact", "no such folder"]).exits(2).says("does not exist");
    assert!(!fleet.host("web1").root.exists());
}
