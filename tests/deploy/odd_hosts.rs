//! Hosts that are not as ship would have left them: new ones, those of other tools, broken ones.

use std::fs;
use std::os::unix::fs::symlink;

use crate::deploy::fleet::Fleet;
use crate::deploy::recipe::{SWAP, UPLOAD, run};

#[test]
fn every_command_has_an_answer_for_a_new_host() {
    let fleet = Fleet::of(&["web1"]);
    fleet.commit("v1", &[]);
    fleet.ship(&["status"]).exits(0).says("nothing is live");
    fleet.ship(&["releases"]).exits(0).says("no release yet");
    fleet.ship(&["history"]).exits(0).says("Nothing was done yet");
    fleet.ship(&["check"]).exits(0);
    fleet.ship(&["plan"]).exits(0).says("live now: nothing");
    fleet.ship(&["rollback"]).exits(3).says("no older release");
    fleet.ship(&["unlock"]).exits(0);
    fleet.ship(&["run", "--in-release", "--", "pwd"]).exits(1).says("125");
    assert!(fleet.host("web1").releases().is_empty());
}

#[test]
fn a_new_host_can_be_locked() {
    let fleet = Fleet::of(&["web1", "web2"]);
    fleet.commit("v1", &[]);
    fleet.ship(&["lock", "-m", "not yet"]).exits(0);
    fleet.ship(&["deploy"]).exits(3).says("not yet");
    fleet.ship(&["unlock"]).exits(0);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("v1");
}

/// A host that Capistrano deployed to, with an absolute link.
fn from_capistrano() -> (Fleet, String) {
    let fleet = Fleet::of(&["web1"]);
    let host = fleet.host("web1");
    host.put("releases/20230505101010/version", "cap");
    host.put("releases/20230404101010/version", "old");
    host.put("shared/log/production.log", "x");
    let target = host.root.join("releases/20230505101010").display().to_string();
    symlink(&target, host.root.join("current")).unwrap();
    fleet.commit("v1", &[]);
    (fleet, target)
}

#[test]
fn a_host_of_another_tool_is_taken_over() {
    let (fleet, _) = from_capistrano();
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("v1");
    fleet.commit("v2", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.ship(&["rollback"]).exits(0);
    fleet.serves("v1");
    // What ship did not make it does not remove.
    assert_eq!(fleet.host("web1").releases().len(), 4);
}

#[test]
fn a_first_deploy_that_fails_puts_back_the_release_of_another_tool() {
    let (fleet, target) = from_capistrano();
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &run("publish", "! grep -q v1 version")].concat());
    let ran = fleet.ship(&["deploy"]);
    assert!(!ran.succeeded(), "{ran}");
    let link = fs::read_link(fleet.host("web1").root.join("current"));
    assert_eq!(link.ok().and_then(|link| link.into_os_string().into_string().ok()), Some(target), "{ran}");
    assert_eq!(fleet.host("web1").version().as_deref(), Some("cap"));
    ran.exits(1);
}

#[test]
fn a_live_release_that_somebody_removed_is_no_obstacle() {
    let fleet = Fleet::of(&["web1"]);
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fs::remove_dir_all(fleet.host("web1").root.join("releases").join(fleet.release())).unwrap();
    fleet.ship(&["status"]).says("current points nowhere");
    fleet.commit("v2", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("v2");
    fleet.ship(&["rollback"]).exits(3);
    fleet.serves("v2");
}

#[test]
fn records_that_somebody_removed_are_no_obstacle() {
    let fleet = Fleet::of(&["web1"]);
    fleet.commit("v1", &[("a", "1")]);
    fleet.ship(&["deploy"]).exits(0);
    fs::remove_dir_all(fleet.host("web1").root.join(".ship")).unwrap();
    fleet.commit("v2", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("v2");
}

#[test]
fn records_that_are_garbage_are_no_obstacle() {
    let fleet = Fleet::of(&["web1"]);
    for version in ["v1", "v2"] {
        fleet.commit(version, &[("a", version)]);
        fleet.ship(&["deploy"]).exits(0);
    }
    let host = fleet.host("web1");
    let record = format!(".ship/releases/{}", host.current().unwrap());
    for file in ["manifest", "sums", "keep", "info", "verified"] {
        host.put(&format!("{record}/{file}"), "\u{0}garbage\n../../../etc/passwd\n");
    }
    host.put(".ship/history.jsonl", "garbage\n{\"time\":5}\n");
    host.put(".ship/holder", "\u{1b}]0;title\u{7} garbage");
    fleet.commit("v3", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves_exactly("v3");
    fleet.ship(&["history"]).exits(0).says("deploy");
    fleet.ship(&["releases"]).exits(0);
    fleet.ship(&["rollback"]).exits(0);
    fleet.serves("v2");
}

#[test]
fn a_new_release_is_the_latest_whatever_the_clocks_say() {
    let fleet = Fleet::of(&["web1", "web2"]);
    fleet.host("web2").put("releases/29990101T000000Z-abcdef0/version", "future");
    for version in ["v1", "v2"] {
        fleet.commit(version, &[]);
        fleet.ship(&["deploy"]).exits(0);
        assert!(fleet.release().as_str() > "29990101T000000Z", "{}", fleet.release());
    }
    fleet.ship(&["rollback"]).exits(0);
    fleet.serves("v1");
}

#[test]
fn two_deploys_in_one_second_are_two_releases() {
    let fleet = Fleet::of(&["web1"]);
    fleet.commit("v1", &[]);
    let mut releases = std::collections::BTreeSet::new();
    for _ in 0..3 {
        fleet.ship(&["deploy"]).exits(0);
        releases.insert(fleet.release());
    }
    assert_eq!(releases.len(), 3);
}

#[test]
fn what_a_host_prints_is_shown_and_not_obeyed() {
    let fleet = Fleet::of(&["web1"]);
    fleet.commit("v1", &[]);
    let print = "printf '\\033]0;owned\\007\\033[2J\\rover\\n::set-output name=x::y\\n##vso[task.complete]\\n\\377\\376\\n'; exit 1";
    let fleet = fleet.recipe(&[UPLOAD, &run("prepare", print), SWAP].concat());
    for output in ["plain", "github", "json"] {
        let ran = fleet.ship(&["deploy", "--output", output, "--no-color"]).exits(1);
        for text in [&ran.stdout, &ran.stderr] {
            assert!(!text.contains(['\u{1b}', '\u{7}', '\r']), "{ran}");
            assert!(text.lines().all(|line| !line.trim_start().starts_with("::set-output")), "{ran}");
            assert!(!text.contains("##vso"), "{ran}");
        }
    }
}

#[test]
fn a_host_that_prints_without_end_is_bounded_by_its_time() {
    let fleet = Fleet::of(&["web1"]);
    fleet.commit("v1", &[]);
    let endless = format!("{}timeout = \"1s\"\n", run("prepare", "yes \"$(printf %01000d 7)\""));
    let fleet = fleet.recipe(&[UPLOAD, &endless, SWAP].concat());
    fleet.ship(&["deploy", "-q"]).exits(1).says("timed out after 1 s");
    assert!(fleet.host("web1").current().is_none());
}
