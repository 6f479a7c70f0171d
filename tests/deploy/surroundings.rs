//! What is around a run: its folder, its output, its environment.

use std::fs;
use std::process::Stdio;

use crate::deploy::fleet::Fleet;
use crate::deploy::ran::Running;
use crate::deploy::recipe::{SWAP, UPLOAD, run};

#[test]
fn a_reader_that_goes_away_does_not_stop_a_deploy() {
    let fleet = Fleet::of(&["web1"]);
    let gate = fleet.gate();
    let talk = run("prepare", "for i in 1 2 3 4 5 6 7 8 9; do echo line $i; echo oops >&2; done");
    let fleet = fleet.recipe(&[UPLOAD, &run("prepare", &gate.wait()), &talk, SWAP].concat());
    fleet.commit("v1", &[]);
    for output in ["plain", "json", "github"] {
        let mut command = fleet.ship_command(&["deploy", "-v", "--output", output]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        gate.arrived();
        drop((child.stdout.take(), child.stderr.take()));
        gate.open();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{output}");
    }
    fleet.serves("v1");
    assert_eq!(fleet.host("web1").releases().len(), 3);
}

#[test]
fn the_inventory_is_found_from_below_and_can_be_named() {
    let fleet = Fleet::of(&["web1"]);
    fleet.commit("v1", &[("deep/below/file", "")]);
    let mut below = fleet.ship_command(&["deploy"]);
    below.current_dir(fleet.project().join("deep/below"));
    Running::start(below).ends().exits(0);
    fleet.serves("v1");
    fleet.commit("v2", &[]);
    let inventory = fleet.project().join("inventory.toml").display().to_string();
    for words in [["deploy", "-i", &inventory], ["rollback", "-i", &inventory]] {
        let mut elsewhere = fleet.ship_command(&words);
        elsewhere.current_dir(fleet.at("home"));
        Running::start(elsewhere).ends().exits(0);
    }
    fleet.serves("v1");
    let mut nowhere = fleet.ship_command(&["deploy"]);
    nowhere.current_dir(fleet.at("home"));
    Running::start(nowhere).ends().exits(2).says("no inventory.toml");
}

#[test]
fn a_project_may_be_a_folder_of_its_repository() {
    let fleet = Fleet::of(&["web1"]);
    fleet.write("site/page", "one");
    fleet.write("other/secret.txt", "not of this project");
    for name in ["inventory.toml", "recipes"] {
        fs::rename(fleet.project().join(name), fleet.project().join("site").join(name)).unwrap();
    }
    fleet.commit("v1", &[]);
    let mut command = fleet.ship_command(&["deploy"]);
    command.current_dir(fleet.project().join("site"));
    Running::start(command).ends().exits(0);
    let current = fleet.host("web1").root.join("current");
    assert_eq!(fs::read_to_string(current.join("page")).unwrap(), "one");
    assert!(!current.join("other").exists());
}

#[test]
fn a_rollback_needs_no_place_to_write_here() {
    let fleet = Fleet::of(&["web1"]);
    for version in ["v1", "v2"] {
        fleet.commit(version, &[]);
        fleet.ship(&["deploy"]).exits(0);
    }
    fs::remove_dir_all(fleet.project().join(".ship")).unwrap();
    fleet.write(".ship", "in the way");
    fleet.ship(&["rollback"]).exits(0).says(".ship");
    fleet.serves("v1");
}

#[test]
fn every_run_leaves_a_transcript_with_all_that_was_printed() {
    let fleet = Fleet::of(&["web1"]);
    let fleet =
        fleet.recipe(&[UPLOAD, &run("prepare", "seq 1 500; echo the cause >&2; seq 1 30; exit 3"), SWAP].concat());
    fleet.commit("v1", &[]);
    let ran = fleet.ship(&["deploy"]).exits(1);
    let line = ran.stdout.lines().chain(ran.stderr.lines()).find_map(|line| line.strip_prefix("log:"));
    let transcript = fs::read_to_string(line.unwrap_or_else(|| panic!("{ran}")).trim()).unwrap();
    assert!(transcript.contains("the cause") && transcript.contains("499") && transcript.contains("exit status 3"));
}

#[test]
fn a_run_of_ci_says_who_started_it_and_where_to_look() {
    let fleet = Fleet::of(&["web1"])
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_ACTOR", "octocat")
        .env("GITHUB_SERVER_URL", "https://github.example")
        .env("GITHUB_REPOSITORY", "o/r")
        .env("GITHUB_RUN_ID", "7");
    let summary = fleet.at("summary.md").display().to_string();
    let fleet = fleet.env("GITHUB_STEP_SUMMARY", &summary);
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0).says("::group::");
    let history = fleet.host("web1").history();
    assert_eq!(history[0]["by"], "octocat@github-actions");
    assert_eq!(history[0]["url"], "https://github.example/o/r/actions/runs/7");
    assert!(fs::read_to_string(summary).unwrap().contains("web1"));
}

#[test]
fn an_environment_that_asks_first_wants_a_yes() {
    let fleet = Fleet::of(&["web1"]).inventory("[environments.prod]\nhosts = [\"web1\"]\nconfirm = true\n");
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(2).says("--yes");
    assert!(!fleet.host("web1").root.exists());
    fleet.ship(&["deploy", "--yes"]).exits(0);
    fleet.ship(&["rollback"]).exits(2).says("--yes");
    fleet.serves("v1");
}

#[test]
fn paths_with_blanks_and_quotes_are_paths() {
    let fleet = Fleet::of(&["web1"]);
    let root = fleet.host("web1").root.join("it's \"the\" app & more");
    let text = fs::read_to_string(fleet.project().join("inventory.toml")).unwrap();
    let was = format!("\"{}\"", fleet.host("web1").root.display());
    fleet.write("inventory.toml", text.replace(&was, &format!("'''{}'''", root.display())));
    fleet.commit("v1", &[("a b", "1")]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.commit("v2", &[]);
    fleet.ship(&["deploy"]).exits(0);
    assert_eq!(fs::read_to_string(root.join("current/version")).unwrap(), "v2");
    assert_eq!(fs::read_to_string(root.join("current/a b")).unwrap(), "1");
    fleet.ship(&["rollback"]).exits(0);
    assert_eq!(fs::read_to_string(root.join("current/version")).unwrap(), "v1");
    fleet.ship(&["status"]).exits(0);
}
