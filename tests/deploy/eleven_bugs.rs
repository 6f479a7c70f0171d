//! Eleven bugs that were reproduced in the tools that people would use instead of ship.

use std::fs;
use std::os::unix::fs::symlink;

use crate::deploy::fleet::Fleet;
use crate::deploy::recipe::{SWAP, UPLOAD, checked, run, run_on};
use crate::session::sshd::keygen;

/// Capistrano and Deployer: ok, failed, ok, rollback lands on the failed release, and says "successful".
#[test]
fn a_rollback_never_lands_on_a_failed_release() {
    let fleet = Fleet::of(&["web1", "web2"]).recipe(&checked());
    fleet.commit("A", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.commit("B", &[("broken", "")]);
    fleet.ship(&["deploy"]).exits(1);
    fleet.serves("A");
    fleet.git(&["rm", "-q", "broken"]);
    fleet.commit("C", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("C");
    fleet.ship(&["rollback"]).exits(0);
    fleet.serves("A");
}

/// Capistrano: ok, ok, failed, rollback "goes back" to the release that is live, and logs a rollback.
#[test]
fn a_rollback_after_a_failed_deploy_goes_back() {
    let fleet = Fleet::of(&["web1"]).recipe(&checked());
    for version in ["A", "B"] {
        fleet.commit(version, &[]);
        fleet.ship(&["deploy"]).exits(0);
    }
    fleet.commit("C", &[("broken", "")]);
    fleet.ship(&["deploy"]).exits(1);
    fleet.serves("B");
    fleet.ship(&["rollback"]).exits(0);
    fleet.serves("A");
}

/// The same, with a release that a run which was killed left half-built.
#[test]
fn a_rollback_never_lands_on_a_half_built_release() {
    let fleet = Fleet::of(&["web1"]);
    for version in ["A", "B"] {
        fleet.commit(version, &[]);
        fleet.ship(&["deploy"]).exits(0);
    }
    let gate = fleet.gate();
    let fleet = fleet.recipe(&[UPLOAD, &run("prepare", &gate.wait()), SWAP].concat());
    fleet.commit("C", &[]);
    let dying = fleet.start(&["deploy"]);
    gate.arrived();
    dying.crash();
    gate.open();
    assert_eq!(fleet.host("web1").releases().len(), 3);
    fleet.ship(&["rollback"]).exits(0);
    fleet.serves("A");
}

/// Capistrano: the client dies between `ln -s` and `mv`; the next deploy logs its own release and serves the
/// dead one.
#[test]
fn a_link_that_a_dead_client_left_is_never_published() {
    let fleet = Fleet::own(&["web1"]);
    let host = fleet.host("web1");
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    let gate = fleet.gate();
    let marker = fleet.at("mv-waits");
    fs::write(&marker, "").unwrap();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *current*) [ ! -e '{}' ] || {{ {}; exit 1; }};; esac\nexec /bin/mv \"$@\"\n",
        marker.display(),
        gate.wait()
    );
    host.server.program("mv", &script);
    fleet.commit("v2", &[]);
    let dying = fleet.start(&["deploy"]);
    gate.arrived();
    dying.crash();
    gate.open();
    fs::remove_file(marker).unwrap();
    fleet.host_serves("web1", "v1");
    // Also where Capistrano leaves its own.
    symlink(format!("../releases/{}", host.releases()[0]), host.root.join("releases/current")).unwrap();
    fleet.commit("v3", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("v3");
    assert!(host.root.join(".ship/current").symlink_metadata().is_err());
}

/// SSHKit: a command that a signal ended counts as a success.
#[test]
fn a_step_that_a_signal_ended_is_a_failure() {
    for (phase, signal, told) in [("prepare", "9", "SIGKILL"), ("publish", "15", "SIGTERM")] {
        let fleet = Fleet::of(&["web1"]);
        fleet.commit("v1", &[]);
        fleet.ship(&["deploy"]).exits(0);
        let fleet =
            fleet.recipe(&[UPLOAD, SWAP, &run(phase, &format!("grep v1 version || kill -{signal} $$"))].concat());
        fleet.commit("v2", &[]);
        fleet.ship(&["deploy"]).exits(1).says(told);
        fleet.serves("v1");
    }
}

/// All six: when one host fails, those that have switched stay switched and the fleet is mixed.
#[test]
fn hosts_that_switched_are_put_back_when_one_fails() {
    let fleet = Fleet::of(&["web1", "web2", "web3"]);
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    let before = fleet.release();
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &run_on("publish", "web3", "cat version; grep -q v1 version")].concat());
    fleet.commit("v2", &[]);
    let ran = fleet.ship(&["deploy"]).exits(1);
    let ran = ran.says("put back").says("exit status 1");
    fleet.serves("v1");
    assert_eq!(fleet.release(), before);
    for host in fleet.hosts() {
        let after = host.releases();
        assert_eq!(host.state(after.last().unwrap()), "failed", "{ran}");
        assert_eq!(host.state(&before), "live", "{ran}");
    }
}

