//! Hosts that fail: in prepare, in publish, batch by batch, as many as may.

use crate::deploy::fleet::Fleet;
use crate::deploy::recipe::{ONLY_V1, SWAP, UPLOAD, run_on};
use crate::session::sshd::Options;

fn live(names: &[&str]) -> Fleet {
    let fleet = Fleet::of(names);
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.commit("v2", &[]);
    fleet
}

#[test]
fn where_prepare_fails_on_one_host_nothing_is_switched_anywhere() {
    let fleet = live(&["web1", "web2", "web3"]);
    let before = fleet.release();
    let fleet = fleet.recipe(&[UPLOAD, &run_on("prepare", "web2", "echo no space left >&2; exit 28"), SWAP].concat());
    let ran = fleet.ship(&["deploy"]).exits(1);
    ran.says("web2").says("exit status 28").says("no space left").says("unchanged");
    fleet.serves("v1");
    for host in fleet.hosts() {
        assert_eq!(host.releases(), [before.as_str()]);
        assert_eq!(host.history().last().unwrap()["outcome"], "failed");
    }
}

#[test]
fn where_the_very_first_publish_fails_nothing_is_live() {
    let fleet = Fleet::of(&["web1", "web2"]);
    fleet.commit("v1", &[]);
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &run_on("publish", "web2", "exit 1")].concat());
    fleet.ship(&["deploy"]).exits(1);
    for host in fleet.hosts() {
        assert!(!host.root.join("current").is_symlink(), "{}", host.name);
    }
    let fleet = fleet.recipe(&[UPLOAD, SWAP].concat());
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("v1");
}

#[test]
fn where_the_second_batch_fails_the_first_is_put_back_and_the_third_never_begins() {
    let fleet = live(&["web1", "web2", "web3"]);
    let seen = fleet.at("web3-began");
    let began = format!(": >'{}'", seen.display());
    let fleet =
        fleet.recipe(&[UPLOAD, SWAP, &run_on("publish", "web2", ONLY_V1), &run_on("publish", "web3", &began)].concat());
    let ran = fleet.ship(&["deploy", "--batch", "1"]).exits(1);
    ran.says("batch 2 of 3").never_says("batch 3 of 3").says("put back");
    fleet.serves("v1");
    assert!(!seen.exists());
}

#[test]
fn a_failure_that_may_happen_puts_back_its_own_host_only() {
    let fleet = live(&["web1", "web2", "web3"]);
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &run_on("publish", "web2", ONLY_V1)].concat());
    fleet.ship(&["deploy", "--batch", "1", "--max-failures", "1"]).exits(1).says("web2");
    fleet.host_serves("web1", "v2");
    fleet.host_serves("web2", "v1");
    fleet.host_serves("web3", "v2");
    fleet.ship(&["status"]).exits(1).says("The hosts differ");
}

#[test]
fn one_failure_more_than_may_happen_puts_every_host_back() {
    let fleet = live(&["web1", "web2", "web3"]);
    let fail = |host| run_on("publish", host, ONLY_V1);
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &fail("web2"), &fail("web3")].concat());
    fleet.ship(&["deploy", "--batch", "1", "--max-failures", "1"]).exits(1);
    fleet.serves("v1");
}

#[test]
fn a_failure_in_finish_is_told_and_undoes_nothing() {
    let fleet = live(&["web1", "web2"]);
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &run_on("finish", "web1", "echo cold; exit 9")].concat());
    fleet.ship(&["deploy"]).exits(0).says("exit status 9");
    fleet.serves("v2");
}

#[test]
fn a_rollback_that_fails_is_put_back_too() {
    let fleet = live(&["web1", "web2"]);
    fleet.ship(&["deploy"]).exits(0);
    let check = run_on("publish", "web2", "grep -q v2 version");
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &check].concat());
    fleet.ship(&["rollback"]).exits(1).says("put back");
    fleet.serves("v2");
    let live = fleet.release();
    assert!(fleet.hosts().iter().all(|host| host.state(&live) == "live"));
    // It was healthy once, and can be asked for again.
    let fleet = fleet.recipe(&[UPLOAD, SWAP].concat());
    fleet.ship(&["rollback"]).exits(0);
    fleet.serves("v1");
}

#[test]
fn a_host_that_cannot_be_put_back_needs_a_person_and_says_so() {
    let fleet = live(&["web1", "web2"]);
    // Fails forwards, and fails again on the way back.
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &run_on("publish", "web2", "exit 1")].concat());
    fleet.ship(&["deploy"]).exits(4).says("web2 needs a person").says("putting back failed");
    fleet.host_serves("web1", "v1");
}

#[test]
fn a_host_that_cannot_take_the_upload_says_why_and_stays_as_it_is() {
    // As where the disk is full: no file may be longer than 64 KiB.
    let small = |name: &str| Options { noise: (name == "web2").then_some("ulimit -f 128"), ..Options::default() };
    let fleet = Fleet::with(&["web1", "web2"], small);
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.commit("v2", &[("large", &"0123456789abcdef".repeat(64 * 1024))]);
    fleet.ship(&["deploy"]).exits(1).says("Upload the release").says("web2").says("unchanged");
    fleet.serves("v1");
    assert!(fleet.hosts().iter().all(|host| host.releases().len() == 1));
}

#[test]
fn a_server_that_allows_one_channel_only_is_told_so() {
    let narrow = |name: &str| {
        let config = if name == "web2" { vec!["MaxSessions 1".to_owned()] } else { Vec::new() };
        Options { config, ..Options::default() }
    };
    let fleet = Fleet::with(&["web1", "web2"], narrow);
    fleet.commit("v1", &[]);
    let ran = fleet.ship(&["deploy"]).says("web2");
    assert!(!ran.succeeded(), "{ran}");
    ran.says("MaxSessions");
    assert!(fleet.hosts().iter().all(|host| host.current().is_none() && host.unlocked()));
}

#[test]
fn a_step_that_runs_once_runs_on_one_host() {
    let fleet = live(&["web1", "web2", "web3"]);
    let count = fleet.at("count");
    let step = format!("[[prepare]]\nrun = '''echo here >>'{}' '''\nonce = true\n", count.display());
    let fleet = fleet.recipe(&[UPLOAD, &step, SWAP].concat());
    fleet.ship(&["deploy"]).exits(0);
    assert_eq!(std::fs::read_to_string(count).unwrap(), "here\n");
}
