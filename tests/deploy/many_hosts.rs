//! Many hosts from one process: every login gets through, and memory and files stay bounded.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use crate::deploy::fleet::Fleet;
use crate::deploy::large_files::{MIB, noise};
use crate::deploy::ran::{Ran, Running};
use crate::session::sshd::{Options, Sshd};

/// A server as Debian sets it up: from ten logins on their way on, it drops some.
fn strict() -> Options {
    Options { config: vec!["MaxStartups 10:30:100".to_owned()], ..Options::default() }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("web{number}")).collect()
}

fn fleet(count: usize) -> Fleet {
    let names = names(count);
    Fleet::on_one(&names.iter().map(String::as_str).collect::<Vec<_>>(), strict())
}

/// What a run took at most, as far as it was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    /// Bytes of memory that are no file's.
    memory: usize,
    /// Open files.
    files: usize,
    /// Bytes that it and the programs which it ran have read.
    read: usize,
}

/// Runs to the end and looks at what is taken.
fn watched(run: Running) -> (Ran, Peak) {
    let id = run.id();
    let watching = thread::spawn(move || {
        let mut peak = Peak::default();
        while let Ok(status) = fs::read_to_string(format!("/proc/{id}/status")) {
            let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
            let files = fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count);
            let counted = fs::read_to_string(format!("/proc/{id}/io")).unwrap_or_default();
            let read = counted.lines().find_map(|line| line.strip_prefix("rchar: "));
            peak.read = peak.read.max(read.map_or(0, |text| text.parse().unwrap()));
            peak.memory = peak.memory.max(memory.map_or(0, |text| text.parse::<usize>().unwrap() * 1024));
            peak.files = peak.files.max(files);
            thread::sleep(Duration::from_millis(5));
        }
        peak
    });
    let ran = run.ends();
    (ran, watching.join().unwrap())
}

#[test]
fn two_hundred_hosts_log_in_without_one_being_dropped() {
    let fleet = fleet(200);
    let (ran, peak) = watched(fleet.start(&["run", "--", "echo", "here I am"]));
    let ran = ran.exits(0);
    assert_eq!(ran.stdout.matches("here I am").count() + ran.stderr.matches("here I am").count(), 200, "{ran}");
    let log = fleet.hosts()[0].server.log();
    assert_eq!(log.matches("Accepted publickey").count(), 200);
    assert!(!log.contains("MaxStartups"), "{log}");
    assert!(peak.files < 300, "{peak:?}");
    assert!(peak.memory < 80 * MIB, "{peak:?}");
}

#[test]
fn fifty_hosts_are_deployed_to_in_bounded_memory() {
    let fleet = fleet(50);
    fleet.write("large", noise(21, 9 * MIB));
    fleet.write("small", noise(22, MIB));
    fleet.commit("v1", &[]);
    let (ran, peak) = watched(fleet.start(&["deploy"]));
    ran.exits(0);
    fleet.serves_exactly("v1");
    assert!(!fleet.hosts()[0].server.log().contains("MaxStartups"));
    assert!(peak.memory < 150 * MIB, "{peak:?}");
}

#[test]
fn two_hundred_hosts_are_deployed_to_from_one_process() {
    let fleet = fleet(200);
    for number in 0..20 {
        fleet.write(&format!("d{number}/file"), noise(40 + number, 20_000));
    }
    fleet.commit("v1", &[]);
    let (ran, peak) = watched(fleet.start(&["deploy"]));
    ran.exits(0);
    fleet.serves_exactly("v1");
    let log = fleet.hosts()[0].server.log();
    assert_eq!(log.matches("Accepted publickey").count(), 200);
    assert!(!log.contains("MaxStartups"), "{log}");
    assert!(peak.files < 300, "{peak:?}");
    assert!(peak.memory < 150 * MIB, "{peak:?}");
}

#[test]
fn fifty_hosts_behind_one_bastion_cost_it_one_login() {
    let names = names(50);
    let fleet = Fleet::on_few(&names.iter().map(String::as_str).collect::<Vec<_>>(), 5, strict);
    // It opens no session for anybody: what is behind it is all that it is there for.
    let config = ["MaxStartups 10:30:100", "MaxSessions 0"].map(str::to_owned).to_vec();
    let bastion = Sshd::start(Options { config, ..Options::default() });
    fleet.write_ssh_config("Host web*\n ProxyJump bastion\n");
    fleet.knows("bastion", bastion.port, &bastion);
    fleet.write("file", noise(24, MIB));
    fleet.commit("v1", &[]);
    let ran = fleet.ship(&["run", "--", "echo", "here I am"]).exits(0);
    assert_eq!(ran.stdout.matches("here I am").count() + ran.stderr.matches("here I am").count(), 50, "{ran}");
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves_exactly("v1");
    // One for each of the two runs, and through it one for each host.
    assert_eq!(bastion.log().matches("Accepted publickey").count(), 2, "{}", bastion.log());
    let servers: BTreeMap<u16, String> =
        fleet.hosts().iter().map(|host| (host.server.port, host.server.log())).collect();
    assert_eq!(servers.values().map(|log| log.matches("Accepted publickey").count()).sum::<usize>(), 100);
    for log in servers.values().chain([&bastion.log()]) {
        assert!(!log.contains("MaxStartups") && !log.contains("refused"), "{log}");
    }
}

#[test]
fn what_ten_hosts_need_alike_is_read_once() {
    let read = |count| {
        let fleet = fleet(count);
        for number in 0..12 {
            fleet.write(&format!("d{number}/file"), noise(30 + number, MIB));
        }
        fleet.commit("v1", &[]);
        let (ran, peak) = watched(fleet.start(&["deploy"]));
        ran.exits(0);
        fleet.serves_exactly("v1");
        peak.read
    };
    let (one, ten) = (read(1), read(10));
    assert!(one > 12 * MIB, "{one}");
    // Where some are so slow to answer that they count as far, those share a stream of their own.
    assert!(ten < one + 48 * MIB, "{one} bytes for one host and {ten} for ten");
}

#[test]
fn a_large_file_is_never_in_memory_whole() {
    let fleet = Fleet::of(&["web1"]);
    fleet.write("large", noise(23, 160 * MIB));
    fleet.commit("v1", &[]);
    let (ran, peak) = watched(fleet.start(&["deploy"]));
    ran.exits(0);
    fleet.serves_exactly("v1");
    assert!(peak.memory < 40 * MIB, "{peak:?}");
}
