//! Connections that break and hosts that vanish in the middle of a deploy.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::deploy::fleet::Fleet;
use crate::deploy::recipe::{ONLY_V1, SWAP, UPLOAD, run_on};

/// Shell text that ends its own connection, and with `all` the server too.
fn hang_up(all: bool) -> String {
    let go_on = if all { "" } else { "; break" };
    // The server goes first, so that nobody connects to it once the connection is lost.
    format!(
        "p=$$; while [ \"$p\" -gt 1 ]; do c=$(ps -o comm= -p $p); up=$(ps -o ppid= -p $p | tr -d ' '); \
         case $c in sshd*) found=\"$p $found\"{go_on};; *) [ -z \"$found\" ] || break;; esac; p=$up; done; kill -9 $found"
    )
}

/// On later releases than v1 only, so that the way back is free.
fn not_v1(shell: &str) -> String {
    format!("{ONLY_V1} || {{ {shell}; }}")
}

fn live(fleet: Fleet) -> Fleet {
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.commit("v2", &[]);
    fleet
}

#[test]
fn a_connection_that_breaks_in_publish_is_made_again_and_every_host_put_back() {
    let fleet = live(Fleet::of(&["web1", "web2"]));
    let step = run_on("publish", "web2", &not_v1(&hang_up(false)));
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &step].concat());
    fleet.ship(&["deploy"]).exits(1).says("web2").says("connection lost").says("put back");
    fleet.serves("v1");
    let live = fleet.release();
    assert!(fleet.hosts().iter().all(|host| host.state(&live) == "live"));
}

#[test]
fn a_connection_that_breaks_in_prepare_switches_nothing() {
    let fleet = live(Fleet::of(&["web1", "web2"]));
    let step = run_on("prepare", "web2", &hang_up(false));
    let fleet = fleet.recipe(&[UPLOAD, &step, SWAP].concat());
    fleet.ship(&["deploy"]).exits(1).says("web2").says("connection lost").says("unchanged");
    fleet.serves("v1");
    let fleet = fleet.recipe(&[UPLOAD, SWAP].concat());
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("v2");
    assert!(fleet.hosts().iter().all(|host| host.releases().len() == 2));
}

#[test]
fn a_connection_that_breaks_in_finish_leaves_the_release_live() {
    let fleet = live(Fleet::of(&["web1", "web2"]));
    let step = run_on("finish", "web2", &hang_up(false));
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &step].concat());
    fleet.ship(&["deploy"]).says("web2").says("connection lost");
    fleet.host_serves("web1", "v2");
    fleet.host_serves("web2", "v2");
}

#[test]
fn a_host_that_vanishes_in_publish_needs_a_person_and_the_others_are_put_back() {
    let fleet = live(Fleet::own(&["web1", "web2"]));
    let step = run_on("publish", "web2", &not_v1(&hang_up(true)));
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &step].concat());
    let mut run = fleet.start(&["deploy", "-v"]);
    run.says("connection lost");
    // It is sought until nobody has patience any more.
    run.says("web1  + Mark the release failed");
    run.signal("INT");
    run.says("interrupted");
    run.signal("INT");
    // With what a person can do about it.
    run.ends().exits(4).says("web2 needs a person").says("current").never_says("web1 needs a person");
    fleet.host_serves("web1", "v1");
    assert!(fleet.host("web1").unlocked());
}

#[test]
fn a_host_that_accepts_and_says_nothing_is_given_up_in_time() {
    let fleet = Fleet::of(&["web1", "web2"]);
    fleet.commit("v1", &[]);
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    fleet.write_ssh_config(&format!("Host web2\n Port {port}\n"));
    let began = Instant::now();
    fleet.ship(&["deploy", "--timeout", "1s"]).exits(3).says("web2").says(&port.to_string());
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(fleet.host("web1").releases().is_empty() && fleet.host("web1").unlocked());
}

#[test]
fn an_interrupt_ends_the_wait_for_a_host_that_says_nothing() {
    let fleet = Fleet::of(&["web1"]);
    fleet.commit("v1", &[]);
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    fleet.write_ssh_config(&format!("Host web1\n Port {port}\n"));
    let mut run = fleet.start(&["deploy", "--timeout", "80s"]);
    // The handshake has begun when the server has been sent something.
    let (connection, _) = mute.accept().unwrap();
    run.says("connect");
    run.signal("INT");
    run.ends().exits(130);
    drop(connection);
}
