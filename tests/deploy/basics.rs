//! Deploying, deploying again, and going back.

use crate::deploy::fleet::Fleet;
use crate::deploy::large_files::{MIB, noise};
use crate::deploy::recipe::{SWAP, UPLOAD, run};

#[test]
fn the_second_deploy_sends_only_what_changed() {
    let fleet = Fleet::of(&["web1", "web2", "web3"]);
    fleet.write("assets/large.bin", noise(1, MIB));
    fleet.commit("v1", &[("index.html", "one")]);
    let first = fleet.ship(&["deploy", "--output", "json"]).exits(0);
    fleet.serves("v1");
    let first_release = fleet.release();

    fleet.commit("v2", &[("index.html", "two")]);
    let second = fleet.ship(&["deploy", "--output", "json"]).exits(0);
    fleet.serves("v2");
    assert_ne!(fleet.release(), first_release);
    for host in ["web1", "web2", "web3"] {
        assert!(first.uploaded(host) > 1024 * 1024, "{first}");
        assert!(second.uploaded(host) < 16 * 1024, "{second}");
    }
}

#[test]
fn a_deploy_of_a_few_files_opens_at_most_six_channels_per_host() {
    let fleet = Fleet::of(&["web1", "web2"]).recipe(
        &[
            UPLOAD,
            &run("prepare", "echo one"),
            &run("prepare", "echo two"),
            SWAP,
            &run("publish", "test -e version"),
            &run("finish", "echo three"),
        ]
        .concat(),
    );
    fleet.commit("v1", &[("a", "1"), ("b", "1"), ("c", "1")]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.commit("v2", &[("a", "2"), ("b", "2")]);
    let ran = fleet.ship(&["deploy", "--timing", "--output", "json"]).exits(0);
    for host in ["web1", "web2"] {
        let (channels, round_trips) = ran.cost(host);
        assert!(channels <= 6, "{channels} channels: {ran}");
        assert!(round_trips <= 20, "{round_trips} round trips: {ran}");
    }
}

#[test]
fn a_second_rollback_goes_further_back() {
    let fleet = Fleet::of(&["web1", "web2"]);
    for version in ["v1", "v2", "v3"] {
        fleet.commit(version, &[]);
        fleet.ship(&["deploy"]).exits(0);
    }
    fleet.ship(&["rollback"]).exits(0).says("Rolled back");
    fleet.serves("v2");
    fleet.ship(&["rollback"]).exits(0);
    fleet.serves("v1");
    fleet.ship(&["rollback"]).exits(3).says("no older release was healthy on every host");
    fleet.serves("v1");
    fleet.commit("v4", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("v4");
    fleet.ship(&["rollback"]).exits(0);
    fleet.serves("v1");
}

#[test]
fn a_rollback_goes_to_the_release_that_is_named() {
    let fleet = Fleet::of(&["web1", "web2"]);
    let mut releases = Vec::new();
    for version in ["v1", "v2", "v3"] {
        fleet.commit(version, &[]);
        fleet.ship(&["deploy"]).exits(0);
        releases.push(fleet.release());
    }
    fleet.ship(&["rollback", "--to", &releases[0]]).exits(0);
    fleet.serves("v1");
    // Forward again: the release is there and was healthy.
    fleet.ship(&["rollback", "--to", &releases[2]]).exits(0);
    fleet.serves("v3");
    fleet.ship(&["rollback"]).exits(0);
    fleet.serves("v2");
    fleet.ship(&["rollback", "--to", &releases[2]]).exits(0);
    fleet.ship(&["rollback", "--to", "20200101T000000Z-abcdef0"]).exits(3).says("web1").says("is not there");
    fleet.ship(&["rollback", "--to", "../../etc"]).exits(2);
    fleet.serves("v3");
}

#[test]
fn a_rollback_is_refused_where_a_host_lacks_the_release() {
    let fleet = Fleet::of(&["web1", "web2"]);
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy", "--host", "web1"]).exits(0);
    let only_on_web1 = fleet.host("web1").current().unwrap();
    fleet.commit("v2", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.ship(&["rollback"]).exits(3).says("no older release was healthy on every host");
    fleet.ship(&["rollback", "--to", &only_on_web1]).exits(3).says("web2").says("is not there");
    fleet.serves("v2");
    fleet.ship(&["rollback", "--host", "web1"]).exits(0);
    fleet.host_serves("web1", "v1");
    fleet.host_serves("web2", "v2");
    fleet.ship(&["status"]).exits(1).says("The hosts differ");
}

#[test]
fn what_was_done_stands_in_the_history_of_every_host() {
    let fleet = Fleet::of(&["web1", "web2"]);
    let commit = fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.commit("v2", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.ship(&["rollback"]).exits(0);
    for host in fleet.hosts() {
        let history = host.history();
        let words: Vec<_> = history.iter().map(|entry| (&entry["action"], &entry["outcome"])).collect();
        assert_eq!(
            words,
            [
                (&"deploy".into(), &"done".into()),
                (&"deploy".into(), &"done".into()),
                (&"rollback".into(), &"done".into())
            ]
        );
        assert_eq!(history[0]["revision"], commit.as_str());
        assert!(history[0]["by"].as_str().unwrap().starts_with("tester@"), "{history:?}");
        assert_eq!(history[2]["before"], history[1]["release"]);
    }
    fleet.ship(&["history"]).exits(0).says("rollback").says("web1, web2");
    fleet.ship(&["status"]).exits(0).says(&fleet.release()).says("live");
    fleet.ship(&["releases"]).exits(0).says("rolled_back");
}

#[test]
fn a_plan_changes_nothing_and_says_what_a_deploy_would_do() {
    let fleet = Fleet::of(&["web1"]);
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    let before = fleet.host("web1").everything();
    fleet.commit("v2", &[("new.html", "new")]);
    for words in [["plan"].as_slice(), &["deploy", "--dry-run"], &["check"], &["status"], &["releases"], &["history"]] {
        fleet.ship(words).exits(0);
        assert_eq!(fleet.host("web1").everything(), before, "{words:?}");
    }
    fleet.ship(&["plan"]).exits(0).says("new.html").says("publish").says("if publish fails");
    fleet.serves("v1");
}
