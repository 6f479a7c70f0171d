//! `ship setup` without root: in the folder of the application, where the login user needs no sudo.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::deploy::fleet::Fleet;
use crate::deploy::recipe::{SWAP, UPLOAD};

const SETUP: &str = "[[setup]]\nfile = { template = \"env.j2\", to = \"{{ shared_path }}/.env\" }\n\
                     [[setup]]\ndirectory = { path = \"{{ shared_path }}/media\", mode = \"0750\" }\n\
                     [[setup]]\nrun = \"echo made >made\"\ncreates = \"{{ deploy_to }}/made\"\n";

const SECRET: &str = "a-secret-of-the-host";

fn fleet(names: &[&str], more: &str) -> Fleet {
    on(Fleet::of(names), more)
}

fn on(fleet: Fleet, more: &str) -> Fleet {
    let fleet = fleet
        .inventory("[secrets]\ntoken = { env = \"TOKEN\" }\n")
        .recipe(&[SETUP, more, UPLOAD, SWAP].concat())
        .env("TOKEN", SECRET);
    fleet.write("recipes/site/env.j2", "TOKEN={{ secrets.token }}\nMODE=prod\n");
    fleet.commit("v1", &[]);
    fleet
}

#[test]
fn a_second_setup_changes_nothing_and_says_so() {
    let fleet = on(Fleet::own(&["web1", "web2"]), "");
    fleet.ship(&["setup", "--dry-run"]).exits(0).says("TOKEN=[secret]").never_says(SECRET);
    assert!(fleet.hosts().iter().all(|host| !host.root.exists()), "a dry run changed something");
    fleet.ship(&["setup"]).exits(0).says("Set up 2 hosts for app").says("TOKEN=[secret]").never_says(SECRET);
    let all = || fleet.hosts().iter().map(|host| host.everything()).collect::<Vec<_>>();
    let before = all();
    for host in fleet.hosts() {
        let file = host.root.join("shared/.env");
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("TOKEN={SECRET}\nMODE=prod\n"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(host.root.join("shared/media")).unwrap().permissions().mode() & 0o7777, 0o750);
        assert_eq!(host.history().len(), 1);
        assert_eq!(fs::read_to_string(host.root.join("made")).unwrap(), "made\n");
        let left = fs::read_dir(&host.server.home)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".ship-setup"));
        assert_eq!(left.count(), 0, "what was sent is still there");
    }
    fleet.ship(&["history"]).exits(0).says("setup").says("changed");
    let again = fleet.ship(&["setup"]).exits(0).says("Nothing to do: 2 hosts on prod are as the recipe wants them");
    assert!(again.stderr.lines().chain(again.stdout.lines()).all(|line| !line.contains('$')), "{again}");
    // Who holds the lock is not what a host is like.
    let without_holder = |all: Vec<std::collections::BTreeMap<Vec<u8>, _>>| {
        all.into_iter()
            .map(|mut host| {
                host.remove(&b".ship/holder"[..]);
                host
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(without_holder(all()), without_holder(before));
    assert_eq!(Fleet::holding(&fleet.project().join(".ship"), SECRET), [""; 0], "transcripts");
    fleet.ship(&["deploy"]).exits(0);
    fleet.ship(&["setup"]).exits(0).says("Nothing to do");
}

#[test]
fn what_ship_did_not_write_is_not_overwritten_on_any_host() {
    let fleet = fleet(&["web1", "web2"], "");
    fleet.host("web2").put("shared/.env", "TOKEN=of-somebody-else\nKEPT=yes\n");
    let before = fleet.host("web2").everything();
    let refused = fleet.ship(&["setup"]).exits(3).says("web2").says("ship did not write").says("-TOKEN=[secret]");
    refused.says("-[secret]").never_says("of-somebody-else").never_says("KEPT").never_says(SECRET);
    assert_eq!(fleet.host("web2").everything(), before);
    assert!(!fleet.host("web1").root.exists(), "another host was changed");
    let path = fleet.host("web2").root.join("shared/.env");
    fleet.ship(&["setup", "--overwrite", path.to_str().unwrap()]).exits(0);
    // From now on it is ship's own, until somebody changes it.
    fleet.write("recipes/site/env.j2", "TOKEN={{ secrets.token }}\nMODE=test\n");
    fleet.ship(&["setup"]).exits(0).says("+MODE=test");
    fleet.host("web2").put("shared/.env", "MODE=by hand\n");
    fleet.ship(&["setup"]).exits(3);
}

#[test]
fn a_setup_goes_on_where_one_before_it_failed() {
    let fleet =
        fleet(&["web1"], "[[setup]]\nrun = \"test -e ../allowed && touch done\"\ncreates = \"{{ deploy_to }}/done\"\n");
    fleet.ship(&["setup"]).exits(1).says("what was changed stays").says("1 host changed");
    assert!(fleet.host("web1").root.join("shared/.env").exists());
    fs::write(fleet.host("web1").root.parent().unwrap().join("allowed"), "").unwrap();
    fleet.ship(&["setup"]).exits(0).says("Set up 1 host");
    assert!(fleet.host("web1").root.join("done").exists());
    fleet.ship(&["setup"]).exits(0).says("Nothing to do");
}

#[test]
fn a_setup_and_a_deploy_do_not_meet() {
    let mut fleet = fleet(&["web1"], "");
    fleet.ship(&["setup"]).exits(0);
    let gate = fleet.gate();
    let run = format!("[[prepare]]\nrun = '''{}'''\n", gate.wait());
    fleet = fleet.recipe(&[SETUP, UPLOAD, &run, SWAP].concat());
    let deploying = fleet.start(&["deploy"]);
    gate.arrived();
    fleet.write("recipes/site/env.j2", "OTHER=1\n");
    fleet.ship(&["setup", "--lock-wait", "0s"]).exits(3).says("the deploy lock is held by tester@");
    gate.open();
    deploying.ends().exits(0);
    fleet.ship(&["setup"]).exits(0).says("+OTHER=1");
}

#[test]
fn commands_say_when_they_are_done_and_steps_stand_where_they_may() {
    let fleet = fleet(&["web1"], "");
    for (step, said) in [
        ("[[setup]]\nrun = \"true\"\n", "needs `creates` or `done_when`"),
        ("[[setup]]\nsystemd = { restart = [\"x\"] }\n", "`systemd` takes `enable` and `start`"),
        ("[[setup]]\nupload = \".\"\n", "`upload` cannot stand in `setup`"),
        ("[[publish]]\nrun = \"true\"\ncreates = \"/x\"\n", "`creates` has no meaning in `publish`"),
        ("[[publish]]\nfile = { content = \"\", to = \"/x\" }\n", "`file` cannot stand in `publish`"),
        ("[[setup]]\nfile = { content = \"\", to = \"x\" }\n", "it is not absolute"),
        ("[[setup]]\nfile = { content = \"{{ release_path }}\", to = \"/x\" }\n", "`setup` belongs to no release"),
    ] {
        fleet.write("recipes/site.toml", [step, UPLOAD, SWAP].concat());
        fleet.ship(&["setup"]).exits(2).says(said);
    }
}

#[test]
fn a_setup_tells_its_events() {
    let fleet = fleet(&["web1"], "");
    let ran = fleet.ship(&["setup", "--output", "json"]).exits(0);
    let last = ran.events().pop().unwrap();
    assert_eq!((&last["event"], &last["action"]), (&"run_finished".into(), &"setup".into()));
    assert_eq!(last["hosts"][0]["state"], "changed");
    assert_eq!(last["hosts"][0]["why"], "2 folders, 1 file, 1 command");
    let last = fleet.ship(&["setup", "--output", "json"]).exits(0).events().pop().unwrap();
    assert_eq!(last["hosts"][0]["state"], "unchanged");
}
