//! A unit for which `systemctl restart` says 0 and that dies a second later.

use crate::hosts::{Lab, Project};

const INVENTORY: &str = r#"
recipe    = "daemon"
app       = "daemon"
deploy_to = "/home/deployer/daemon"

[hosts.web1]

[environments.prod]
hosts = ["web1"]
"#;

const RECIPE: &str = r#"
description = "One unit"
services = ["ship-crash"]

[[prepare]]
upload = "."

[[publish]]
swap = {}

[[publish]]
systemd = { restart = ["ship-crash"], watch = "3s" }
"#;

/// `Restart=always`: at any moment `is-active` may well say `active`.
const UNIT: &str = "[Service]
User=deployer
ExecStart=/bin/sh /home/deployer/daemon/current/run.sh
Restart=always
RestartSec=200ms
";

const RULES: &str =
    "deployer ALL=(root) NOPASSWD: /usr/bin/systemctl restart ship-crash, /usr/bin/systemctl reset-failed ship-crash\n";

#[test]
fn a_unit_that_dies_after_its_restart_is_seen_and_put_back() {
    dies_and_is_put_back(UNIT, RULES, "ship-crash ended and was started again");
}

/// Rules that an administrator wrote by hand: the way back cannot make systemd forget that it started the unit as
/// often as it may, and has to wait until it may again.
#[test]
fn a_unit_at_its_start_limit_is_put_back_without_reset_failed() {
    let unit = format!("[Unit]\nStartLimitIntervalSec=10s\nStartLimitBurst=2\n{UNIT}");
    let rules = RULES.split(',').next().expect("a rule").to_owned() + "\n";
    dies_and_is_put_back(&unit, &rules, "ship-crash is failed");
}

fn dies_and_is_put_back(unit: &str, rules: &str, why: &str) {
    let lab = Lab::new();
    let host = lab.host("web1");
    lab.root(&host, "systemctl stop ship-crash 2>/dev/null; rm -rf /home/deployer/daemon; true");
    lab.root_fed(&host, "cat >/etc/systemd/system/ship-crash.service && systemctl daemon-reload", unit);
    lab.root_fed(&host, "umask 227; cat >/etc/sudoers.d/ship-crash && visudo -cqf /etc/sudoers.d/ship-crash", rules);
    lab.root(&host, "usermod --append --groups systemd-journal deployer");

    let project = Project::new(&lab);
    project.write("inventory.toml", INVENTORY);
    project.write("recipes/daemon.toml", RECIPE);
    project.write("run.sh", "exec sleep infinity\n");
    project.commit("steady");
    project.ship(&["deploy"]).exits(0);

    project.write("run.sh", "echo I am going to die; sleep 1; exit 3\n");
    project.commit("dies after a second");
    project.ship(&["deploy"]).exits(1).says(why).says("I am going to die").says("put back");
    assert_eq!(lab.root(&host, "cat /home/deployer/daemon/current/run.sh"), "exec sleep infinity\n");
    assert_eq!(lab.root(&host, "systemctl is-active ship-crash").trim(), "active");
    project.ship(&["status"]).exits(0).says("ship-crash active");

    lab.root(
        &host,
        "systemctl stop ship-crash; rm -f /etc/systemd/system/ship-crash.service /etc/sudoers.d/ship-crash; \
         systemctl daemon-reload; rm -rf /home/deployer/daemon",
    );
}
