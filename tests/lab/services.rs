//! The services of a recipe: logs, restart, a command where one runs, and what sudo allows beyond need.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Instant;

use crate::hosts::{Host, Lab, Project};

const INVENTORY: &str = r#"
recipe    = "svc"
app       = "ship-svc"
deploy_to = "/var/www/ship-svc"

[hosts.web1]
roles = ["b"]
[hosts.web2]

[environments.prod]
hosts = ["web1", "web2"]

[secrets]
token = { env = "TOKEN" }
"#;

const RECIPE: &str = r#"
description = "two units"
services = ["ship-svc", "{{ 'ship-svc-b' if 'b' in roles else '' }}"]
[[prepare]]
upload = [{ from = ".", to = "." }]
[[prepare]]
run = "test -n \"$TOKEN\""
env = { TOKEN = "{{ secrets.token }}" }
[[publish]]
swap = {}
[[publish]]
systemd = { restart = ["ship-svc"], watch = "1s" }
"#;

/// It says who it is, shows what nobody should obey or see, and then a number every 0.2 s.
const UNIT: &str = r#"[Service]
User=deployer
WorkingDirectory=/var/www/ship-svc
Environment=COLOR=red "SIZE=very big"
EnvironmentFile=/var/www/ship-svc/shared/env
ExecStart=/bin/sh -c 'printf "begins \033[2J hunter22-in-the-log\n"; while :; do n=$$((n + 1)); echo "tick $$n"; sleep 0.2; done'
"#;

/// In the form of a real server's rules.
const SUDOERS: &str = "\
deployer ALL=(ALL:ALL) NOPASSWD: /usr/bin/systemctl restart ship-svc, /usr/bin/systemctl start ship-svc, /usr/bin/systemctl stop ship-svc, /usr/bin/systemctl status ship-svc
deployer ALL=(root) NOPASSWD: /usr/bin/systemctl reset-failed ship-svc
";

fn prepared(lab: &Lab, names: &[&str]) -> (Project, Vec<Host>) {
    let hosts: Vec<Host> = names.iter().map(|name| lab.host(name)).collect();
    for host in &hosts {
        lab.root(
            host,
            "rm -rf /var/www/ship-svc; install -d -o deployer -g deployer /var/www/ship-svc /var/www/ship-svc/shared; \
             echo 'FROM_FILE=\"a value\"' >/var/www/ship-svc/shared/env",
        );
        lab.root_fed(host, "cat >/etc/systemd/system/ship-svc.service; cp /etc/systemd/system/ship-svc.service /etc/systemd/system/ship-svc-b.service", UNIT);
        lab.root_fed(
            host,
            "cat >/etc/sudoers.d/ship-svc-test; chmod 0440 /etc/sudoers.d/ship-svc-test; visudo -cq",
            SUDOERS,
        );
        lab.root(
            host,
            "gpasswd -a deployer systemd-journal; systemctl daemon-reload; systemctl restart ship-svc ship-svc-b",
        );
    }
    let project = Project::new(lab).env("TOKEN", "hunter22-in-the-log");
    project.write("inventory.toml", INVENTORY);
    project.write("recipes/svc.toml", RECIPE);
    project.write("version", "1");
    project.commit("a version");
    (project, hosts)
}

fn removed(lab: &Lab, hosts: &[Host]) {
    for host in hosts {
        lab.root(
            host,
            "systemctl stop ship-svc ship-svc-b; rm -f /etc/systemd/system/ship-svc*.service /etc/sudoers.d/ship-svc-test; systemctl daemon-reload",
        );
    }
}

/// How many processes of `name` run on the host.
fn running(lab: &Lab, host: &Host, name: &str) -> usize {
    lab.root(host, &format!("pgrep -xc {name} || true")).trim().parse().expect("a count")
}

