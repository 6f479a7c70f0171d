//! Setups from what a host has: what changes, what is asked about, what is refused.

use std::path::Path;

use super::setup::{HostInput, HostSetup, SetupStep, look, plan};
use super::setup_text::{counted, text};
use crate::document::{Problems, Value, parse};
use crate::event::Phase;
use crate::facts::Facts;
use crate::facts::found::{Bytes, Entry, Found, Look, Thing, Unit};
use crate::facts::written::Written;
use crate::layout::Layout;
use crate::plan::Obstacle;
use crate::plan::render::PlannedStep;
use crate::secret::Secret;
use crate::step::diff::Contents;
use crate::step::{Kind, Step};

/// The steps of a recipe's `setup`, as they are once rendered.
fn steps(recipe: &str) -> Vec<SetupStep> {
    let document = parse(Path::new("recipe.toml"), recipe.to_owned()).expect("TOML");
    let Value::Table(entries) = document.value else { panic!("a table") };
    let Value::Array(steps) = &entries[0].node.value else { panic!("steps") };
    let read = |step: &crate::document::Node| {
        let Value::Table(keys) = &step.value else { panic!("a step") };
        let find = |name: &str| keys.iter().find(|entry| entry.key == name).map(|entry| entry.node.value.clone());
        let word = |name: &str| match find(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let kind = Kind::ALL.iter().copied().find(|kind| keys[0].key == kind.name()).expect("a kind");
        let mut problems = Problems::new();
        let step = Step::read(kind, &keys[0].node, &mut problems).unwrap_or_else(|| panic!("{problems:?}"));
        let contents = match &step {
            Step::File(file) => file.content.clone(),
            Step::Nginx(nginx) => nginx.content.clone(),
            _ => None,
        };
        SetupStep {
            contents: contents.map(Contents::plain),
            planned: PlannedStep {
                phase: Phase::Setup,
                name: step.title(),
                step,
                directory: String::new(),
                environment: Vec::new(),
                timeout: None,
                attempts: 1,
                tolerate: false,
                detach: None,
                stage: 0,
                creates: word("creates"),
                done_when: word("done_when"),
                place: keys[0].node.place.clone(),
            },
        }
    };
    steps.iter().map(read).collect()
}

fn facts(user: &str) -> Facts {
    let programs = ["systemctl", "nginx", "visudo", "apt-get"];
    let programs = programs.iter().map(|name| ((*name).to_owned(), format!("/usr/bin/{name}"))).collect();
    Facts { user: user.to_owned(), programs, nearest: "/srv".to_owned(), ..Facts::default() }
}

fn entry(thing: Thing, owner: &str, mode: u32) -> Entry {
    let names = [owner.to_owned(), owner.to_owned()];
    Entry { thing, mode, owner: names.clone(), group: names }
}

fn file(contents: &str) -> Entry {
    entry(Thing::File(Some(Bytes::new(contents.as_bytes().to_vec()))), "root", 0o644)
}

/// A host on which `deployer` deploys to /srv/shop, and which has nothing of its setup.
fn bare() -> Found {
    let mut found = Found::default();
    found.stage = Some("/home/deployer".to_owned());
    for user in ["root", "deployer"] {
        found.users.insert(user.to_owned(), user.to_owned());
    }
    found
}

/// The same host, with the folders that ship makes.
fn founded() -> Found {
    let mut found = bare();
    for folder in ["", "/releases", "/shared", "/.ship", "/.ship/releases"] {
        found.entries.insert(format!("/srv/shop{folder}"), entry(Thing::Directory, "deployer", 0o755));
    }
    found
}

fn has(mut found: Found, path: &str, entry: Entry) -> Found {
    found.entries.insert(path.to_owned(), entry);
    found
}

/// The same host, where ship wrote `contents` to `path`.
fn wrote(found: Found, path: &str, contents: &str) -> Found {
    let mut written = Written::default();
    written.note(path, contents.as_bytes());
    has(has(found, "/srv/shop/.ship/setup.json", file(&written.text())), path, file(contents))
}

fn planned(recipe: &str, found: &Found, facts: &Facts) -> Result<HostSetup, Vec<Obstacle>> {
    plan(HostInput {
        name: "web1".to_owned(),
        layout: Layout::new("/srv/shop"),
        facts: &Facts { writable: found.entries.contains_key("/srv/shop"), ..facts.clone() },
        found,
        deploy_user: "deployer",
        steps: steps(recipe),
        sudoers: (Ok(Contents::plain("deployer rule\n".to_owned())), "/etc/sudoers.d/ship-shop".to_owned()),
        token: "now",
    })
}

fn shown(recipe: &str, found: &Found) -> String {
    let setup = planned(recipe, found, &facts("deployer")).unwrap_or_else(|obstacles| panic!("{obstacles:?}"));
    text("shop", None, &[setup])
}

fn refused(recipe: &str, found: &Found) -> String {
    let obstacles = planned(recipe, found, &facts("deployer")).expect_err("obstacles");
    obstacles.into_iter().map(|obstacle| obstacle.text).collect::<Vec<_>>().join("\n")
}

const UNIT: &str = "[[setup]]\nfile = { content = \"[Unit]\\n\", to = \"/etc/systemd/system/shop.service\" }\n";
const SITE: &str = "[[setup]]\nnginx = { site = \"shop\", content = \"new\\n\" }\n";

#[test]
fn a_bare_host_gets_folders_and_a_unit_that_systemd_reads() {
    insta::assert_snapshot!(shown(UNIT, &bare()), @r"
    Set up shop

    web1
      /srv/shop: make it with ship's own folders, for deployer
      commands
        Make folders
          # sudo install -d -o deployer -g deployer -m 0755 /srv/shop /srv/shop/releases /srv/shop/shared
        Make folders
          # sudo install -d -o deployer -g deployer -m 0700 /srv/shop/.ship /srv/shop/.ship/releases
      /etc/systemd/system/shop.service: write it, root:root 0644
        --- /dev/null
        +++ /etc/systemd/system/shop.service
        @@ -0,0 +1 @@
        +[Unit]
      commands
        Write /etc/systemd/system/shop.service
          # sudo install -D -o root -g root -m 0644 /home/deployer/.ship-setup-now/0 /etc/systemd/system/.shop.service.ship-new
        Put /etc/systemd/system/shop.service in place
          # sudo ln /etc/systemd/system/.shop.service.ship-new /etc/systemd/system/shop.service
        Put /etc/systemd/system/shop.service in place
          # sudo rm -f /etc/systemd/system/.shop.service.ship-new
        systemctl daemon-reload
          # sudo /usr/bin/systemctl daemon-reload
    ");
}

#[test]
fn a_host_that_has_everything_is_left_alone() {
    let found = wrote(founded(), "/etc/systemd/system/shop.service", "[Unit]\n");
    let setup = planned(UNIT, &found, &facts("deployer")).expect("a plan");
    assert!(setup.is_done() && setup.transfer.is_none() && setup.begin.is_empty());
}

#[test]
fn a_site_is_tried_and_the_former_one_comes_back() {
    let found = wrote(founded(), "/etc/nginx/sites-available/shop", "old\n");
    let link = entry(Thing::Link("/etc/nginx/sites-available/shop".to_owned()), "root", 0o777);
    insta::assert_snapshot!(shown(SITE, &has(found, "/etc/nginx/sites-enabled/shop", link)), @r"
    Set up shop

    web1
      /etc/nginx/sites-available/shop: change it
        --- /etc/nginx/sites-available/shop
        +++ /etc/nginx/sites-available/shop
        @@ -1 +1 @@
        -old
        +new
      commands
        nginx -t, before anything is changed
          # sudo /usr/bin/nginx -t
        Write /etc/nginx/sites-available/shop
          # sudo install -D -o root -g root -m 0644 /home/deployer/.ship-setup-now/0 /etc/nginx/sites-available/.shop.ship-new
        Keep the former /etc/nginx/sites-available/shop
          # sudo ln -f /etc/nginx/sites-available/shop /etc/nginx/sites-available/.shop.ship-old
        Put /etc/nginx/sites-available/shop in place
          # sudo mv -f /etc/nginx/sites-available/.shop.ship-new /etc/nginx/sites-available/shop
        nginx -t
          # sudo /usr/bin/nginx -t
        systemctl reload-or-restart nginx
          # sudo /usr/bin/systemctl reload-or-restart nginx
        Forget the former /etc/nginx/sites-available/shop
          # sudo rm -f /etc/nginx/sites-available/.shop.ship-old
            a failure is reported and changes nothing else
      if one of the last fails
        Put back the former /etc/nginx/sites-available/shop
          # sudo mv -f /etc/nginx/sites-available/.shop.ship-old /etc/nginx/sites-available/shop
    ");
}

#[test]
fn what_ship_did_not_write_is_foreign_and_what_it_wrote_is_not() {
    let foreign = |found: &Found| {
        let setup = planned(UNIT, found, &facts("deployer")).expect("a plan");
        setup.foreign().map(|(path, _)| path.to_owned()).collect::<Vec<_>>()
    };
    let unit = "/etc/systemd/system/shop.service";
    assert_eq!(foreign(&wrote(founded(), unit, "[Service]\n")), [""; 0]);
    assert_eq!(foreign(&has(founded(), unit, file("[Service]\n"))), [unit]);
    assert_eq!(foreign(&has(wrote(founded(), unit, "[Service]\n"), unit, file("by hand\n"))), [unit]);
    assert_eq!(foreign(&has(founded(), unit, entry(Thing::Link("/x".to_owned()), "root", 0o777))), [unit]);
    // The same contents are nobody's loss.
    assert_eq!(foreign(&has(founded(), unit, file("[Unit]\n"))), [""; 0]);
}

#[test]
fn a_file_that_another_instance_wrote_is_known_from_then_on() {
    let unit = "/etc/systemd/system/shop.service";
    let more = format!("{UNIT}[[setup]]\nfile = {{ content = \"x\\n\", to = \"/etc/own\" }}\n");
    let setup = planned(&more, &has(founded(), unit, file("[Unit]\n")), &facts("deployer")).expect("a plan");
    let sent = setup.transfer.expect("a transfer").lots[0].packing().unwrap().extra.clone();
    let record = sent.iter().find(|sent| sent.path() == b"finish").expect("a record");
    let record = Written::parse(record.contents());
    assert!(record.wrote(unit, b"[Unit]\n") && record.wrote("/etc/own", b"x\n") && record.unfinished.is_empty());
}

#[test]
fn owners_and_modes_are_corrected_without_writing() {
    let unit = "/etc/systemd/system/shop.service";
    let open = Entry { mode: 0o666, ..file("[Unit]\n") };
    let setup = planned(UNIT, &has(founded(), unit, open), &facts("deployer")).expect("a plan");
    let titles: Vec<&str> = setup.changes.iter().map(|change| change.title.as_str()).collect();
    assert_eq!(titles, ["/etc/systemd/system/shop.service: mode 0666 becomes 0644"]);
    assert!(setup.changes[0].staged.is_none());
}

#[test]
fn packages_come_first_and_alone() {
    let recipe = format!("{UNIT}[[setup]]\npackages = [\"nginx\", \"redis\"]\n");
    let mut found = founded();
    found.packages.insert("redis".to_owned());
    let setup = planned(&recipe, &found, &facts("deployer")).expect("a plan");
    let next: Vec<&str> = setup.next().map(|change| change.title.as_str()).collect();
    assert_eq!((next, setup.all().count()), (vec!["install nginx"], 2));
    // What is missing may come with them.
    let recipe = "[[setup]]\npackages = [\"nginx\"]\n[[setup]]\ndirectory = { path = \"/x\", owner = \"www-data\" }\n";
    let setup = planned(recipe, &founded(), &facts("deployer")).expect("a plan");
    assert_eq!(setup.later.len(), 1);
    let mut with = founded();
    with.packages.insert("nginx".to_owned());
    assert!(refused(recipe, &with).contains("for the user www-data, which the host does not have"));
}

#[test]
fn commands_are_done_once_and_looks_are_no_changes() {
    let recipe = "[[setup]]\nrun = \"make\"\ncreates = \"/srv/made\"\n[[setup]]\nrun = \"ask\"\ndone_when = \"is it\"\n[[setup]]\nwait = { tcp = \"127.0.0.1:80\" }\n";
    let mut done = has(founded(), "/srv/made", file(""));
    done.answers.insert("is it".to_owned());
    let mut programs = facts("deployer");
    programs.programs.insert("bash".to_owned(), "/bin/bash".to_owned());
    assert!(planned(recipe, &done, &programs).expect("a plan").is_done());
    let setup = planned(recipe, &founded(), &programs).expect("a plan");
    assert_eq!((setup.changes.len(), counted(setup.changes.iter())), (3, "2 commands".to_owned()));
}

#[test]
fn busy_ports_are_refused_unless_what_needs_them_is_there() {
    let recipe = "[[setup]]\nfree_ports = [80]\ncreates = \"/etc/letsencrypt/live/x\"\n";
    let mut found = founded();
    assert!(planned(recipe, &found, &facts("deployer")).expect("a plan").is_done());
    found.listening.insert(80);
    assert!(refused(recipe, &found).contains("something listens on 80"));
    let found = has(found, "/etc/letsencrypt/live/x", entry(Thing::Directory, "root", 0o700));
    assert!(planned(recipe, &found, &facts("deployer")).expect("a plan").is_done());
}

#[test]
fn units_are_enabled_and_started_where_they_are_not() {
    let recipe = "[[setup]]\nsystemd = { enable = [\"shop.socket\"], start = [\"shop.socket\"], watch = \"0s\" }\n";
    let mut found = founded();
    let unit = |state: &str, active: &str| Unit {
        file_state: state.to_owned(),
        active: active.to_owned(),
        needs_reload: false,
    };
    let titles = |found: &Found| {
        let setup = planned(recipe, found, &facts("deployer")).expect("a plan");
        setup.changes.iter().map(|change| change.title.clone()).collect::<Vec<_>>()
    };
    assert_eq!(titles(&found), ["shop.socket: enable it", "shop.socket: start it"]);
    found.units.insert("shop.socket".to_owned(), unit("enabled", "failed"));
    assert_eq!(titles(&found), ["shop.socket: start it"]);
    found.units.insert("shop.socket".to_owned(), Unit { needs_reload: true, ..unit("enabled", "active") });
    assert_eq!(titles(&found), ["read unit files again"]);
    found.units.insert("shop.socket".to_owned(), unit("static", "active"));
    assert_eq!(titles(&found), [""; 0]);
}

#[test]
fn what_an_interrupted_run_left_undone_is_done() {
    let path = "/etc/systemd/system/shop.service";
    let mut written = Written::default();
    written.note(path, b"[Unit]\n");
    written.unfinished.insert(path.to_owned());
    let found = has(has(founded(), path, file("[Unit]\n")), "/srv/shop/.ship/setup.json", file(&written.text()));
    let setup = planned(UNIT, &found, &facts("deployer")).expect("a plan");
    let commands: Vec<String> = setup.changes[0].trial.iter().map(|task| task.name.clone()).collect();
    assert_eq!(commands, ["systemctl daemon-reload"]);
    assert!(setup.changes[0].tasks.is_empty() && !setup.finish.is_empty());
}

#[test]
fn root_needs_no_sudo_and_leaves_nothing_of_its_own_in_the_way() {
    let setup = planned(UNIT, &bare(), &facts("root")).expect("a plan");
    let all: Vec<String> = setup
        .all()
        .flat_map(|change| change.tasks.iter().chain(&change.trial))
        .chain(&setup.begin)
        .filter_map(|task| task.command().map(crate::command::Command::display))
        .collect();
    assert!(all.iter().all(|command| !command.starts_with("sudo")), "{all:#?}");
    assert!(
        all.contains(&"install -o deployer -g deployer -m 0600 /dev/null /srv/shop/.ship/lock".to_owned()),
        "{all:#?}"
    );
}

#[test]
fn a_secret_is_in_no_command_and_no_diff() {
    let mut steps = steps("[[setup]]\nfile = { template = \"x\", to = \"/srv/shop/shared/.env\" }\n");
    let secret = Secret::new("hunter-twenty-two".to_owned());
    steps[0].contents =
        Some(Contents { text: Secret::new("KEY=hunter-twenty-two\n".to_owned()), secrets: vec![secret] });
    let (found, facts) = (founded(), Facts { writable: true, ..facts("deployer") });
    let setup = plan(HostInput {
        name: "web1".to_owned(),
        layout: Layout::new("/srv/shop"),
        facts: &facts,
        found: &found,
        deploy_user: "deployer",
        steps,
        sudoers: (Err(String::new()), String::new()),
        token: "now",
    })
    .expect("a plan");
    let shown = text("shop", None, std::slice::from_ref(&setup));
    assert!(!shown.contains("hunter") && !format!("{setup:?}").contains("hunter"), "{shown}");
    assert!(shown.contains("$ install -D -o deployer -g deployer -m 0600 "), "no sudo in deploy_to: {shown}");
}

#[test]
fn everything_that_is_decided_on_is_looked_at() {
    let recipe = format!(
        "{UNIT}{SITE}[[setup]]\nsudoers = {{}}\n[[setup]]\nrun = \"x\"\ncreates = \"/made\"\n[[setup]]\nsystemd = {{ enable = [\"a\"], start = [\"b\"] }}\n[[setup]]\ndirectory = {{ path = \"/d\", owner = \"u\", group = \"g\" }}\n"
    );
    let looked: Look =
        look(&Layout::new("/srv/shop"), "deployer", &facts("deployer"), &steps(&recipe), "/etc/sudoers.d/ship-shop");
    let wanted: Vec<&str> =
        looked.paths.iter().filter(|(_, contents)| **contents).map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        wanted,
        [
            "/etc/nginx/sites-available/shop",
            "/etc/sudoers.d/ship-shop",
            "/etc/systemd/system/shop.service",
            "/srv/shop/.ship/setup.json"
        ]
    );
    for path in ["/made", "/d", "/etc/nginx/sites-enabled/shop", "/srv/shop", "/srv/shop/.ship/lock"] {
        assert_eq!(looked.paths.get(path), Some(&false), "{path}");
    }
    assert!(looked.users.contains("u") && looked.groups.contains("g") && looked.units.len() == 2);
}
