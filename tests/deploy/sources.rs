//! Where a release comes from: branches, tags, commits, folders and archives.

use std::fs;

use crate::deploy::fleet::Fleet;
use crate::deploy::recipe::{SWAP, UPLOAD};

#[test]
fn uncommitted_changes_never_ship() {
    let fleet = Fleet::of(&["web1"]);
    fleet.commit("v1", &[("index.html", "one")]);
    fleet.write("index.html", "edited");
    fleet.write("untracked.html", "new");
    fleet.ship(&["deploy"]).exits(0).says("not deployed").says("index.html");
    fleet.serves("v1");
    assert!(!fleet.host("web1").root.join("current/untracked.html").exists());
}

#[test]
fn a_branch_that_moves_during_a_deploy_is_one_commit_on_every_host() {
    // Capistrano, Deployer and Ansistrano let each host ask for the branch by itself.
    let fleet = Fleet::of(&["web1", "web2", "web3"]);
    let first = fleet.commit("v1", &[]);
    let project = fleet.project();
    let advance = format!(
        "[[build]]\nlocal = '''cd {} && GIT_DIR=$PWD/.git GIT_WORK_TREE=$PWD git commit -q --allow-empty -m moved'''\n",
        project.display()
    );
    let fleet = fleet.recipe(&[&advance, UPLOAD, SWAP].concat());
    fleet.ship(&["deploy", "--branch", "main"]).exits(0);
    assert_ne!(fleet.git(&["rev-parse", "main"]), first);
    fleet.serves("v1");
    for host in fleet.hosts() {
        assert_eq!(host.history()[0]["revision"], first.as_str());
    }
}

#[test]
fn branches_tags_and_commits_can_be_named() {
    let fleet = Fleet::of(&["web1"]);
    let first = fleet.commit("v1", &[("only-in-v1", "")]);
    fleet.git(&["tag", "-a", "-m", "first", "v1.0"]);
    fleet.git(&["checkout", "-q", "-b", "feature/x"]);
    fleet.git(&["rm", "-q", "only-in-v1"]);
    fleet.commit("v2", &[]);
    fleet.git(&["checkout", "-q", "main"]);

    fleet.ship(&["deploy", "--branch", "feature/x"]).exits(0);
    fleet.serves("v2");
    assert!(!fleet.host("web1").root.join("current/only-in-v1").exists());
    fleet.ship(&["deploy", "--revision", "v1.0"]).exits(0);
    fleet.serves("v1");
    fleet.ship(&["deploy", "--revision", "feature/x"]).exits(0);
    fleet.serves("v2");
    fleet.ship(&["deploy", "--revision", &first[..9]]).exits(0);
    fleet.serves("v1");
    fleet.ship(&["deploy", "--branch", "feature/y"]).exits(2).says("there is no branch `feature/y`").says("feature/x");
    fleet.ship(&["deploy", "--revision", "v1.1"]).exits(2).says("v1.0");
    fleet.ship(&["deploy", "--branch", "--upload-pack=x"]).exits(2);
    fleet.serves("v1");
}

#[test]
fn the_environment_says_which_branch() {
    let fleet = Fleet::of(&["web1"]).inventory(
        "default = \"prod\"\n[environments.prod]\nhosts = [\"web1\"]\nbranch = \"stable\"\n\
         [environments.stage]\nhosts = [\"web1\"]\nbranch = \"main\"\n",
    );
    fleet.commit("v1", &[]);
    fleet.git(&["branch", "stable"]);
    fleet.commit("v2", &[]);
    fleet.ship(&["deploy"]).exits(0);
    fleet.serves("v1");
    fleet.ship(&["deploy", "stage"]).exits(0);
    fleet.serves("v2");
    fleet.ship(&["deploy", "prod", "--branch", "main"]).exits(0);
    fleet.serves("v2");
}

#[test]
fn a_build_sees_the_clean_commit_and_its_result_ships() {
    let build =
        "[[build]]\nlocal = \"mkdir -p dist && cat version >dist/built && cp version dist/version && ls >dist/seen\"\n";
    let upload = "[[prepare]]\nupload = [{ from = \"dist\", to = \".\" }]\n";
    let fleet = Fleet::of(&["web1", "web2"]).recipe(&[build, upload, SWAP].concat());
    fleet.commit("v1", &[]);
    fleet.write("junk", "uncommitted");
    fleet.ship(&["deploy"]).exits(0);
    for host in fleet.hosts() {
        assert_eq!(host.version().as_deref(), Some("v1"));
        assert_eq!(fs::read_to_string(host.root.join("current/built")).unwrap(), "v1");
        assert!(!fs::read_to_string(host.root.join("current/seen")).unwrap().contains("junk"));
    }
}

#[test]
fn a_build_that_fails_changes_no_host() {
    let fleet = Fleet::of(&["web1", "web2"]);
    fleet.commit("v1", &[]);
    fleet.ship(&["deploy"]).exits(0);
    let before: Vec<_> = fleet.hosts().iter().map(|host| host.everything()).collect();
    let fleet = fleet.recipe(&["[[build]]\nlocal = \"echo no compiler >&2; exit 7\"\n", UPLOAD, SWAP].concat());
    fleet.commit("v2", &[]);
    fleet.ship(&["deploy"]).exits(1).says("exit status 7").says("no compiler").says("no host was changed");
    let after: Vec<_> = fleet.hosts().iter().map(|host| host.everything()).collect();
    assert!(before == after);
}

#[test]
fn templates_know_the_commit_and_a_rollback_knows_what_its_release_was_made_of() {
    let recipe = "[[publish]]\nswap = {}\n[[publish]]\nrun = '''printf '%s|' {{ branch }} {{ author }} {{ title }} {{ by }} >>../../made'''\n";
    let fleet = Fleet::of(&["web1"]).recipe(&["[[prepare]]\nupload = \".\"\n", recipe].concat());
    fleet.commit("v1 \"it's\" $HOME", &[]);
    fleet.ship(&["deploy", "--branch", "main"]).exits(0);
    fleet.commit("v2", &[]);
    fleet.ship(&["deploy", "--branch", "main"]).exits(0);
    fleet.ship(&["rollback"]).exits(0);
    let made = std::fs::read_to_string(fleet.host("web1").root.join("made")).unwrap();
    let by: String = made.split('|').nth(3).unwrap().to_owned();
    assert!(by.starts_with("tester@"), "{made}");
    let line = |title: &str| format!("main|Ada|{title}|{by}|");
    assert_eq!(made, [line("v1 \"it's\" $HOME"), line("v2"), line("v1 \"it's\" $HOME")].concat());
}