#[test]
fn logs_are_merged_followed_and_left_without_a_trace() {
    let lab = Lab::new();
    let (project, hosts) = prepared(&lab, &["web1", "web2"]);
    let run = project.ship(&["logs", "-n", "500"]).exits(0);
    for line in
        ["web1 ship-svc | ", "web1 ship-svc-b | ", "web2 ship-svc | ", r"begins \x1b[2J [secret]", "Started ship-svc"]
    {
        assert!(run.text.contains(line), "{line}: {}", run.text);
    }
    assert!(!run.text.contains("hunter22-in-the-log") && !run.text.contains("web2 ship-svc-b"), "{}", run.text);
    let few = project.ship(&["logs", "prod", "ship-svc-b", "-n", "3"]).exits(0);
    assert_eq!(few.text.lines().filter(|line| line.starts_with("web1 ship-svc-b | ")).count(), 3, "{}", few.text);
    project.ship(&["logs", "ship-svc", "--since", "1970-01-01T00:00:00Z", "--host", "web2"]).exits(0).says("tick");
    project.ship(&["logs", "nothing"]).exits(2).says("there is ship-svc, ship-svc-b");

    // Followed: lines come while it runs, and Ctrl-C ends it here and there.
    let before: Vec<usize> = hosts.iter().map(|host| running(&lab, host, "journalctl")).collect();
    let mut child =
        project.command(&["logs", "-f", "-n", "0"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("ship");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let (mut seen, began) = ([0; 2], Instant::now());
    while seen.iter().any(|count| *count < 5) {
        let line = lines.next().expect("it goes on").expect("a line");
        seen[usize::from(line.starts_with("web2"))] += 1;
    }
    println!("five lines of each host after {:.1} s", began.elapsed().as_secs_f32());
    let ended = Instant::now();
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().expect("kill").success());
    assert_eq!(child.wait().expect("a status").code(), Some(0));
    println!("ended {:.1} s after Ctrl-C", ended.elapsed().as_secs_f32());
    for (host, before) in hosts.iter().zip(before) {
        assert_eq!(running(&lab, host, "journalctl"), before, "journalctl is left on {}", host.name);
    }

    // Without the right to read the journal it says so, and what to do.
    lab.root(&hosts[0], "gpasswd -d deployer systemd-journal");
    let run = project.ship(&["logs", "--host", "web1"]);
    assert!(run.text.contains("usermod --append --groups systemd-journal"), "{}", run.text);
    lab.root(&hosts[0], "gpasswd -a deployer systemd-journal");
    removed(&lab, &hosts);
}

#[test]
fn services_are_restarted_watched_and_told() {
    let lab = Lab::new();
    let (project, hosts) = prepared(&lab, &["web1", "web2"]);
    let invocation = |host: &Host| lab.root(host, "systemctl show --property=InvocationID --value ship-svc");
    let before = invocation(&hosts[0]);
    project.ship(&["service", "restart", "ship-svc"]).exits(0).says("active (running)");
    assert_ne!(invocation(&hosts[0]), before);
    project.ship(&["service", "status"]).exits(0).says("ship-svc-b");
    project.ship(&["service", "stop", "ship-svc", "--host", "web1"]).exits(0).says("inactive (dead)");
    project.ship(&["service", "status", "prod"]).exits(1).says("not up: ");
    project.ship(&["service", "start", "ship-svc", "--host", "web1"]).exits(0).says("active (running)");
    // What sudo does not allow is a failure that says what to do.
    project.ship(&["service", "stop", "ship-svc-b"]).exits(1).says("sudo");
    // A unit that dies is seen, though `systemctl restart` says 0.
    lab.root(
        &hosts[0],
        "sed -i \"s|^ExecStart=.*|ExecStart=/bin/sh -c 'sleep 0.3; exit 3'|\" /etc/systemd/system/ship-svc.service; systemctl daemon-reload",
    );
    project.ship(&["service", "restart", "ship-svc", "--host", "web1"]).exits(1).says("failed");
    removed(&lab, &hosts);
}

#[test]
fn a_command_runs_where_the_service_runs() {
    let lab = Lab::new();
    let (project, hosts) = prepared(&lab, &["web1"]);
    let text = "pwd; id -un; echo \"$COLOR|$SIZE|$FROM_FILE\"";
    let run = project.ship(&["run", "--host", "web1", "--service", "ship-svc", "--", text]).exits(0);
    for line in ["/var/www/ship-svc", "deployer", "red|very big|a value"] {
        assert!(run.text.contains(line), "{line}: {}", run.text);
    }
    project.ship(&["run", "--service", "nothing", "--", "true"]).exits(2).says("no service `nothing`");
    // On a terminal a person answers it.
    let words = [
        "run",
        "--host",
        "web1",
        "--service",
        "ship-svc",
        "--",
        "sh",
        "-c",
        "'printf Password:; read -r a; echo got-$a-$COLOR'",
    ];
    let (code, screen) = project.ship_typing(&words, "answer");
    assert!(code == 0 && screen.contains("got-answer-red"), "{code} {screen}");
    removed(&lab, &hosts);
}

#[test]
fn check_proves_the_rules_and_names_those_that_are_wider() {
    let lab = Lab::new();
    let (project, hosts) = prepared(&lab, &["web1", "web2"]);
    let run = project.ship(&["check"]).exits(0).says("2 sudo commands allowed without a password");
    for wider in [
        "(ALL : ALL) NOPASSWD: /usr/bin/systemctl restart ship-svc  # as others than root",
        "(ALL : ALL) NOPASSWD: /usr/bin/systemctl stop ship-svc  # the recipe never runs it",
    ] {
        assert!(run.text.contains(wider), "{wider}: {}", run.text);
    }
    assert!(!run.text.contains("reset-failed ship-svc  #"), "{}", run.text);
    // Without the rules, check prints the lines that `ship sudoers` prints; visudo takes them, and then all is well.
    lab.root(&hosts[0], "rm /etc/sudoers.d/ship-svc-test");
    let run = project.ship(&["check", "--host", "web1"]).exits(3);
    let fragment = project.ship(&["sudoers", "--host", "web1"]).exits(0).text;
    let rules: Vec<&str> = fragment.lines().filter(|line| line.starts_with("deployer ")).collect();
    assert!(rules.len() == 2 && rules.iter().all(|rule| run.text.contains(rule)), "{fragment}\n{}", run.text);
    lab.root_fed(
        &hosts[0],
        "cat >/etc/sudoers.d/ship-svc-test; chmod 0440 /etc/sudoers.d/ship-svc-test; visudo -c",
        &fragment,
    );
    let run = project.ship(&["check", "--host", "web1"]).exits(0).says("2 sudo commands allowed without a password");
    assert!(!run.text.contains("ship-svc  #"), "{}", run.text);
    removed(&lab, &hosts);
}

#[test]
fn a_shell_accepts_only_the_pinned_key() {
    let lab = Lab::new();
    let (project, hosts) = prepared(&lab, &["web1"]);
    let key = lab.root(&hosts[0], "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub");
    let print = lab.root(&hosts[0], "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2");
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let words = ["run", "--service", "ship-svc", "--host", "web1", "--", "'printf Password:; read -r a; echo got-$a'"];
    for (pin, works) in [(key.trim(), true), (print.trim(), true)] {
        project
            .write("inventory.toml", &INVENTORY.replace("[hosts.web1]", &format!("[hosts.web1]\nhost_key = {pin:?}")));
        let (code, screen) = project.ship_typing(&words, "answer");
        assert_eq!(code == 0 && screen.contains("got-answer"), works, "{pin}: {screen}");
    }
    project.write("inventory.toml", &INVENTORY.replace("[hosts.web1]", &format!("[hosts.web1]\nhost_key = {other:?}")));
    let (code, screen) = project.ship_typing(&["ssh", "prod", "web1"], "");
    assert!(code != 0 && screen.contains("Host key verification failed"), "{code} {screen}");
    removed(&lab, &hosts);
}
