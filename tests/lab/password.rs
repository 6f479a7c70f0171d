//! A host that lets people in by password only, and whose sudo wants it too.

use std::io::Read as _;
use std::process::Stdio;

use crate::hosts::{Host, Lab, Project};
use crate::spy::Spy;

const INVENTORY: &str = r#"
recipe    = "static"
app       = "site"
deploy_to = "/home/doodle/site"

[hosts.pw1]
password = { secret = "login" }

[environments.prod]
hosts = ["pw1"]

[secrets]
login = { env = "LOGIN" }
"#;

#[test]
fn a_password_from_a_secret_lets_ship_in_and_is_never_shown() {
    let lab = Lab::new();
    let host = lab.host("pw1");
    lab.root(&host, "rm -rf /home/doodle/site");
    let password = password(&host);
    let project = Project::new(&lab).env("LOGIN", &password);
    project.write("inventory.toml", INVENTORY);
    project.write("index.html", "hello");
    project.commit("a page");
    let run = project.ship(&["deploy"]).exits(0);
    assert!(!run.text.contains(&password), "the password was shown");
    assert_eq!(lab.root(&host, "cat /home/doodle/site/current/public/index.html"), "hello");
    no_trace(&project, &password);

    let wrong = Project::new(&lab).env("LOGIN", "not-the-password");
    wrong.write("inventory.toml", INVENTORY);
    wrong.write("index.html", "hello");
    wrong.commit("a page");
    wrong.ship(&["deploy"]).exits(3).says("pw1");
}

fn password(host: &Host) -> String {
    let file = host.password_file.as_ref().expect("a password");
    std::fs::read_to_string(file).expect("a password").trim().to_owned()
}

/// No file that ship wrote in the project has the password.
fn no_trace(project: &Project, password: &str) {
    let found = std::process::Command::new("grep").args(["-rlF", "--", password]).arg(project.path()).output();
    assert_eq!(String::from_utf8_lossy(&found.expect("grep").stdout), "");
}

/// A unit that the recipe restarts through sudo. The name of the app is the test's own.
const RECIPE: &str = r#"
description = "files and a unit"
services = ["ship-pw"]
[[prepare]]
upload = [{ from = ".", to = "." }]
[[publish]]
swap = {}
[[publish]]
systemd = { restart = ["ship-pw"], watch = "1s" }
"#;

const UNIT: &str = "[Service]\nExecStart=/bin/sh -c 'cat /home/doodle/ship-pw/current/version; exec sleep 1000'\n";

fn with_sudo(sudo_password: &str, login: &str) -> String {
    format!(
        "recipe = \"pw\"\napp = \"ship-pw\"\ndeploy_to = \"/home/doodle/ship-pw\"\n[hosts.pw1]\n{login}\n\
         sudo_password = {sudo_password}\n[secrets]\nlogin = {{ env = \"LOGIN\" }}\nroot = {{ env = \"ROOT\" }}\n"
    )
}

fn prepared(lab: &Lab, host: &Host, inventory: &str) -> Project {
    lab.root_fed(
        host,
        "rm -rf /home/doodle/ship-pw; cat >/etc/systemd/system/ship-pw.service; systemctl daemon-reload; \
         systemctl restart ship-pw; systemctl reset-failed ship-pw 2>/dev/null; gpasswd -a doodle systemd-journal",
        UNIT,
    );
    let project = Project::new(lab).env("LOGIN", &password(host)).env("ROOT", &password(host));
    project.write("inventory.toml", inventory);
    project.write("recipes/pw.toml", RECIPE);
    project.write("version", "1");
    project.commit("a version");
    project
}

fn invocation(lab: &Lab, host: &Host) -> String {
    lab.root(host, "systemctl show --property=InvocationID --value ship-pw")
}

fn tries(lab: &Lab, host: &Host) -> usize {
    let journal =
        lab.root(host, "journalctl --quiet --no-pager -t sudo | grep -c 'incorrect password attempt' || true");
    journal.trim().parse().expect("a count")
}

