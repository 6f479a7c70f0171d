//! Ctrl-C: the running task ends and every host is put back; a second one stops at once and says what is where.

use std::fs::{self, File};
use std::time::Instant;

use crate::deploy::fleet::Fleet;
use crate::deploy::ran::LONGEST;
use crate::deploy::recipe::{SWAP, UPLOAD, run, run_on};

#[test]
fn an_interrupt_in_prepare_removes_what_was_prepared() {
    let fleet = Fleet::of(&["web1", "web2"]);
    let gate = fleet.gate();
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    let fleet = fleet.recipe(&[UPLOAD, &run("prepare", &gate.wait()), SWAP].concat());
    fleet.commit("v2", &[]);
    let mut run = fleet.start(&["deploy"]);
    gate.arrived();
    gate.arrived();
    run.signal("INT");
    run.says("interrupted");
    gate.open();
    gate.open();
    run.ends().exits(130).says("unchanged");
    fleet.serves("v1");
    for host in fleet.hosts() {
        assert_eq!(host.releases(), [fleet.release()]);
        assert_eq!(host.history().last().unwrap()["outcome"], "interrupted");
    }
}

#[test]
fn an_interrupt_in_publish_puts_every_host_back() {
    for signal in ["INT", "TERM", "HUP"] {
        let fleet = Fleet::of(&["web1", "web2"]);
        let gate = fleet.gate();
        fleet.commit("v1", &[]);
        fleet.ship(&["deploy"]).exits(0);
        let fleet = fleet.recipe(&[UPLOAD, SWAP, &run_on("publish", "web1", &gate.wait())].concat());
        fleet.commit("v2", &[]);
        let mut run = fleet.start(&["deploy"]);
        gate.arrived();
        fleet.host_serves("web1", "v2");
        run.signal(signal);
        run.says("interrupted");
        // Once for the task, once for the same step on the way back.
        gate.open();
        gate.open();
        run.ends().exits(130).says("put back");
        fleet.serves("v1");
    }
}

#[test]
fn an_interrupt_between_batches_puts_back_those_that_are_live() {
    let fleet = Fleet::of(&["web1", "web2"]);
    let gate = fleet.gate();
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &run_on("publish", "web2", &gate.wait())].concat());
    fleet.commit("v2", &[]);
    let mut run = fleet.start(&["deploy", "--batch", "1"]);
    gate.arrived();
    fleet.host_serves("web1", "v2");
    run.signal("INT");
    run.says("interrupted");
    gate.open();
    gate.open();
    run.ends().exits(130);
    fleet.serves("v1");
}

#[test]
fn a_second_interrupt_stops_at_once_and_names_what_is_where() {
    let fleet = Fleet::of(&["web1", "web2"]);
    let gate = fleet.gate();
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &run_on("publish", "web1", &gate.wait())].concat());
    fleet.commit("v2", &[]);
    let mut run = fleet.start(&["deploy", "--batch", "1"]);
    gate.arrived();
    run.signal("INT");
    run.says("interrupted");
    run.signal("INT");
    // Nobody opens the gate.
    run.ends().exits(4).says("web1 needs a person").says("ship status").says("current");
    fleet.host_serves("web1", "v2");
    fleet.host_serves("web2", "v1");
    gate.open();
    gate.open();
    let fleet = fleet.recipe(&[UPLOAD, SWAP].concat());
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("v2");
}

#[test]
fn a_second_interrupt_in_prepare_leaves_the_site_alone() {
    let fleet = Fleet::of(&["web1"]);
    let gate = fleet.gate();
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    let fleet = fleet.recipe(&[UPLOAD, &run("prepare", &gate.wait()), SWAP].concat());
    fleet.commit("v2", &[]);
    let mut run = fleet.start(&["deploy"]);
    gate.arrived();
    run.signal("INT");
    run.says("interrupted");
    run.signal("INT");
    run.ends().exits(130).says("unchanged");
    fleet.host_serves("web1", "v1");
    gate.open();
    let fleet = fleet.recipe(&[UPLOAD, SWAP].concat());
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("v2");
    assert_eq!(fleet.host("web1").releases().len(), 2);
}

#[test]
fn an_interrupt_while_waiting_for_the_lock_changes_nothing() {
    let fleet = Fleet::of(&["web1"]);
    let gate = fleet.gate();
    let fleet = fleet.recipe(&[UPLOAD, &run("prepare", &gate.wait()), SWAP].concat());
    fleet.commit("v1", &[]);
    let first = fleet.start(&["deploy"]);
    gate.arrived();
    let mut second = fleet.start(&["deploy", "--lock-wait", "80s"]);
    second.says("waiting for the deploy lock");
    second.signal("INT");
    second.ends().exits(130);
    gate.open();
    first.ends().exits(0);
    fleet.serves("v1");
    assert_eq!(fleet.host("web1").releases().len(), 1);
}

/// An artifact that nobody reads to its end: its file has four tebibytes, and no block on the disk.
fn endless(fleet: &Fleet) -> String {
    let folder = fleet.at("endless");
    fs::create_dir(&folder).unwrap();
    File::create(folder.join("huge")).unwrap().set_len(4 << 40).unwrap();
    folder.display().to_string()
}

#[test]
fn an_interrupt_while_files_are_read_here_frees_the_lock() {
    let fleet = Fleet::of(&["web1"]);
    let mut run = fleet.start(&["deploy", "--artifact", &endless(&fleet)]);
    run.says("connected to");
    // Who holds the lock is written down once it is taken.
    let holder = fleet.host("web1").root.join(".ship/holder");
    let began = Instant::now();
    while !holder.exists() {
        assert!(began.elapsed() < LONGEST, "it took no lock");
        std::thread::yield_now();
    }
    run.signal("INT");
    run.ends().exits(130);
    assert!(fleet.host("web1").unlocked());
    assert!(fleet.host("web1").releases().is_empty());
}

#[test]
fn a_host_that_refuses_is_told_before_files_are_read_to_their_end() {
    let fleet = Fleet::of(&["web1", "web2"]);
    let gate = fleet.gate();
    let fleet = fleet.recipe(&[UPLOAD, &run("prepare", &gate.wait()), SWAP].concat());
    fleet.commit("v1", &[]);
    let first = fleet.start(&["deploy", "--host", "web2"]);
    gate.arrived();
    fleet.ship(&["deploy", "--artifact", &endless(&fleet)]).exits(3).says("web2").says("lock is held");
    assert!(fleet.host("web1").unlocked());
    gate.open();
    first.ends().exits(0);
}