/// Deployer: two hosts of which one is locked: exit 1, and a new lock left on the other.
#[test]
fn where_one_host_is_locked_no_lock_is_left_on_the_others() {
    let fleet = Fleet::of(&["web1", "web2", "web3"]);
    for version in ["v1", "v2"] {
        fleet.commit(version, &[]);
        fleet.ship(&["deploy"]).exits(0);
    }
    fleet.ship(&["lock", "--host", "web2", "-m", "migrating by hand"]).exits(0);
    fleet.commit("v3", &[]);
    let releases: Vec<_> = fleet.hosts().iter().map(|host| host.releases()).collect();
    for command in ["deploy", "rollback"] {
        fleet.ship(&[command, "--lock-wait", "0s"]).exits(3).says("web2").says("migrating by hand");
        fleet.serves("v2");
        assert_eq!(fleet.hosts().iter().map(|host| host.releases()).collect::<Vec<_>>(), releases);
    }
    fleet.ship(&["status"]).exits(0).says("migrating by hand");
    fleet.ship(&["unlock"]).exits(0);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("v3");
}

/// The same, where another deploy holds the lock of one host.
#[test]
fn where_one_host_is_being_deployed_to_nothing_changes_on_the_others() {
    let fleet = Fleet::of(&["web1", "web2", "web3"]);
    let gate = fleet.gate();
    let fleet = fleet.recipe(&[UPLOAD, &run("prepare", &gate.wait()), SWAP].concat());
    fleet.commit("v1", &[]);
    let first = fleet.start(&["deploy", "--host", "web2"]);
    gate.arrived();
    fleet.ship(&["deploy", "--lock-wait", "0s"]).exits(3).says("web2").says("the deploy lock is held by tester@");
    for name in ["web1", "web3"] {
        assert!(fleet.host(name).unlocked() && fleet.host(name).releases().is_empty(), "{name}");
    }
    gate.open();
    first.ends().exits(0);
    fleet.host_serves("web2", "v1");
}

/// Deployer and Mina: a client that dies leaves a lock that a person has to remove.
#[test]
fn a_client_that_is_killed_leaves_no_lock() {
    let fleet = Fleet::of(&["web1", "web2"]);
    let gate = fleet.gate();
    let fleet = fleet.recipe(&[UPLOAD, &run("prepare", &gate.wait()), SWAP].concat());
    fleet.commit("v1", &[]);
    let dying = fleet.start(&["deploy"]);
    gate.arrived();
    gate.arrived();
    dying.crash();
    // As long as a step of the dead run works on the host, nobody else does.
    fleet.ship(&["deploy", "--lock-wait", "0s"]).exits(3).says("the deploy lock is held by");
    for _ in 0..4 {
        gate.open();
    }
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("v1");
}

/// Capistrano: a rollback asks the git server, and fails when that is down.
#[test]
fn a_rollback_needs_no_git() {
    let fleet = Fleet::of(&["web1", "web2"]);
    for version in ["v1", "v2"] {
        fleet.commit(version, &[]);
        fleet.ship(&["deploy"]).exits(0);
    }
    fs::remove_dir_all(fleet.project().join(".git")).unwrap();
    fs::remove_dir_all(fleet.project().join(".ship")).unwrap();
    fs::create_dir(fleet.at("bin")).unwrap();
    let ssh = ["/usr/bin/ssh", "/usr/local/bin/ssh"].iter().find(|path| fs::exists(path).unwrap()).unwrap();
    symlink(ssh, fleet.at("bin/ssh")).unwrap();
    let bin = fleet.at("bin").display().to_string();
    let fleet = fleet.env("PATH", &bin);
    fleet.ship(&["rollback"]).exits(0);
    fleet.serves("v1");
}

/// Mina: a rollback with a single release deletes it, and exits 0 with `current` pointing nowhere.
#[test]
fn a_rollback_with_a_single_release_leaves_it_live() {
    let fleet = Fleet::of(&["web1", "web2"]);
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.ship(&["rollback"]).exits(3).says("web1").says("web2").says("no older release was healthy");
    fleet.serves("v1");
    let live = fleet.release();
    fleet.ship(&["rollback", "--to", &live]).exits(0);
    fleet.serves("v1");
    assert_eq!(fleet.host("web1").state(&live), "live");
}

