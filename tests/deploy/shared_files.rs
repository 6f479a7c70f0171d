//! What outlives releases, and how many of them stay.

use std::fs;

use crate::deploy::fleet::Fleet;
use crate::deploy::recipe::{SWAP, UPLOAD};

const SHARED: &str = "[shared]\nfiles = [\".env\", \"conf/site.ini\"]\ndirs = [\"media\", \"var/log files\"]\n";

#[test]
fn a_missing_shared_file_is_refused_before_anything_happens() {
    let fleet = Fleet::of(&["web1", "web2"]).recipe(&[SHARED, UPLOAD, SWAP].concat());
    fleet.commit("v1", &[]);
    for host in fleet.hosts() {
        host.put("shared/.env", "A=1");
    }
    fleet.host("web1").put("shared/conf/site.ini", "");
    fleet.ship(&["deploy"]).exits(3).says("web2").says("shared/conf/site.ini").never_says(".env does not exist");
    for host in fleet.hosts() {
        assert!(host.releases().is_empty() && host.current().is_none(), "{}", host.name);
    }
    fleet.host("web2").put("shared/conf/site.ini", "");
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("v1");
}

#[test]
fn shared_files_and_folders_outlive_releases() {
    let fleet = Fleet::of(&["web1"]).recipe(&[SHARED, UPLOAD, SWAP].concat());
    let host = fleet.host("web1");
    host.put("shared/.env", "A=1");
    host.put("shared/conf/site.ini", "x");
    // What a commit holds at the same path gives way.
    fleet.commit("v1", &[(".env", "from the commit"), ("media/placeholder", ""), ("conf/other.ini", "kept")]);
    fleet.ship(&["deploy"]).exits(0);
    let current = host.root.join("current");
    assert_eq!(fs::read_to_string(current.join(".env")).unwrap(), "A=1");
    assert_eq!(fs::read_to_string(current.join("conf/other.ini")).unwrap(), "kept");
    fs::write(current.join("media/upload.png"), "pixels").unwrap();
    fs::write(current.join("var/log files/site.log"), "line").unwrap();
    fs::write(current.join(".env"), "A=2").unwrap();
    fleet.commit("v2", &[]);
    fleet.ship(&["deploy"]).exits(0);
    for path in ["media/upload.png", "var/log files/site.log"] {
        assert!(current.join(path).exists() && host.root.join("shared").join(path).exists(), "{path}");
    }
    assert_eq!(fs::read_to_string(current.join(".env")).unwrap(), "A=2");
    // Links hold wherever the tree is looked at from.
    assert_eq!(fs::read_link(current.join(".env")).unwrap().to_str(), Some("../../shared/.env"));
    fleet.ship(&["rollback"]).exits(0);
    assert_eq!(fs::read_to_string(current.join("media/upload.png")).unwrap(), "pixels");
    assert_eq!(host.version().as_deref(), Some("v1"));
}

#[test]
fn old_releases_are_removed_and_shared_files_are_not() {
    let fleet = Fleet::of(&["web1", "web2"]).inventory("keep_releases = 3\n").recipe(&[SHARED, UPLOAD, SWAP].concat());
    for host in fleet.hosts() {
        host.put("shared/.env", "A=1");
        host.put("shared/conf/site.ini", "x");
        host.put("shared/media/keep", "x");
        host.put("releases/by-hand/file", "not ship's");
    }
    for version in ["v1", "v2", "v3", "v4", "v5"] {
        fleet.commit(version, &[]);
        fleet.ship(&["deploy"]).exits(0);
    }
    for host in fleet.hosts() {
        let releases = host.releases();
        assert_eq!(releases.len(), 4, "{releases:?}");
        assert_eq!(releases.last().map(String::as_str), Some("by-hand"));
        assert_eq!(fs::read_to_string(host.root.join("shared/media/keep")).unwrap(), "x");
        assert_eq!(fs::read_dir(host.root.join(".ship/releases")).unwrap().count(), 3);
    }
    for version in ["v4", "v3"] {
        fleet.ship(&["rollback"]).exits(0);
        fleet.serves(version);
    }
}

#[test]
fn a_release_that_was_rolled_back_from_can_be_deployed_over() {
    let fleet = Fleet::of(&["web1"]).inventory("keep_releases = 1\n");
    for version in ["v1", "v2"] {
        fleet.commit(version, &[]);
        fleet.ship(&["deploy"]).exits(0);
    }
    // The predecessor of the live release stays, however few are kept.
    fleet.ship(&["rollback"]).exits(0);
    fleet.serves("v1");
    fleet.commit("v3", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.ship(&["rollback"]).exits(0);
    fleet.serves("v1");
}
