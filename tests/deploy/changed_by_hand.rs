//! Hosts on which somebody changed what ship made: the next release is the commit all the same.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::deploy::fleet::Fleet;
use crate::deploy::recipe::{SWAP, UPLOAD, run};

fn fleet() -> Fleet {
    let fleet = Fleet::of(&["web1"]);
    symlink("kept", fleet.project().join("link")).unwrap();
    fleet.write("tool", "#!/bin/sh\n");
    fs::set_permissions(fleet.project().join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
    fleet.commit("v1", &[("kept", "original"), ("folder/file", "original"), ("other/file", "other"), ("a", "1")]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.commit("v2", &[("a", "2")]);
    fleet
}

/// Whatever `harm` does to the live release, the next is exactly its commit.
fn heals(harm: impl Fn(&std::path::Path)) {
    let fleet = fleet();
    harm(&fleet.host("web1").root.join("current"));
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves_exactly("v2");
}

#[test]
fn a_file_that_was_edited_is_not_copied_into_the_next_release() {
    heals(|live| fs::write(live.join("kept"), "edited").unwrap());
}

#[test]
fn an_edit_that_keeps_size_and_time_is_seen_too() {
    heals(|live| {
        let time = fs::metadata(live.join("kept")).unwrap().modified().unwrap();
        fs::write(live.join("kept"), "0riginal").unwrap();
        fs::File::options().write(true).open(live.join("kept")).unwrap().set_modified(time).unwrap();
    });
}

#[test]
fn a_file_that_was_removed_is_there_again() {
    heals(|live| fs::remove_file(live.join("kept")).unwrap());
}

#[test]
fn a_link_that_was_removed_is_there_again() {
    heals(|live| fs::remove_file(live.join("link")).unwrap());
}

#[test]
fn a_link_that_points_elsewhere_is_right_again() {
    heals(|live| {
        fs::remove_file(live.join("link")).unwrap();
        symlink("/etc", live.join("link")).unwrap();
    });
}

#[test]
fn a_folder_that_was_removed_is_there_again() {
    heals(|live| fs::remove_dir_all(live.join("folder")).unwrap());
}

#[test]
fn a_folder_that_became_a_link_is_a_folder_again() {
    heals(|live| {
        fs::rename(live.join("folder"), live.join("elsewhere")).unwrap();
        symlink("elsewhere", live.join("folder")).unwrap();
    });
}

#[test]
fn a_folder_that_an_older_one_was_moved_over_is_right_again() {
    let fleet = fleet();
    let live = fleet.host("web1").root.join("current");
    // Nothing in it was touched since: only its own place says so.
    fs::remove_dir_all(live.join("folder")).unwrap();
    fs::rename(live.join("other"), live.join("folder")).unwrap();
    let first = fleet.ship(&["deploy"]);
    if !first.succeeded() {
        first.exits(1).says("files on the host are not what was sent").says("the next deploy sends every file");
        assert_eq!(fleet.host("web1").version().as_deref(), Some("v1"));
        fleet.ship(&["deploy"]).exits(0);
    }
    fleet.serves_exactly("v2");
}

#[test]
fn a_mode_that_was_changed_is_right_again() {
    heals(|live| {
        fs::set_permissions(live.join("tool"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(live.join("kept"), fs::Permissions::from_mode(0o777)).unwrap();
    });
}

#[test]
fn an_owner_s_folder_mode_that_was_changed_is_right_again() {
    let fleet = fleet();
    let host = fleet.host("web1");
    fs::set_permissions(host.root.join("current/folder"), fs::Permissions::from_mode(0o777)).unwrap();
    fleet.ship(&["deploy"]).exits(0);
    let mode = fs::metadata(host.root.join("current/folder")).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o755);
}

#[test]
fn files_that_were_added_do_not_spread() {
    heals(|live| fs::write(live.join("folder/cache"), "made at run time").unwrap());
}

#[test]
fn a_step_that_changes_a_file_changes_it_once_per_release() {
    let fleet = fleet().recipe(&[UPLOAD, &run("prepare", "echo more >>kept"), SWAP].concat());
    for version in ["v3", "v4", "v5"] {
        fleet.commit(version, &[]);
        fleet.ship(&["deploy"]).exits(0);
        let kept = fs::read_to_string(fleet.host("web1").root.join("current/kept")).unwrap();
        assert_eq!(kept, "originalmore\n", "{version}");
    }
}

#[test]
fn a_path_may_change_its_kind_from_release_to_release() {
    let fleet = Fleet::of(&["web1"]);
    let path = fleet.project().join("x");
    fleet.commit("file", &[("x", "file")]);
    fleet.ship(&["deploy"]).exits(0);
    fs::remove_file(&path).unwrap();
    fleet.commit("folder", &[("x/inner", "in")]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves_exactly("folder");
    fs::remove_dir_all(&path).unwrap();
    symlink("version", &path).unwrap();
    fleet.commit("link", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves_exactly("link");
    fs::remove_file(&path).unwrap();
    fleet.commit("again", &[("x", "file")]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves_exactly("again");
    for version in ["link", "folder", "file"] {
        fleet.ship(&["rollback"]).exits(0);
        fleet.serves_exactly(version);
    }
}

#[test]
fn an_upload_that_arrives_changed_is_never_published() {
    let fleet = Fleet::own(&["web1"]);
    fleet.commit("v1", &[("page", "right")]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.commit("v2", &[("page", "right again")]);
    let tar = "#!/bin/sh\n/usr/bin/tar \"$@\" || exit\ncase $1 in -xpof) for f in releases/*/page; do :; done; echo wrong >$f;; esac\n";
    fleet.host("web1").server.program("tar", tar);
    fleet.ship(&["deploy"]).exits(1).says("files on the host are not what was sent").says("page");
    fleet.serves("v1");
    assert_eq!(fleet.host("web1").releases().len(), 1);
}

#[test]
fn a_folder_that_only_the_application_may_read_is_no_trouble() {
    let fleet = Fleet::own(&["web1"]);
    fleet.commit("v1", &[("a", "1")]);
    fleet.ship(&["deploy"]).exits(0);
    let host = fleet.host("web1");
    fs::create_dir(host.root.join("current/cache")).unwrap();
    // Whoever runs the tests may read everything: this is what the login user of a host would be told.
    let refused = "case \"$*\" in *-mindepth*|*-exec*) echo \"find: './cache': Permission denied\" >&2; exit 1;; esac";
    host.server.program("find", &format!("#!/bin/sh\n/usr/bin/find \"$@\" || exit\n{refused}\n"));
    fleet.commit("v2", &[("b", "2")]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves_exactly("v2");
}