/// Fabric trusts every host key, Capistrano every new one.
#[test]
fn an_unknown_host_key_is_refused_with_the_line_to_add() {
    let fleet = Fleet::own(&["web1", "web2"]);
    fleet.commit("v1", &[]);
    let known = fs::read_to_string(fleet.at("known_hosts")).unwrap();
    let (web1, web2) = known.trim_end().split_once('\n').unwrap();
    fs::write(fleet.at("known_hosts"), format!("{web1}\n")).unwrap();
    fleet.ship(&["deploy"]).exits(3).says("web2").says(web2);
    assert!(fleet.hosts().iter().all(|host| !host.root.exists()));
    fs::write(fleet.at("known_hosts"), format!("{web1}\n{web2}\n")).unwrap();
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("v1");
}

/// Capistrano with `StrictHostKeyChecking=no` for git, Deployer's action that writes it into ~/.ssh/config.
#[test]
fn a_changed_host_key_is_refused_whatever_the_configuration_says() {
    let fleet = Fleet::own(&["web1"]);
    fleet.commit("v1", &[]);
    keygen(&["-t", "ed25519", "-N", ""], &fleet.at("other"));
    let other = fs::read_to_string(fleet.at("other.pub")).unwrap();
    let port = fleet.host("web1").server.port;
    for first in ["", "StrictHostKeyChecking no\n", "StrictHostKeyChecking accept-new\n"] {
        fleet.write_ssh_config(first);
        fs::write(fleet.at("known_hosts"), format!("[127.0.0.1]:{port} {other}")).unwrap();
        fleet.ship(&["deploy"]).exits(3).says("web1").says("has changed");
    }
    assert!(!fleet.host("web1").root.exists());
}

/// Deployer: `dep run` exits 0 whatever became of the command.
#[test]
fn a_command_that_fails_fails_the_run() {
    let fleet = Fleet::of(&["web1", "web2"]);
    fleet.ship(&["run", "--", "echo from $((6*7))"]).exits(0).says("from 42");
    fleet.ship(&["run", "--", "exit 3"]).exits(1).says("exit status 3");
    fleet.ship(&["run", "--", "kill -9 $$"]).exits(1).says("SIGKILL");
    // One of them is enough, and the others still run it.
    let web1 = fleet.host("web1").server.home.display().to_string();
    let ran = fleet.ship(&["run", "--", &format!("case $HOME in {web1}) exit 5;; esac; echo fine")]);
    ran.exits(1).says("exit status 5").says("fine");
    // A program and its arguments stay what they are.
    fleet.ship(&["run", "--", "printf", "<%s>", "it's $HOME", "*"]).exits(0).says("<it's $HOME><*>");
}

/// Shipit: `current` is a folder; it says that the release is published, exits 0 and has switched nothing.
/// Ansistrano removes the folder.
#[test]
fn a_folder_in_place_of_current_is_refused_and_untouched() {
    let fleet = Fleet::of(&["web1", "web2"]);
    fleet.commit("v1", &[]);
    fleet.host("web2").put("current/precious", "data");
    let before = fleet.host("web2").everything();
    fleet.ship(&["deploy"]).exits(3).says("web2").says("is a real file or folder, not a link");
    assert_eq!(fs::read_to_string(fleet.host("web2").root.join("current/precious")).unwrap(), "data");
    assert!(fleet.host("web1").current().is_none() && fleet.host("web1").releases().is_empty());
    let after = fleet.host("web2").everything();
    assert!(before.keys().all(|path| after.contains_key(path)));
    assert!(fleet.host("web2").releases().is_empty());
}

/// Capistrano counts every folder: failed releases push the good ones out of `keep_releases`.
#[test]
fn failed_releases_never_push_out_good_ones() {
    let fleet = Fleet::of(&["web1"]).recipe(&checked()).inventory("keep_releases = 2\n");
    for version in ["A", "B"] {
        fleet.commit(version, &[]);
        fleet.ship(&["deploy"]).exits(0);
    }
    fleet.write("broken", "");
    for version in ["bad1", "bad2", "bad3"] {
        fleet.commit(version, &[]);
        fleet.ship(&["deploy"]).exits(1);
    }
    fleet.serves("B");
    fleet.ship(&["rollback"]).exits(0);
    fleet.serves("A");
}
