//! `ship demo` as a user runs it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

fn demo(temporary: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ship"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.args(["demo", "--output", "json"]).env_clear().env("PATH", path).env("TMPDIR", temporary);
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ended(event: &Value) -> Option<(&str, i64, Vec<&str>)> {
    (event["event"] == "run_finished").then(|| {
        let hosts = event["hosts"].as_array().unwrap().iter();
        (
            event["action"].as_str().unwrap(),
            event["exit_code"].as_i64().unwrap(),
            hosts.map(|host| host["state"].as_str().unwrap()).collect(),
        )
    })
}

#[test]
fn everything_goes_as_told_and_nothing_is_left() {
    let temporary = tempfile::tempdir().unwrap();
    let output = demo(temporary.path()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let events: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let live = || vec!["live", "live"];
    assert_eq!(
        events.iter().filter_map(ended).collect::<Vec<_>>(),
        [
            ("deploy", 0, live()),
            ("deploy", 0, live()),
            ("deploy", 1, vec!["put_back", "put_back"]),
            ("rollback", 0, live()),
        ]
    );
    assert!(told.contains("and got 0 failures"), "{told}");
    assert!(told.contains("is removed"), "{told}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn an_interrupt_in_the_middle_puts_back_and_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = demo(temporary.path()).spawn().unwrap();
    let (mut runs, mut last) = (0, None);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        runs += u32::from(event["event"] == "run_started");
        // The second batch of the third run fails its health check for a second: time enough.
        let waiting = event["event"] == "task_started" && event["host"] == "web2" && event["phase"] == "publish";
        if runs == 3 && waiting && event["name"].as_str().unwrap().contains("health") {
            let id = child.id().to_string();
            assert!(Command::new("/bin/kill").args(["-INT", &id]).status().unwrap().success());
        }
        last = ended(&event).map(|(action, code, states)| format!("{action} {code} {states:?}")).or(last);
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(last.as_deref(), Some("deploy 130 [\"put_back\", \"put_back\"]"));
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}
