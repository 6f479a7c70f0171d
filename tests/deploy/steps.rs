//! Steps and their modifiers on real hosts: time limits, attempts, options, waiting.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use crate::deploy::fleet::Fleet;
use crate::deploy::recipe::{SWAP, UPLOAD, run};

#[test]
fn a_step_that_takes_too_long_is_ended_on_the_host_too() {
    let fleet = Fleet::of(&["web1"]);
    let alive = fleet.at("alive");
    let slow = format!("echo $$ >'{}'; sleep 300; echo never", alive.display());
    let fleet = fleet.recipe(&[UPLOAD, &run("prepare", &slow), "timeout = \"1s\"\n", SWAP].concat());
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(1).says("timed out after 1 s");
    let process = fs::read_to_string(alive).unwrap();
    assert!(!fs::exists(format!("/proc/{}", process.trim())).unwrap(), "it still runs");
    assert!(fleet.host("web1").releases().is_empty());
}

#[test]
fn a_step_is_tried_as_often_as_it_may() {
    let fleet = Fleet::of(&["web1"]);
    let count = fleet.at("count");
    let third = format!("echo . >>'{0}'; [ $(wc -l <'{0}') -ge 3 ]", count.display());
    let step = |attempts: u32| format!("{}attempts = {attempts}\n", run("prepare", &third));
    let fleet = fleet.recipe(&[UPLOAD, &step(2), SWAP].concat());
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(1).says("trying again");
    fs::remove_file(&count).unwrap();
    let fleet = fleet.recipe(&[UPLOAD, &step(3), SWAP].concat());
    fleet.ship(&["deploy"]).exits(0);
    assert_eq!(fs::read_to_string(count).unwrap().lines().count(), 3);
}

#[test]
fn a_failure_that_is_tolerated_is_told_and_the_deploy_goes_on() {
    let tolerated = format!("{}tolerate = true\n", run("publish", "echo no cache; exit 4"));
    let fleet = Fleet::of(&["web1"]).recipe(&[UPLOAD, SWAP, &tolerated, &run("publish", "echo after >after")].concat());
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0).says("exit status 4").says("no cache");
    assert!(fleet.host("web1").root.join("current/after").exists());
}

#[test]
fn options_of_the_recipe_are_flags() {
    let options = "[options]\nskip_assets = { type = \"bool\", help = \"leave the assets as they are\" }\n\
                   workers = { type = \"integer\", default = 2, help = \"how many\" }\n";
    let assets = format!("{}unless = \"skip_assets\"\n", run("prepare", "echo built >assets"));
    let workers = run("prepare", "echo {{ workers }} >workers");
    let fleet = Fleet::of(&["web1"]).recipe(&[options, UPLOAD, &assets, &workers, SWAP].concat());
    fleet.commit("v1", &[]);
    let current = fleet.host("web1").root.join("current");
    fleet.ship(&["deploy"]).exits(0);
    assert!(current.join("assets").exists());
    assert_eq!(fs::read_to_string(current.join("workers")).unwrap(), "2\n");
    fleet.ship(&["deploy", "--skip-assets", "--workers", "7"]).exits(0);
    assert!(!current.join("assets").exists());
    assert_eq!(fs::read_to_string(current.join("workers")).unwrap(), "7\n");
    fleet.ship(&["deploy", "--help"]).exits(0).says("--skip-assets").says("leave the assets as they are");
    fleet.ship(&["deploy", "--workers", "many"]).exits(2).says("many");
    fleet.ship(&["deploy", "--skip-asets"]).exits(2).says("--skip-assets");
}

#[test]
fn steps_can_be_left_out_by_name_kind_or_tag() {
    let step =
        |name: &str, tag: &str| format!("[[prepare]]\nname = \"{name}\"\nrun = \"touch {name}\"\ntags = [\"{tag}\"]\n");
    let recipe = [UPLOAD, &step("one", "odd"), &step("two", "even"), &step("three", "odd"), SWAP].concat();
    let fleet = Fleet::of(&["web1"]).recipe(&recipe);
    fleet.commit("v1", &[]);
    let made = |words: &[&str]| {
        fleet.ship(&[&["deploy"], words].concat()).exits(0);
        let current = fleet.host("web1").root.join("current");
        ["one", "two", "three"].into_iter().filter(|name| current.join(name).exists()).collect::<Vec<_>>()
    };
    assert_eq!(made(&["--skip", "one"]), ["two", "three"]);
    assert_eq!(made(&["--skip", "odd"]), ["two"]);
    assert_eq!(made(&["--skip", "run"]), [""; 0]);
    assert_eq!(made(&["--only", "even", "--only", "upload"]), ["two"]);
}

#[test]
fn values_are_inserted_as_one_word_whatever_they_hold() {
    let value = "it's $(touch pwned); `id` \"two\"  words * \\ # &";
    let recipe =
        [UPLOAD, &run("prepare", "printf %s {{ text }} >text; set -- {{ text }}; echo $# >count"), SWAP].concat();
    let fleet = Fleet::of(&["web1"]).recipe(&recipe);
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy", "--set", &format!("text={value}")]).exits(0);
    let current = fleet.host("web1").root.join("current");
    assert_eq!(fs::read_to_string(current.join("text")).unwrap(), value);
    assert_eq!(fs::read_to_string(current.join("count")).unwrap(), "1\n");
    assert!(!current.join("pwned").exists());
}

#[test]
fn a_deploy_waits_until_what_it_waits_for_is_there() {
    let fleet = Fleet::of(&["web1"]);
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = fleet.at("app.sock");
    let _unix = UnixListener::bind(&socket).unwrap();
    let waits = [
        format!("tcp = \"{}\"", tcp.local_addr().unwrap()),
        format!("unix = \"{}\"", socket.display()),
        "command = \"test -e version\"".to_owned(),
    ];
    let step = |what: &str| format!("[[publish]]\nwait = {{ {what}, timeout = \"1s\" }}\n");
    let steps: String = waits.iter().map(|what| step(what)).collect();
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &steps].concat());
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    // What is not there in time is a failure, and the release is taken back.
    let fleet = fleet.recipe(&[UPLOAD, SWAP, &step("command = \"grep -q v1 version\"")].concat());
    fleet.commit("v2", &[]);
    fleet.ship(&["deploy"]).exits(1).says("not so within 1 s");
    fleet.serves("v1");
}
