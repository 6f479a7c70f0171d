//! A client that is killed: the site goes on, and the next deploy works with no manual step.

use crate::deploy::fleet::Fleet;
use crate::deploy::gate::Gate;
use crate::deploy::ran::Running;
use crate::deploy::recipe::{ONLY_V1, SWAP, UPLOAD, run, run_on};

/// `hosts` serve v1, and v2 is about to be deployed.
fn about_to_die(fleet: Fleet) -> Fleet {
    fleet.commit("v1", &[("a", "1"), ("b", "1")]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.commit("v2", &[("a", "2")]);
    fleet
}

/// What the dead run left serves `version` whole; the next deploy works by itself and clears up.
fn recovers(fleet: Fleet, gate: &Gate, dying: Running, version: &str) {
    dying.crash();
    for host in fleet.hosts() {
        fleet.host_serves(&host.name, version);
    }
    // What still runs on the hosts ends.
    for _ in fleet.hosts() {
        gate.open();
    }
    let fleet = fleet.recipe(&[UPLOAD, SWAP].concat());
    fleet.commit("v3", &[("b", "3")]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("v3");
    for host in fleet.hosts() {
        let states: Vec<_> = host.releases().iter().map(|release| host.state(release)).collect();
        // The predecessor of the live release stays, also where nobody knows whether it was healthy.
        let [first, between @ .., last] = states.as_slice() else { panic!("{states:?}") };
        assert_eq!((first.as_str(), last.as_str()), ("superseded", "live"), "{states:?}");
        assert!(between.iter().all(|state| state == "ready" || state == "superseded"), "{states:?}");
        assert!(host.root.join(".ship/current").symlink_metadata().is_err());
    }
    fleet.ship(&["rollback"]).exits(0);
    assert!(fleet.hosts().iter().all(|host| host.version().as_deref() != Some("v3")));
}

#[test]
fn killed_during_an_upload() {
    let fleet = about_to_die(Fleet::own(&["web1"]));
    let gate = fleet.gate();
    // A tar that takes a part of the stream and then stands still.
    let receive =
        format!("dd bs=1024 count=64 2>/dev/null | /usr/bin/tar -xpof - 2>/dev/null; {}; exit 1", gate.wait());
    fleet.host("web1").server.program(
        "tar",
        &format!(
            "#!/bin/sh\ncase $1 in -xpof) [ -e \"{0}\" ] || {{ :>{0}; {receive}; }};; esac\nexec /usr/bin/tar \"$@\"\n",
            fleet.at("once").display()
        ),
    );
    fleet.write("large", "0123456789abcdef".repeat(512 * 1024));
    fleet.commit("v2", &[]);
    let dying = fleet.start(&["deploy"]);
    gate.arrived();
    assert_eq!(fleet.host("web1").releases().len(), 2);
    recovers(fleet, &gate, dying, "v1");
}

#[test]
fn killed_during_a_step_of_prepare() {
    let fleet = about_to_die(Fleet::of(&["web1", "web2"]));
    let gate = fleet.gate();
    let fleet = fleet.recipe(&[UPLOAD, &run("prepare", &gate.wait()), SWAP].concat());
    let dying = fleet.start(&["deploy"]);
    gate.arrived();
    gate.arrived();
    recovers(fleet, &gate, dying, "v1");
}

#[test]
fn killed_between_prepare_and_publish() {
    let fleet = about_to_die(Fleet::of(&["web1", "web2"]));
    let gate = fleet.gate();
    // One host has prepared everything and waits for the other.
    let fleet = fleet.recipe(&[UPLOAD, &run_on("prepare", "web2", &gate.wait()), SWAP].concat());
    let mut dying = fleet.start(&["deploy", "-v"]);
    gate.arrived();
    dying.says("web1  + Mark the release ready");
    recovers(fleet, &gate, dying, "v1");
}

#[test]
fn killed_right_after_the_switch() {
    let fleet = about_to_die(Fleet::of(&["web1", "web2"]));
    let gate = fleet.gate();
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &run("publish", &gate.wait())].concat());
    let dying = fleet.start(&["deploy"]);
    gate.arrived();
    gate.arrived();
    recovers(fleet, &gate, dying, "v2");
}

#[test]
fn killed_when_only_some_hosts_have_switched() {
    let fleet = about_to_die(Fleet::of(&["web1", "web2"]));
    let gate = fleet.gate();
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &run_on("publish", "web1", &gate.wait())].concat());
    let dying = fleet.start(&["deploy", "--batch", "1"]);
    gate.arrived();
    dying.crash();
    fleet.host_serves("web1", "v2");
    fleet.host_serves("web2", "v1");
    gate.open();
    fleet.ship(&["status"]).exits(1).says("The hosts differ");
    // Back, where every host has v1, or forwards.
    let fleet = fleet.recipe(&[UPLOAD, SWAP].concat());
    fleet.ship(&["rollback"]).exits(0);
    fleet.serves("v1");
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("v2");
}

#[test]
fn killed_while_hosts_are_put_back() {
    let fleet = about_to_die(Fleet::of(&["web1", "web2"]));
    let gate = fleet.gate();
    // Forwards web2 fails at once; on the way back both wait.
    let web1 = run_on("publish", "web1", &format!("! {ONLY_V1} || {}", gate.wait()));
    let web2 = run_on("publish", "web2", &format!("{ONLY_V1} && {}", gate.wait()));
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &web1, &web2].concat());
    let dying = fleet.start(&["deploy"]);
    gate.arrived();
    gate.arrived();
    recovers(fleet, &gate, dying, "v1");
}

#[test]
fn killed_during_a_rollback() {
    let fleet = about_to_die(Fleet::of(&["web1", "web2"]));
    fleet.ship(&["deploy"]).exits(0);
    let gate = fleet.gate();
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &run("publish", &gate.wait())].concat());
    let dying = fleet.start(&["rollback"]);
    gate.arrived();
    gate.arrived();
    recovers(fleet, &gate, dying, "v1");
}

#[test]
fn killed_during_finish() {
    let fleet = about_to_die(Fleet::of(&["web1", "web2"]));
    let gate = fleet.gate();
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &run("finish", &gate.wait())].concat());
    let dying = fleet.start(&["deploy"]);
    gate.arrived();
    gate.arrived();
    recovers(fleet, &gate, dying, "v2");
}

#[test]
fn killed_during_the_very_first_deploy() {
    let fleet = Fleet::of(&["web1"]);
    let gate = fleet.gate();
    let fleet = fleet.recipe(&[UPLOAD, &run("prepare", &gate.wait()), SWAP].concat());
    fleet.commit("v1", &[]);
    let dying = fleet.start(&["deploy"]);
    gate.arrived();
    dying.crash();
    assert!(fleet.host("web1").current().is_none());
    gate.open();
    let fleet = fleet.recipe(&[UPLOAD, SWAP].concat());
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("v1");
    assert_eq!(fleet.host("web1").releases(), [fleet.release()]);
}
