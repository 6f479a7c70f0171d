//! Several deploys at once: one at a time, and none is lost.

use crate::deploy::fleet::Fleet;
use crate::deploy::recipe::{SWAP, UPLOAD, run};

#[test]
fn the_second_of_two_deploys_waits_or_is_told_who_holds_the_lock() {
    let fleet = Fleet::of(&["web1", "web2"]);
    let gate = fleet.gate();
    let fleet = fleet.recipe(&[UPLOAD, &run("prepare", &gate.wait()), SWAP].concat());
    let first_commit = fleet.commit("v1", &[]);
    let first = fleet.start(&["deploy"]);
    gate.arrived();
    gate.arrived();
    let refused = fleet.ship(&["deploy", "--lock-wait", "0s"]).exits(3);
    refused.says("the deploy lock is held by tester@").says(&first_commit[..7]).says("v1");
    fleet.ship(&["rollback", "--lock-wait", "0s"]).exits(3).says("the deploy lock is held by tester@");
    fleet.ship(&["status"]).exits(0).says("tester@");

    fleet.commit("v2", &[]);
    let mut second = fleet.start(&["deploy", "--lock-wait", "60s"]);
    second.says("waiting for the deploy lock, held by tester@");
    for _ in 0..4 {
        gate.open();
    }
    first.ends().exits(0);
    second.ends().exits(0);
    fleet.serves("v2");
    assert!(fleet.hosts().iter().all(|host| host.history().len() == 2));
}

#[test]
fn a_deploy_that_starts_meanwhile_changes_nothing_of_what_is_sent() {
    let fleet = Fleet::own(&["web1"]);
    let gate = fleet.gate();
    // The first waits when its files are chosen and not yet sent.
    let once = fleet.at("once");
    let wait =
        format!("case $* in *releases/2*) [ -e '{0}' ] || {{ : >'{0}'; {1}; }};; esac", once.display(), gate.wait());
    fleet.host("web1").server.program("mkdir", &format!("#!/bin/sh\n{wait}\nexec /bin/mkdir \"$@\"\n"));
    fleet.commit("v1", &[("a", "1"), ("only-in-v1", "")]);
    let first = fleet.start(&["deploy"]);
    gate.arrived();
    std::fs::remove_file(fleet.project().join("only-in-v1")).unwrap();
    fleet.commit("v2", &[("a", "2")]);
    let mut second = fleet.start(&["deploy"]);
    second.says("waiting for the deploy lock");
    gate.open();
    first.ends().exits(0);
    second.ends().exits(0);
    fleet.serves_exactly("v2");
    fleet.ship(&["rollback"]).exits(0);
    fleet.serves_exactly("v1");
}

#[test]
fn eight_deploys_that_start_together_all_happen_one_after_the_other() {
    let fleet = Fleet::of(&["web1", "web2"]).inventory("keep_releases = 20\n");
    // A step that sees another deploy at work on its host fails.
    let alone = "mkdir ../../busy && rmdir ../../busy";
    let fleet = fleet.recipe(&[UPLOAD, &run("prepare", alone), SWAP, &run("publish", alone)].concat());
    fleet.commit("v1", &[]);
    let racers: Vec<_> = (0..8).map(|_| fleet.start(&["deploy", "--lock-wait", "60s"])).collect();
    for racer in racers {
        racer.ends().exits(0);
    }
    fleet.serves("v1");
    let [web1, web2] = fleet.hosts() else { unreachable!() };
    assert_eq!(web1.releases().len(), 8);
    assert_eq!(web1.releases(), web2.releases());
    for host in fleet.hosts() {
        let mut released: Vec<_> =
            host.history().iter().map(|entry| entry["release"].as_str().unwrap().to_owned()).collect();
        assert!(released.is_sorted(), "{released:?}");
        released.dedup();
        assert_eq!(released, host.releases());
    }
}
