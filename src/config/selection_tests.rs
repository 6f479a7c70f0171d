//! Which hosts are chosen, and what is said where none can be.

use std::collections::{BTreeMap, BTreeSet};

use super::batch::Batch;
use super::diagnostic;
use super::inventory_tests::{GOOD, read};
use super::selection::{Choice, select};
use crate::secret::Secret;
use crate::target::SudoPassword;

fn nothing(_: &str) -> Result<String, String> {
    Err("there is no such command".to_owned())
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// `env:prod host:web*` → a choice.
fn choice(text: &str) -> Choice {
    let of = |kind: &str| words(text).iter().filter_map(|word| word.strip_prefix(kind).map(str::to_owned)).collect();
    let environment: Vec<String> = of("env:");
    Choice { environment: environment.into_iter().next(), hosts: of("host:"), roles: of("role:"), groups: of("group:") }
}

fn chosen(inventory: &str, text: &str) -> String {
    let inventory = read(inventory).expect("an inventory");
    match select(&inventory, &choice(text), &nothing) {
        Ok(selection) => {
            let names: Vec<String> = selection.hosts.into_iter().map(|host| host.name).collect();
            names.join(" ")
        }
        Err(problems) => diagnostic::render(&problems, false),
    }
}

const FLAT: &str = "recipe = \"x\"\napp = \"x\"\ndeploy_to = \"/srv/x\"\n[hosts.gate]\n[hosts.web1]\njump = \"gate\"\nroles = [\"web\"]\n[hosts.web2]\nroles = [\"web\"]\n[hosts.db]\nroles = [\"db\"]\n[groups.both]\nhosts = [\"web2\", \"db\"]\n";

#[test]
fn patterns_of_one_kind_widen_and_kinds_narrow() {
    assert_eq!(chosen(FLAT, ""), "web1 web2 db");
    assert_eq!(chosen(FLAT, "host:web*"), "web1 web2");
    assert_eq!(chosen(FLAT, "host:web1 host:db"), "web1 db");
    assert_eq!(chosen(FLAT, "role:web group:both"), "web2");
    assert_eq!(chosen(FLAT, "host:gate"), "gate");
    assert_eq!(chosen(GOOD, ""), "web1 web2");
    assert_eq!(chosen(GOOD, "env:stage"), "db1");
}

#[test]
fn an_empty_selection() {
    insta::assert_snapshot!(chosen(FLAT, "role:db host:web1"), @"
    error: no host is chosen
     |
     = note: the inventory has `db`, `web1`, `web2`
     = help: a host must fit `--host`, `--role` and `--group`, each where it is given
    ");
}

#[test]
fn an_unknown_environment() {
    insta::assert_snapshot!(chosen(GOOD, "env:prdo"), @"
    error: there is no environment `prdo`
     |
     = help: did you mean `prod`?
    ");
    insta::assert_snapshot!(chosen(FLAT, "env:prod"), @"
    error: there is no environment `prod`
     |
     = help: the inventory has no environments; leave the name out
    ");
    insta::assert_snapshot!(chosen(&GOOD.replace("default = \"prod\"\n", ""), ""), @"
    error: the inventory has several environments, and none is named
     |
     = note: there is `prod`, `stage`
     = help: name one, or set `default` in the inventory
    ");
}

#[test]
fn an_unknown_host_role_or_group() {
    insta::assert_snapshot!(chosen(GOOD, "host:wbe1 host:db1 host:x* role:wrker group:frnot host:[ "), @"
    error: the environment `prod` has no host `wbe1`
     |
     = help: did you mean `web1`?

    error: the host `db1` is not in the environment `prod`
     |
     = help: there is `web1`, `web2`

    error: the environment `prod` has no host `x*`
     |
     = help: there is `web1`, `web2`

    error: `--host [` is no glob: unclosed character class; missing ']'

    error: the environment `prod` has no role `wrker`
     |
     = help: did you mean `worker`?

    error: the environment `prod` has no group `frnot`
     |
     = help: did you mean `front`?
    ");
}

#[test]
fn two_names_for_one_folder_of_one_server() {
    insta::assert_snapshot!(chosen("recipe = \"x\"\napp = \"x\"\ndeploy_to = \"/srv/x\"\n[hosts.a]\naddress = \"h\"\n[hosts.b]\naddress = \"h\"\n[hosts.c]\naddress = \"h\"\ndeploy_to = \"/srv/y\"\n", ""), @"
    error: `a` and `b` are the same folder of the same server
     --> inventory.toml:6:8
      |
    6 | [hosts.b]
      |        ^ expected another `address`, `port` or `deploy_to`
    ");
}

#[test]
fn stronger_variables_win() {
    let inventory = read(GOOD).expect("an inventory");
    let selection = select(&inventory, &Choice::default(), &nothing).expect("hosts");
    let shown: Vec<String> = selection
        .hosts
        .iter()
        .map(|host| {
            let vars: Vec<String> = host.vars.iter().map(|(name, node)| format!("{name}={:?}", node.value)).collect();
            format!("{} {:?} {:?} {}", host.name, host.roles, host.groups, vars.join(" "))
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    web1 ["web", "worker"] ["front"] settings=String("backend.settings") tier=String("front") workers=Integer(5)
    web2 ["web"] ["front"] settings=String("backend.settings") tier=String("front") workers=Integer(9)
    "#);
    assert_eq!((selection.branch.as_deref(), selection.batch), (Some("main"), Batch::Percent(50)));
    let jump = selection.hosts[0].target.jump.as_deref().expect("a jump");
    assert_eq!(jump.address, "gate.example.org");
}

#[test]
fn passwords_come_from_secrets() {
    let inventory = read(GOOD).expect("an inventory");
    let mut selection = select(&inventory, &choice("env:stage"), &nothing).expect("hosts");
    assert_eq!(selection.password_secrets(), BTreeSet::from(["login".to_owned()]));
    selection.give_passwords(&BTreeMap::from([("login".to_owned(), Secret::new("hunter22".to_owned()))]));
    assert_eq!(selection.hosts[0].target.password.as_ref().map(Secret::expose), Some("hunter22"));
    assert_eq!(selection.hosts[0].deploy_to, "/srv/stage");
}

#[test]
fn the_password_of_sudo_goes_to_its_own_host() {
    let text = "recipe = \"x\"\napp = \"x\"\ndeploy_to = \"/srv/x\"\n[hosts.a]\nsudo_password = \"ask\"\n[hosts.b]\nsudo_password = { secret = \"root\" }\n[hosts.c]\n[secrets]\nroot = { env = \"X\" }\n";
    let inventory = read(text).expect("an inventory");
    let mut selection = select(&inventory, &choice(""), &nothing).expect("hosts");
    assert_eq!(selection.password_secrets(), BTreeSet::from(["root".to_owned()]));
    let root = Secret::new("hunter22".to_owned());
    selection.give_passwords(&BTreeMap::from([("root".to_owned(), root.clone())]));
    let given: Vec<_> = selection.hosts.iter().map(|host| host.target.sudo.clone()).collect();
    assert_eq!(given, [Some(SudoPassword::Ask), Some(SudoPassword::Known(root)), None]);
}

const DYNAMIC: &str = "recipe = \"x\"\napp = \"x\"\ndeploy_to = \"/srv/x\"\n[hosts.web1]\nuser = \"me\"\n[groups.web.vars]\ntier = \"group\"\n[environments.prod]\nhosts_from = { command = \"list-hosts\" }\n";

#[test]
fn a_command_names_hosts() {
    let inventory = read(DYNAMIC).expect("an inventory");
    let run = |_: &str| Ok(r#"{"web": {"hosts": ["web1", "web2"], "vars": {"tier": "ansible", "x": 1}}}"#.to_owned());
    let selection = select(&inventory, &choice("role:web"), &run).expect("hosts");
    let shown: Vec<String> = selection
        .hosts
        .iter()
        .map(|host| format!("{} {:?} {:?} {:?}", host.name, host.target.user, host.roles, host.vars["tier"].value))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    web1 Some("me") ["web"] String("group")
    web2 None ["web"] String("group")
    "#);
}

#[test]
fn a_command_that_fails_or_prints_something_else() {
    insta::assert_snapshot!(chosen(DYNAMIC, ""), @r#"
    error: the hosts could not be asked for: there is no such command
     --> inventory.toml:9:26
      |
    9 | hosts_from = { command = "list-hosts" }
      |                          ^^^^^^^^^^^^
    "#);
    let inventory = read(DYNAMIC).expect("an inventory");
    let problems = select(&inventory, &Choice::default(), &|_| Ok("web1".to_owned())).expect_err("a problem");
    insta::assert_snapshot!(diagnostic::render(&problems, false), @r#"
    error: what the command printed cannot be read: expected value at line 1 column 1
     --> inventory.toml:9:26
      |
    9 | hosts_from = { command = "list-hosts" }
      |                          ^^^^^^^^^^^^ the command must print the JSON of an Ansible dynamic inventory
    "#);
    let problems = select(&inventory, &Choice::default(), &|_| Ok("{}".to_owned())).expect_err("a problem");
    insta::assert_snapshot!(diagnostic::render(&problems, false), @"
    error: the environment `prod` has no hosts
     --> inventory.toml:8:15
      |
    8 | [environments.prod]
      |               ^^^^ expected at least one host
    ");
}
