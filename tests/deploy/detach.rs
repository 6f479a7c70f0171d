//! Detached steps: they go on when the connection, the client or the laptop is gone, and are found again.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::deploy::fleet::Fleet;
use crate::deploy::ran::Ran;
use crate::deploy::recipe::{SWAP, UPLOAD};

/// A step that runs `shell` detached.
fn detached(shell: &str) -> String {
    format!("[[prepare]]\nname = \"Build it\"\nrun = '''{shell}'''\ndetach = true\n")
}

/// The lines that the step printed on `host`, in a run with `--output json`.
fn printed(ran: &Ran, host: &str) -> Vec<String> {
    let lines = ran.events().into_iter().filter(|event| event["event"] == "task_output" && event["host"] == host);
    lines.map(|event| event["line"].as_str().unwrap().to_owned()).collect()
}

/// A line to a server that can be cut.
struct Line {
    port: u16,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Line {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = Self { port: listener.local_addr().unwrap().port(), streams: Arc::default() };
        let streams = Arc::clone(&line.streams);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", port)).unwrap());
                for (mut from, mut to) in [
                    (client.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server.try_clone().unwrap(), client.try_clone().unwrap()),
                ] {
                    std::thread::spawn(move || {
                        let mut buffer = [0; 16 * 1024];
                        while let Ok(count @ 1..) = from.read(&mut buffer) {
                            if to.write_all(&buffer[..count]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                streams.lock().unwrap().extend([client, server]);
            }
        });
        line
    }

    /// Ends every connection at once, in the middle of whatever they carry.
    fn cut(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn a_killed_client_leaves_it_running_and_the_next_deploy_sees_all_of_it() {
    let fleet = Fleet::of(&["web1", "web2"]);
    let gate = fleet.gate();
    let step = detached(&format!("echo x >>../../count; echo begin; {}; echo made >made; echo end", gate.wait()));
    let fleet = fleet.recipe(&[UPLOAD, &step, SWAP].concat());
    fleet.commit("v1", &[]);
    fleet.ship(&["plan"]).exits(0).says("detached: it goes on when the connection is lost");
    let dying = fleet.start(&["deploy"]);
    gate.arrived();
    gate.arrived();
    dying.crash();
    fleet.ship(&["status"]).exits(0).says("still runs detached").says("Build it");
    fleet.ship(&["plan"]).exits(0).says("detached: it runs there already");
    let mut next = fleet.start(&["deploy", "--output", "json"]);
    for host in fleet.hosts() {
        next.says(&format!("\"host\":\"{}\",\"text\":\"Build it runs already", host.name));
    }
    gate.open();
    gate.open();
    let ran = next.ends().exits(0);
    for host in fleet.hosts() {
        assert_eq!(fs::read_to_string(host.root.join("count")).unwrap(), "x\n", "{}", host.name);
        assert_eq!(printed(&ran, &host.name), ["begin", "end"]);
        // What it made in the folder of the release that never was.
        assert_eq!(fs::read_to_string(host.root.join("current/made")).unwrap(), "made\n");
        assert!(fs::read_dir(host.root.join(".ship/detached")).unwrap().next().is_none());
    }
    fleet.serves("v1");
    // The same again is another run.
    let again = fleet.start(&["deploy"]);
    for _ in fleet.hosts() {
        gate.arrived();
        gate.open();
    }
    again.ends().exits(0);
    assert_eq!(fs::read_to_string(fleet.host("web1").root.join("count")).unwrap(), "x\nx\n");
}

#[test]
fn a_cut_line_is_made_again_and_not_a_byte_is_lost() {
    let fleet = Fleet::of(&["web1"]);
    let (gate, later) = (fleet.gate(), fleet.gate());
    let count = 20_000;
    let step = detached(&format!(
        "echo x >>../../count; i=0; while [ $i -lt {count} ]; do i=$((i + 1)); echo \"line $i of the build\"; [ $i != 15000 ] || {}; done; {}",
        gate.wait(),
        later.wait()
    ));
    let fleet = fleet.recipe(&[UPLOAD, &step, SWAP].concat());
    fleet.commit("v1", &[]);
    let server = &fleet.host("web1").server;
    let line = Line::to(server.port);
    fleet.write_ssh_config(&format!("Host web1\n Port {}\n", line.port));
    let known = fs::read_to_string(fleet.at("known_hosts")).unwrap();
    fs::write(fleet.at("known_hosts"), format!("{known}[127.0.0.1]:{} {}\n", line.port, server.host_key)).unwrap();
    let mut run = fleet.start(&["deploy", "--output", "json"]);
    gate.arrived();
    run.says("line 9000 of the build");
    line.cut();
    run.says("is found again");
    gate.open();
    later.arrived();
    line.cut();
    later.open();
    let ran = run.ends().exits(0);
    let expected: Vec<String> = (1..=count).map(|number| format!("line {number} of the build")).collect();
    assert!(printed(&ran, "web1") == expected, "{} lines", printed(&ran, "web1").len());
    assert_eq!(fs::read_to_string(fleet.host("web1").root.join("count")).unwrap(), "x\n");
    fleet.write_ssh_config("");
    fleet.serves("v1");
}

#[test]
fn one_that_fails_is_started_anew_and_one_that_succeeded_is_taken_up() {
    let fleet = Fleet::of(&["web1"]);
    let root = fleet.host("web1").root.clone();
    let slow = detached("echo x >>../../slow; mkdir dist; echo made >dist/file");
    let step = detached("echo x >>../../count; echo out; test -e ../../ready || exit 9");
    let fleet = fleet.recipe(&[UPLOAD, &slow, &step, SWAP].concat());
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(1).says("exit status 9");
    assert_eq!(fleet.host("web1").releases(), [""; 0]);
    fleet.host("web1").put("ready", "");
    fleet.ship(&["deploy"]).exits(0);
    assert_eq!(fs::read_to_string(root.join("count")).unwrap(), "x\nx\n");
    // It succeeded, but what it made went with the release that failed.
    assert_eq!(fs::read_to_string(root.join("slow")).unwrap(), "x\nx\n");
    assert_eq!(fs::read_to_string(root.join("current/dist/file")).unwrap(), "made\n");
    fleet.serves("v1");
}

#[test]
fn a_success_that_nobody_saw_is_taken_up() {
    let fleet = Fleet::of(&["web1"]);
    let gate = fleet.gate();
    let step = detached(&format!("echo x >>../../count; {}; echo \"built by $WHO\"", gate.wait()));
    let fleet = fleet.recipe(&[UPLOAD, &step, "env = { WHO = \"{{ secrets.token }}\" }\n", SWAP].concat());
    let fleet = fleet.inventory("[secrets]\ntoken = { env = \"SITE_TOKEN\" }\n").env("SITE_TOKEN", "hunter22");
    fleet.commit("v1", &[]);
    let dying = fleet.start(&["deploy"]);
    gate.arrived();
    dying.crash();
    gate.open();
    let host = fleet.host("web1");
    // Its keeper writes the status last.
    let folder = fs::read_dir(host.root.join(".ship/detached")).unwrap().next().unwrap().unwrap().path();
    let waited = std::process::Command::new("flock").args(["-w", "20"]).arg(folder.join("alive")).arg("true").status();
    assert!(waited.unwrap().success());
    assert_eq!(fs::read_to_string(folder.join("status")).unwrap(), "0\n");
    let ran = fleet.ship(&["deploy", "-v", "--output", "json"]).exits(0).says("has succeeded already");
    assert_eq!(printed(&ran, "web1"), ["built by [secret]"]);
    assert_eq!(fs::read_to_string(host.root.join("count")).unwrap(), "x\n");
    fleet.serves("v1");
}

#[test]
fn another_commit_leaves_it_its_folder() {
    let fleet = Fleet::of(&["web1"]);
    let gate = fleet.gate();
    let step = detached(&format!("grep -q v2 version || {{ {}; cat version; }}", gate.wait()));
    let fleet = fleet.recipe(&[UPLOAD, &step, SWAP].concat());
    fleet.commit("v1", &[]);
    let dying = fleet.start(&["deploy"]);
    gate.arrived();
    dying.crash();
    let first = fleet.host("web1").releases();
    fleet.commit("v2", &[]);
    fleet.ship(&["deploy"]).exits(0);
    assert_eq!(fleet.host("web1").releases().len(), 2);
    gate.open();
    let log = fs::read_dir(fleet.host("web1").root.join(".ship/detached")).unwrap().next().unwrap().unwrap().path();
    let waited = std::process::Command::new("flock").args(["-w", "20"]).arg(log.join("alive")).arg("true").status();
    assert!(waited.unwrap().success());
    assert_eq!(fs::read_to_string(log.join("log")).unwrap(), "v1");
    fleet.ship(&["deploy"]).exits(0);
    assert!(!fleet.host("web1").releases().contains(&first[0]));
    fleet.serves("v2");
}

#[test]
fn an_interrupt_waits_for_it_and_a_second_leaves_it_running() {
    let fleet = Fleet::of(&["web1"]);
    let gate = fleet.gate();
    let step = detached(&format!("echo x >>../../count; {}; echo end", gate.wait()));
    let fleet = fleet.recipe(&[UPLOAD, &step, SWAP].concat());
    fleet.commit("v1", &[]);
    let mut run = fleet.start(&["deploy"]);
    gate.arrived();
    run.signal("INT");
    run.says("is waited for");
    run.signal("INT");
    run.ends().exits(130).says("goes on alone there").says("/log");
    assert_eq!(fleet.host("web1").releases().len(), 1);
    let mut run = fleet.start(&["deploy"]);
    run.says("runs already");
    run.signal("INT");
    run.says("is waited for");
    gate.open();
    // It ended, and nothing was published.
    run.ends().exits(130);
    assert!(fleet.host("web1").current().is_none());
    assert_eq!(fs::read_to_string(fleet.host("web1").root.join("count")).unwrap(), "x\n");
    fleet.ship(&["deploy"]).exits(0).says("has succeeded already");
    fleet.serves("v1");
}

#[test]
fn detach_stands_only_where_it_means_something() {
    let fleet = Fleet::of(&["web1"]).recipe(&[UPLOAD, SWAP, "detach = true\n"].concat());
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(2).says("`swap` cannot be detached in `publish`");
}
