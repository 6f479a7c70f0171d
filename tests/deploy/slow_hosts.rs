//! Hosts that are slow hold nobody back before the barrier; hosts that hang are given up in time, by their name.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::deploy::fleet::Fleet;
use crate::deploy::large_files::{MIB, noise};
use crate::deploy::link::{Kind, Link};
use crate::deploy::recipe::{SWAP, UPLOAD, run_on};
use crate::session::sshd::{Options, Sshd};

/// A server that says nothing for six seconds is given up.
const IMPATIENT: &str = "Host *\n ServerAliveInterval 2\n ServerAliveCountMax 2\n";

/// A release of twenty files, and a first host whose upload does not get on.
fn with_one_that_stalls(fleet: &Fleet) -> Link {
    for number in 0..20 {
        fleet.write(&format!("d{number}/file"), noise(60 + number, MIB));
    }
    fleet.commit("v1", &[]);
    let slow = &fleet.host("web1").server;
    let link = Link::stalling(slow.port, 6 * MIB as u64);
    fleet.knows("web1", link.port, slow);
    link
}

/// Of four hosts, all but the one that stalls are prepared before it gets on.
fn others_are_prepared(fleet: &Fleet) {
    let link = with_one_that_stalls(fleet);
    let mut run = fleet.start(&["deploy", "-v"]);
    for host in ["web2", "web3", "web4"] {
        run.says(&format!("{host}  + Mark the release ready: done"));
    }
    assert!(!run.has_said("web1  + Upload the release: done") && link.sent() < 8 * MIB as u64);
    link.release();
    run.ends().exits(0);
    fleet.serves_exactly("v1");
}

#[test]
fn a_slow_host_does_not_hold_the_others_back() {
    others_are_prepared(&Fleet::of(&["web1", "web2", "web3", "web4"]));
}

#[test]
fn a_slow_host_behind_the_same_bastion_does_not_hold_the_others_back() {
    let fleet = Fleet::of(&["web1", "web2", "web3", "web4"]);
    let bastion = Sshd::start(Options::default());
    fleet.write_ssh_config("Host web*\n ProxyJump bastion\n");
    fleet.knows("bastion", bastion.port, &bastion);
    others_are_prepared(&fleet);
}

#[test]
fn a_slow_link_has_time_for_what_travels_with_the_commands() {
    let fleet = Fleet::of(&["web1"]);
    fleet.write("file", noise(90, MIB / 4));
    fleet.commit("v1", &[]);
    let server = &fleet.host("web1").server;
    // Twenty seconds: longer than a shell may be silent for before it begins with a command.
    let link = Link::to(server.port, Kind { rate: 20 << 10, ..Kind::default() });
    fleet.knows("web1", link.port, server);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves_exactly("v1");
}

/// Processes of a server that a test has stopped; they are ended with the test.
struct Stopped(PathBuf);

impl Drop for Stopped {
    fn drop(&mut self) {
        let processes = fs::read_to_string(&self.0).unwrap_or_default();
        let _ = Command::new("kill").arg("-9").args(processes.split_whitespace()).status();
    }
}

#[test]
fn a_host_that_hangs_after_the_login_is_given_up_by_name() {
    // What a login runs first stops the server that runs it.
    let noise = Some("echo $PPID >>stopped; kill -STOP $PPID");
    let options = |name: &str| Options { noise: noise.filter(|_| name == "web2"), ..Options::default() };
    let fleet = Fleet::with(&["web1", "web2", "web3"], options);
    let _stopped = Stopped(fleet.host("web2").server.home.join("stopped"));
    fleet.commit("v1", &[]);
    fleet.write_ssh_config(IMPATIENT);
    let began = Instant::now();
    fleet.ship(&["deploy"]).exits(3).says("web2").says("has not answered for too long").never_says("web1:");
    // Without those settings too it is less than a minute.
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(fleet.hosts().iter().all(|host| host.releases().is_empty()));
    assert!(fleet.host("web1").unlocked() && fleet.host("web3").unlocked());
}

#[test]
fn a_host_that_hangs_in_the_upload_is_given_up_by_name() {
    let fleet = Fleet::of(&["web1", "web2", "web3"]);
    fleet.write_ssh_config(IMPATIENT);
    let _link = with_one_that_stalls(&fleet);
    let began = Instant::now();
    fleet.ship(&["deploy"]).exits(1).says("web1").says("has not answered for too long").says("unchanged");
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(fleet.hosts().iter().all(|host| host.current().is_none()));
    assert!(fleet.host("web2").unlocked() && fleet.host("web3").unlocked());
}

#[test]
fn a_host_that_hangs_in_prepare_is_given_up_by_name_and_nothing_is_switched() {
    let fleet = Fleet::own(&["web1", "web2", "web3"]);
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.commit("v2", &[]);
    let list = fleet.host("web2").server.home.join("stopped");
    let stop = format!(
        "p=$$; while [ \"$p\" -gt 1 ]; do c=$(ps -o comm= -p $p); up=$(ps -o ppid= -p $p | tr -d \" \"); \
         case $c in sshd*) break;; esac; p=$up; done; echo $p >{}; kill -STOP $p",
        list.display()
    );
    let fleet = fleet.recipe(&[UPLOAD, &run_on("prepare", "web2", &stop), SWAP].concat());
    let _stopped = Stopped(list);
    fleet.write_ssh_config(IMPATIENT);
    let began = Instant::now();
    fleet.ship(&["deploy"]).exits(1).says("web2").says("has not answered for too long").says("unchanged");
    assert!(began.elapsed() < Duration::from_secs(30));
    for host in ["web1", "web2", "web3"] {
        fleet.host_serves(host, "v1");
    }
    assert!(fleet.host("web1").unlocked() && fleet.host("web3").unlocked());
    assert_eq!(fleet.host("web1").releases().len(), 1);
}
