//! What a run may cost: round trips after TCP connect, channels, and programs that are started on a host. The first two
//! stand in the README.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::deploy::fleet::Fleet;
use crate::deploy::recipe::{SWAP, UPLOAD, run};

/// An application's health check: it answers every request with 200, and never ends.
fn healthy() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    port
}

/// What most sites need: shared files, a command, the switch, a restart through sudo, a health check, old releases
/// that go, the log and the lock.
fn usual(names: &[&str]) -> Fleet {
    let fleet = Fleet::own(names);
    for host in fleet.hosts() {
        host.server.program("sudo", "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec \"$@\"\n");
        host.server.program("restart-the-site", "#!/bin/sh\nexit 0\n");
        host.put("shared/settings.env", "KEY=value\n");
    }
    let port = healthy();
    let check = format!("[[publish]]\nwait = {{ http = \"http://127.0.0.1:{port}/\", interval = \"50ms\" }}\n");
    let recipe = [
        "[shared]\nfiles = [\"settings.env\"]\ndirs = [\"media\"]\n",
        UPLOAD,
        &run("prepare", "test -e version"),
        SWAP,
        "[[publish]]\nsudo = \"restart-the-site\"\n",
        &check,
        &run("finish", "echo deployed"),
    ];
    fleet.inventory("keep_releases = 2\n").recipe(&recipe.concat())
}

/// The round trips of an upload that travels by itself: it does so where `/bin/sh` is not dash or BusyBox.
fn of_an_upload() -> u64 {
    let look = "[ -z \"$BASH_VERSION$KSH_VERSION$YASH_VERSION$ZSH_VERSION\" ]";
    u64::from(!std::process::Command::new("/bin/sh").args(["-c", look]).status().unwrap().success())
}

#[test]
fn a_deploy_of_a_few_changed_files_keeps_to_its_budget() {
    let fleet = usual(&["web1", "web2"]);
    for version in ["v1", "v2", "v3"] {
        fleet.commit(version, &[("a", version), ("b", version), ("c", "the same")]);
        let ran = fleet.ship(&["deploy", "--timing", "--output", "json"]).exits(0);
        for host in ["web1", "web2"] {
            let (channels, round_trips) = ran.cost(host);
            assert!(channels <= 3, "{channels} channels: {ran}");
            assert!(round_trips <= 11 + of_an_upload(), "{round_trips} round trips: {ran}");
        }
    }
    assert_eq!(fleet.host("web1").releases().len(), 2);
    assert!(fleet.host("web1").unlocked());
}

#[test]
fn a_rollback_keeps_to_its_budget() {
    let fleet = usual(&["web1", "web2"]);
    for version in ["v1", "v2"] {
        fleet.commit(version, &[]);
        fleet.ship(&["deploy"]).exits(0);
    }
    let ran = fleet.ship(&["rollback", "--timing", "--output", "json"]).exits(0);
    fleet.serves("v1");
    for host in ["web1", "web2"] {
        let (channels, round_trips) = ran.cost(host);
        assert!(channels <= 2, "{channels} channels: {ran}");
        assert!(round_trips <= 10, "{round_trips} round trips: {ran}");
    }
}

#[test]
fn a_single_host_has_nobody_to_wait_for() {
    let fleet = usual(&["web1"]);
    for version in ["v1", "v2"] {
        fleet.commit(version, &[("a", version)]);
        let ran = fleet.ship(&["deploy", "--timing", "--output", "json"]).exits(0);
        let (channels, round_trips) = ran.cost("web1");
        assert!(
            channels <= 3 && round_trips <= 9 + of_an_upload(),
            "{channels} channels, {round_trips} round trips: {ran}"
        );
    }
    let host = fleet.host("web1");
    assert_eq!(
        (host.state(&host.releases()[0]), host.state(&host.releases()[1])),
        ("superseded".into(), "live".into())
    );
    let ran = fleet.ship(&["rollback", "--timing", "--output", "json"]).exits(0);
    let (channels, round_trips) = ran.cost("web1");
    assert!(channels <= 2 && round_trips <= 8, "{channels} channels, {round_trips} round trips: {ran}");
    assert_eq!(
        (host.state(&host.releases()[0]), host.state(&host.releases()[1])),
        ("live".into(), "rolled_back".into())
    );
}

#[test]
fn the_time_of_each_step_and_what_each_host_cost_are_told() {
    let fleet = usual(&["web1", "web2"]);
    fleet.commit("v1", &[]);
    let mut ran = fleet.ship(&["deploy", "--timing"]).exits(0);
    for step in
        ["prepare: Upload the release: median", "publish: Switch current: median", "finish: echo deployed: median"]
    {
        ran = ran.says(step);
    }
    ran.says("3 channels, ").says(" round trips, ").says(" bytes sent, ").says(" bytes received");
}

/// Has every program that a host starts by its name written down. Those that are told by path, as the shells are, are not.
fn written_down(fleet: &Fleet, name: &str) -> std::path::PathBuf {
    let (log, host) = (fleet.at("started"), fleet.host(name));
    let own = ["sudo", "restart-the-site"];
    for entry in fs::read_dir("/usr/bin").unwrap() {
        let program = entry.unwrap().file_name().into_string().unwrap();
        if !own.contains(&program.as_str()) {
            let script =
                format!("#!/bin/sh\necho '{program}' >>'{}'\nexec '/usr/bin/{program}' \"$@\"\n", log.display());
            host.server.program(&program, &script);
        }
    }
    log
}

#[test]
fn few_programs_are_started_on_a_host() {
    let fleet = usual(&["web1"]);
    for version in ["v1", "v2"] {
        fleet.commit(version, &[("a", version), ("b", version), ("c", "the same")]);
        fleet.ship(&["deploy"]).exits(0);
    }
    let log = written_down(&fleet, "web1");
    fleet.commit("v3", &[("a", "v3"), ("b", "v3")]);
    fleet.ship(&["deploy"]).exits(0);
    let started = fs::read_to_string(log).unwrap();
    // How often a search asks whether the file system's clock has ticked is the clock's affair.
    let (searches, others): (Vec<&str>, Vec<&str>) = started.lines().partition(|program| *program == "find");
    assert!(searches.len() >= 2 && others.len() <= 42, "{} programs: {started}", others.len());
}
