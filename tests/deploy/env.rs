//! The shared settings file: changed on every host or on none, byte for byte, and never shown.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};

use crate::deploy::fleet::Fleet;
use crate::deploy::host::Host;
use crate::deploy::recipe::{SWAP, UPLOAD, run};

const PEM: &str = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA04up8hoqzS1+APIB0RhjXyObwHQ\n$HOME 'it\\'s' \\n \"x\"\n-----END RSA PRIVATE KEY-----\n";

fn settings(host: &Host) -> String {
    fs::read_to_string(host.root.join("shared/.env")).unwrap()
}

fn mode(host: &Host) -> u32 {
    fs::metadata(host.root.join("shared/.env")).unwrap().permissions().mode() & 0o777
}

/// Runs `ship` with `input` as its standard input.
fn told(fleet: &Fleet, words: &[&str], input: &[u8]) -> Output {
    let mut command = fleet.ship_command(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_key_of_several_lines_survives_byte_for_byte() {
    let fleet = Fleet::of(&["web1", "web2"]);
    fleet.write("key.pem", PEM);
    let set = fleet.ship(&["env", "set", "GITHUB_KEY", "--from-file", "key.pem"]).exits(0);
    set.says("web1, web2: set GITHUB_KEY").says("4 lines").never_says("MIIEp");
    for host in fleet.hosts() {
        assert_eq!(mode(host), 0o600);
        assert!(host.unlocked());
        let history = host.history();
        let last = history.last().unwrap();
        assert_eq!((last["action"].as_str(), last["description"].as_str()), (Some("env"), Some("set GITHUB_KEY")));
    }
    assert_eq!(fleet.ship(&["env", "get", "GITHUB_KEY"]).exits(0).stdout, PEM);
    assert_eq!(fleet.ship(&["env", "get", "prod", "GITHUB_KEY"]).exits(0).stdout, PEM);
    let given = told(&fleet, &["env", "set", "OTHER"], PEM.as_bytes());
    assert!(given.status.success(), "{given:?}");
    assert_eq!(fleet.ship(&["env", "get", "OTHER", "--host", "web2"]).exits(0).stdout, PEM);
    fleet.ship(&["env", "list"]).exits(0).says("GITHUB_KEY").never_says("MIIEp").never_says("BEGIN");
    fleet.ship(&["env", "list", "--show"]).exits(0).says("# web1, web2").says("MIIEp");
    fleet.ship(&["history"]).exits(0).says("set OTHER").never_says("MIIEp");
    assert!(!fleet.project().join(".ship").exists());
    for host in fleet.hosts() {
        assert_eq!(Fleet::holding(&host.root.join(".ship"), "MIIEp"), [""; 0]);
    }
}

#[test]
fn other_lines_stay_and_a_second_time_changes_nothing() {
    let fleet = Fleet::of(&["web1"]);
    let host = fleet.host("web1");
    let text = "# settings\r\n\nexport A = 'x'  # why\nB=${A}\nC=\"1\n2\"\n# end";
    host.put("shared/.env", text);
    fs::set_permissions(host.root.join("shared/.env"), fs::Permissions::from_mode(0o640)).unwrap();
    fleet.ship(&["env", "set", "A=y z", "D="]).exits(0).says("web1: set A, D");
    assert_eq!(settings(host), text.replace("'x'", "'y z'") + "\nD=\n");
    // What is there keeps its mode.
    assert_eq!(mode(host), 0o640);
    let (before, entries) = (host.everything(), host.history().len());
    fleet.ship(&["env", "set", "A=y z"]).exits(0).says("nothing to change");
    assert_eq!(host.history().len(), entries);
    assert_eq!(host.everything().get(b"shared/.env".as_slice()), before.get(b"shared/.env".as_slice()));
    fleet.ship(&["env", "unset", "C", "D"]).exits(0).says("web1: unset C, D");
    assert_eq!(settings(host), text.replace("'x'", "'y z'").replace("C=\"1\n2\"\n", "") + "\n");
    fleet.ship(&["env", "get", "C"]).exits(1).says("C is not set");
    fleet.ship(&["env", "get", "B"]).exits(0).says("${A}").says("refers to other variables");
}

#[test]
fn hosts_that_differ_are_shown() {
    let fleet = Fleet::of(&["web1", "web2"]);
    fleet.ship(&["env", "set", "A=same", "B=same"]).exits(0);
    fleet.ship(&["env", "set", "B=only here", "--host", "web2"]).exits(0);
    fleet.ship(&["env", "list"]).exits(1).says("The hosts differ").never_says("only here");
    fleet.ship(&["env", "get", "B"]).exits(1).says("B is not the same on all hosts");
    fleet.ship(&["env", "set", "A=new"]).exits(0).says("The hosts differ in B");
    assert_eq!(fleet.ship(&["env", "get", "B", "--host", "web1"]).exits(0).stdout, "same");
}

#[test]
fn a_file_is_sent_only_when_it_is_sound_and_filled_in() {
    let fleet = Fleet::of(&["web1"]);
    fleet.write("prod.env", "# top\nA=1\nB='hunter2\nC=3\n");
    fleet.ship(&["env", "push", "prod.env"]).exits(2).says("prod.env:3:3: the quote").never_says("hunter2");
    fleet.write("prod.env", "A=1\nTOKEN=<your token>\nURL=postgres://<user>@db\n");
    let refused = fleet.ship(&["env", "push", "prod.env"]).exits(2);
    refused.says("prod.env:2: TOKEN").says("prod.env:3: URL").says("--allow-placeholders");
    assert!(!fleet.host("web1").root.exists());
    fleet.ship(&["env", "push", "prod", "prod.env", "--allow-placeholders"]).exits(0).says("set A, TOKEN, URL");
    fleet.write("prod.env", "# other\nA=1\nKEY='\\-\\-BEGIN\\nx'\n");
    let before = settings(fleet.host("web1"));
    fleet
        .ship(&["env", "push", "prod.env"])
        .exits(2)
        .says("web1 has TOKEN, URL, which the file has not")
        .says("--prune");
    assert_eq!(settings(fleet.host("web1")), before);
    let sent = fleet.ship(&["env", "push", "prod.env", "--prune"]).exits(0);
    sent.says("set KEY; unset TOKEN, URL").says("--from-file").never_says("BEGIN");
    assert_eq!(settings(fleet.host("web1")), "# other\nA=1\nKEY='\\-\\-BEGIN\\nx'\n");
}

#[test]
fn what_cannot_be_written_or_read_changes_nothing_anywhere() {
    let fleet = Fleet::of(&["web1", "web2"]);
    fleet.ship(&["env", "set", "A=1"]).exits(0);
    let before: Vec<String> = fleet.hosts().iter().map(settings).collect();
    fleet.ship(&["env", "set", "1A=hunter2"]).exits(2).says("1A: the name must").never_says("hunter2");
    fleet.ship(&["env", "set", "nowhere", "A=2"]).exits(2).says("nowhere is no KEY=VALUE");
    fleet.ship(&["env", "set", "A"]).exits(2).says("standard input has no value");
    let binary = told(&fleet, &["env", "set", "A"], b"\xff\xfe");
    assert_eq!(binary.status.code(), Some(2), "{binary:?}");
    fleet.host("web2").put("shared/.env", "A=1\nB!=hunter2\n");
    let refused = fleet.ship(&["env", "set", "A=2"]).exits(3);
    refused.says("web2: ").says("shared/.env:2:2: unexpected '!'").never_says("hunter2");
    assert_eq!(settings(fleet.host("web1")), before[0]);
    // A folder in the way of the new file on one host, and the other stays as it is.
    fleet.host("web2").put("shared/.env", "A=1\n");
    fs::create_dir_all(fleet.host("web2").root.join("shared/.env.ship-new/x")).unwrap();
    fleet.ship(&["env", "set", "A=2"]).exits(1).says("no host was changed").says("web2: ");
    assert_eq!(fleet.hosts().iter().map(settings).collect::<Vec<_>>(), ["A=1\n", "A=1\n"]);
    assert!(!fleet.host("web1").root.join("shared/.env.ship-new").exists());
}

#[test]
fn a_change_waits_for_a_deploy_and_heeds_a_lock() {
    let fleet = Fleet::of(&["web1"]);
    let gate = fleet.gate();
    let fleet = fleet.recipe(&[UPLOAD, &run("prepare", &gate.wait()), SWAP].concat());
    fleet.commit("v1", &[]);
    let deploy = fleet.start(&["deploy"]);
    gate.arrived();
    fleet.ship(&["env", "set", "A=1", "--lock-wait", "0s"]).exits(3).says("the deploy lock is held by");
    gate.open();
    deploy.ends().exits(0);
    fleet.ship(&["lock", "-m", "the audit"]).exits(0);
    fleet.ship(&["env", "set", "A=1"]).exits(3).says("the audit").says("ship unlock");
    assert!(!fleet.host("web1").root.join("shared/.env").exists());
}

#[test]
fn production_asks_first() {
    let fleet = Fleet::of(&["web1"]).inventory("[environments.prod]\nhosts = [\"*\"]\nconfirm = true\n");
    fleet.ship(&["env", "set", "A=hunter2"]).exits(2).says("--yes").never_says("hunter2");
    fleet.ship(&["env", "set", "A=hunter2", "--yes"]).exits(0).never_says("hunter2");
    fleet.ship(&["env", "list"]).exits(0).says("A");
}

#[test]
fn the_recipe_names_the_file_and_no_value_is_in_any_argument() {
    let fleet = Fleet::own(&["web1"]).inventory("[vars]\nstage = \"blue\"\n");
    let fleet = fleet.recipe(&["env_file = \"{{ stage }}.env\"\n", UPLOAD, SWAP].concat());
    let host = fleet.host("web1");
    let seen = host.server.home.join("seen");
    // Every program that the host starts tells what it was given.
    let spy = format!(
        "#!/bin/sh\n/bin/cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\000' '\\n' >>'{}'\nexec /bin/cat \"$@\"\n",
        seen.display()
    );
    host.server.program("cat", &spy);
    let given = told(&fleet, &["env", "set", "TOKEN"], b"hunter2 and more");
    assert!(given.status.success(), "{given:?}");
    assert_eq!(fs::read_to_string(host.root.join("shared/blue.env")).unwrap(), "TOKEN='hunter2 and more'\n");
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("timeout") && !seen.contains("hunter2"), "{seen}");
}
