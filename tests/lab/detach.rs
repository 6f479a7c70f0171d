//! A detached step on a real server whose SSH server is killed, session and all, while the step runs.

use std::process::Stdio;

use crate::hosts::{Lab, Project};

const INVENTORY: &str = r#"
recipe    = "long"
app       = "long"
deploy_to = "/home/deployer/long"

[hosts.web3]

[environments.prod]
hosts = ["web3"]
"#;

const RECIPE: &str = r#"
[[prepare]]
upload = "."
[[prepare]]
name   = "Build"
run    = "echo x >>/home/deployer/long/count; : >/home/deployer/long/begun; for i in $(seq 1 100); do echo line $i; sleep 0.1; done"
detach = true
[[publish]]
swap = {}
"#;

#[test]
fn a_build_outlives_the_ssh_server_and_every_line_of_it_is_seen_once() {
    let lab = Lab::new();
    let host = lab.host("web3");
    lab.root(&host, "rm -rf /home/deployer/long");
    let project = Project::new(&lab);
    project.write("inventory.toml", INVENTORY);
    project.write("recipes/long.toml", RECIPE);
    project.commit("long");
    let mut command = project.command(&["deploy", "--output", "json"]);
    let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ship");
    lab.root(
        &host,
        "i=0; until [ -e /home/deployer/long/begun ]; do i=$((i + 1)); [ $i -lt 300 ] || exit 1; sleep 0.1; done",
    );
    // Every session of the login, and the server itself.
    lab.root(&host, "pkill -KILL -u deployer sshd; systemctl restart ssh");
    let output = running.wait_with_output().expect("ship");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("is found again"), "{text}");
    let events = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let lines: Vec<String> = events
        .filter(|event| event["event"] == "task_output")
        .filter_map(|event| event["line"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(lines, (1..=100).map(|number| format!("line {number}")).collect::<Vec<_>>());
    assert_eq!(lab.root(&host, "cat /home/deployer/long/count"), "x\n");
    lab.root(&host, "rm -rf /home/deployer/long");
}