#[test]
fn sudo_with_a_password_restarts_units_and_no_process_ever_shows_it() {
    let lab = Lab::new();
    let host = lab.host("pw1");
    let password = password(&host);
    let project = prepared(&lab, &host, &with_sudo("{ secret = \"root\" }", "password = { secret = \"login\" }"));
    let before = invocation(&lab, &host);
    let spy = Spy::start(&lab, &host, &password);
    // The right is that of the group sudo: everything, with the password.
    project.ship(&["check"]).exits(0).says("allowed with the password").says("(ALL : ALL) ALL  # every command");
    let run = project.ship(&["deploy", "-v", "-v"]).exits(0);
    assert!(!run.text.contains(&password), "the password was shown");
    project.ship(&["run", "--sudo", "--", "id", "-un"]).exits(0).says("root");
    project.ship(&["run", "--", "cat", "/proc/self/environ"]).exits(0);
    project.ship(&["service", "restart"]).exits(0).says("active (running)");
    // The journal as root: followed, and left without a trace.
    lab.root(&host, "gpasswd -d doodle systemd-journal || true");
    project.ship(&["logs", "--sudo"]).exits(0).says("pw1 ship-pw | ");
    let mut follow = project.command(&["logs", "-f", "--sudo"]);
    let mut follow = follow.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("ship");
    let mut first = [0; 4];
    follow.stdout.as_mut().expect("stdout").read_exact(&mut first).expect("a line");
    assert_eq!(lab.root(&host, "pgrep -xc journalctl || true").trim(), "1");
    let id = follow.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().expect("kill").success());
    assert_eq!(follow.wait().expect("a status").code(), Some(0));
    lab.root(&host, "for i in 1 2 3 4 5 6 7 8 9 10; do pgrep -x journalctl || exit 0; sleep 0.2; done; exit 1");

    let (looks, seen) = spy.stop();
    println!("{looks} looks at every process of the host");
    assert!(looks > 20 && seen.is_empty(), "{looks} {seen:?}");
    // It would have seen it.
    let spy = Spy::start(&lab, &host, &password);
    project.ship(&["run", "--", "sh", "-c", "sleep 0.5", &password]).exits(0);
    assert!(!spy.stop().1.is_empty());
    // Output that has the password is masked by its value.
    let echoed = project.ship(&["run", "--sudo", "--", "echo", &password]).exits(0);
    assert!(!echoed.text.contains(&password) && echoed.text.contains("[secret]"), "{}", echoed.text);

    assert_ne!(invocation(&lab, &host), before, "the unit was restarted");
    no_trace(&project, &password);
    let history = lab.root(&host, "cat /home/doodle/ship-pw/.ship/history.jsonl; journalctl --no-pager -t sudo -n 200");
    assert_eq!(history.lines().filter(|line| line.contains(&password) && !line.contains("/echo")).count(), 0);
}

#[test]
fn a_wrong_password_of_sudo_is_tried_once_and_nothing_is_changed() {
    let lab = Lab::new();
    let host = lab.host("pw1");
    let inventory = with_sudo("{ secret = \"root\" }", "password = { secret = \"login\" }");
    let project = prepared(&lab, &host, &inventory).env("ROOT", "not-the-password");
    let (before, unit) = (tries(&lab, &host), invocation(&lab, &host));
    let run = project.ship(&["deploy"]).exits(3).says("sudo on pw1 did not take the password");
    assert!(!run.text.contains("not-the-password"), "{}", run.text);
    assert_eq!(tries(&lab, &host), before + 1);
    assert_eq!(invocation(&lab, &host), unit);
    lab.root(&host, "test ! -e /home/doodle/ship-pw");
}

#[test]
fn hosts_that_forget_passwords_at_once_work_too() {
    let lab = Lab::new();
    let host = lab.host("pw1");
    let project = prepared(&lab, &host, &with_sudo("{ secret = \"root\" }", "password = { secret = \"login\" }"));
    lab.root(&host, "echo 'Defaults timestamp_timeout=0' >/etc/sudoers.d/ship-pw-test");
    let before = invocation(&lab, &host);
    let run = project.ship(&["deploy"]);
    lab.root(&host, "rm /etc/sudoers.d/ship-pw-test");
    run.exits(0);
    assert_ne!(invocation(&lab, &host), before);
}

#[test]
fn a_person_types_the_password_once() {
    let lab = Lab::new();
    let host = lab.host("pw1");
    let secret = password(&host);
    // Typed for the login, and taken for sudo too.
    let project = prepared(&lab, &host, &with_sudo("\"ask\"", ""));
    let (code, screen) = project.ship_typing(&["deploy", "--output", "plain"], &secret);
    assert_eq!((code, screen.matches("Password").count()), (0, 1), "{screen}");
    assert!(!screen.contains(&secret));
    no_trace(&project, &secret);
    // The login comes from a secret: sudo's is asked for, once.
    let project = prepared(&lab, &host, &with_sudo("\"ask\"", "password = { secret = \"login\" }"));
    let (code, screen) = project.ship_typing(&["deploy", "--output", "plain"], &secret);
    assert_eq!((code, screen.matches("Password for sudo on the hosts").count()), (0, 1), "{screen}");
    assert!(!screen.contains(&secret));
    // Without a terminal it says what to set.
    project.ship(&["deploy"]).exits(3).says("no terminal to ask on").says("sudo_password = { secret");
    // What needs no sudo asks for nothing.
    project.ship(&["status"]).exits(0);
}
