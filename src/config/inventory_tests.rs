//! What is said about an inventory that is wrong.

use std::path::Path;

use super::diagnostic;
use super::inventory::Inventory;

/// A whole inventory without a mistake; tests add theirs.
pub const GOOD: &str = r#"recipe = "django"
app = "tsosi"
deploy_to = "/var/www/tsosi"
default = "prod"

[vars]
settings = "backend.settings"

[hosts.bastion]
address = "gate.example.org"

[hosts.web1]
address = "web1.example.org"
user = "deployer"
jump = "bastion"
roles = ["web", "worker"]

[hosts.web2]
roles = ["web"]
vars = { workers = 9 }

[hosts.db1]
password = { secret = "login" }

[groups.front]
hosts = ["web*"]
vars = { tier = "front", workers = 2 }

[environments.prod]
hosts = ["front"]
branch = "main"
batch = "50%"
vars = { workers = 5 }

[environments.stage]
hosts = ["db1"]
deploy_to = "/srv/stage"

[secrets]
login = { env = "LOGIN" }
"#;

/// The inventory, or what is said about it.
pub fn read(text: &str) -> Result<Inventory, String> {
    Inventory::read(Path::new("inventory.toml"), text.to_owned())
        .map_err(|problems| diagnostic::render(&problems, false))
}

fn said(text: &str) -> String {
    match read(text) {
        Ok(_) => panic!("nothing is wrong with {text}"),
        Err(said) => said,
    }
}

/// A short inventory with `more` after it.
fn with(more: &str) -> String {
    said(&format!("recipe = \"x\"\napp = \"x\"\ndeploy_to = \"/srv/x\"\n[hosts.web1]\n{more}\n"))
}

#[test]
fn a_good_inventory_is_read() {
    let inventory = read(GOOD).expect("an inventory");
    assert_eq!(
        inventory.hosts.iter().map(|host| host.name.value.as_str()).collect::<Vec<_>>(),
        ["bastion", "web1", "web2", "db1"]
    );
    assert_eq!(inventory.keep_releases, 5);
    assert_eq!(inventory.host("web2").map(|host| host.address.as_str()), Some("web2"));
}

#[test]
fn all_problems_are_said_at_once() {
    insta::assert_snapshot!(said("recipe = \"x\"\nap = \"tsosi\"\ndeploy_to = \"www\"\n[hosts.web1]\nprot = 22\nport = \"ssh\"\n[environments.prod]\nhosts = [\"web2\"]\n"), @r#"
    error: the inventory has no `app`
     --> inventory.toml:1:1
      |
    1 | recipe = "x"
      | ^
      |
      = help: add `app = "NAME"`

    error: the inventory has no key `ap`
     --> inventory.toml:2:1
      |
    2 | ap = "tsosi"
      | ^^ unknown key
      |
      = help: did you mean `app`?

    error: releases cannot live in "www"
     --> inventory.toml:3:13
      |
    3 | deploy_to = "www"
      |             ^^^^^ expected an absolute path

    error: the host `web1` has no key `prot`
     --> inventory.toml:5:1
      |
    5 | prot = 22
      | ^^^^ unknown key
      |
      = help: did you mean `port`?

    error: `port` of the host `web1` is "ssh"
     --> inventory.toml:6:8
      |
    6 | port = "ssh"
      |        ^^^^^ expected a port: 1 to 65535

    error: the environment `prod` names `web2`, which does not exist
     --> inventory.toml:8:10
      |
    8 | hosts = ["web2"]
      |          ^^^^^^ expected a host
      |
      = help: did you mean `web1`?
    "#);
}

#[test]
fn an_empty_inventory_lacks_everything() {
    insta::assert_snapshot!(said(""), @r#"
    error: the inventory has no `recipe`
     --> inventory.toml:1:1
      |
    1 |
      | ^
      |
      = help: add `recipe = "NAME"`; `ship recipes` lists those in the binary

    error: the inventory has no `app`
     --> inventory.toml:1:1
      |
    1 |
      | ^
      |
      = help: add `app = "NAME"`

    error: the inventory has no `deploy_to`
     --> inventory.toml:1:1
      |
    1 |
      | ^
      |
      = help: add `deploy_to = "/var/www/NAME"`

    error: the inventory has no hosts
     --> inventory.toml:1:1
      |
    1 |
      | ^
      |
      = help: add `[hosts.web1]` with `address = "web1.example.org"`
    "#);
}

#[test]
fn a_syntax_error_is_shown_in_the_same_shape() {
    insta::assert_snapshot!(said("recipe = \"x\napp = 3\n"), @r#"
    error: invalid basic string, expected `"`
     --> inventory.toml:1:12
      |
    1 | recipe = "x
      |            ^
    "#);
}

#[test]
fn an_unknown_key() {
    insta::assert_snapshot!(with("adress = \"web1.example.org\""), @r#"
    error: the host `web1` has no key `adress`
     --> inventory.toml:5:1
      |
    5 | adress = "web1.example.org"
      | ^^^^^^ unknown key
      |
      = help: did you mean `address`?
    "#);
}

#[test]
fn a_wrong_type() {
    insta::assert_snapshot!(with("roles = [\"web\", 3]\nport = 70000\nforward_agent = \"yes\""), @r#"
    error: `roles` of the host `web1` is 3
     --> inventory.toml:5:17
      |
    5 | roles = ["web", 3]
      |                 ^ expected a string or strings

    error: `port` of the host `web1` is 70000
     --> inventory.toml:6:8
      |
    6 | port = 70000
      |        ^^^^^ expected a port: 1 to 65535

    error: `forward_agent` of the host `web1` is "yes"
     --> inventory.toml:7:17
      |
    7 | forward_agent = "yes"
      |                 ^^^^^ expected true or false
    "#);
}

#[test]
fn a_table_that_is_none() {
    insta::assert_snapshot!(with("vars = 3\n[hosts]\nweb2 = \"web2.example.org\""), @r#"
    error: `vars` of the host `web1` is 3
     --> inventory.toml:5:8
      |
    5 | vars = 3
      |        ^ expected a table

    error: the host `web2` is "web2.example.org"
     --> inventory.toml:7:8
      |
    7 | web2 = "web2.example.org"
      |        ^^^^^^^^^^^^^^^^^^ expected a table
    "#);
}

#[test]
fn a_missing_host() {
    insta::assert_snapshot!(with("[groups.front]\nhosts = [\"web2\"]\n[environments.prod]\nhosts = [\"frnot\", \"db*\"]"), @r#"
    error: the group `front` names `web2`, which does not exist
     --> inventory.toml:6:10
      |
    6 | hosts = ["web2"]
      |          ^^^^^^ expected a host
      |
      = help: did you mean `web1`?

    error: the environment `prod` names `frnot`, which does not exist
     --> inventory.toml:8:10
      |
    8 | hosts = ["frnot", "db*"]
      |          ^^^^^^^ expected a host or a group
      |
      = help: did you mean `front`?

    error: `db*` matches nothing
     --> inventory.toml:8:19
      |
    8 | hosts = ["frnot", "db*"]
      |                   ^^^^^ expected a host or a group
    "#);
}

#[test]
fn an_environment_without_hosts() {
    insta::assert_snapshot!(with("[environments.prod]\nbranch = \"main\""), @r#"
    error: the environment `prod` has no `hosts`
     --> inventory.toml:5:1
      |
    5 | [environments.prod]
      | ^^^^^^^^^^^^^^^^^^^
      |
      = help: add `hosts = ["NAME"]`, or `hosts = ["*"]` for all
    "#);
}

#[test]
fn a_jump_host_that_does_not_exist() {
    insta::assert_snapshot!(with("jump = \"bastoin\"\n[hosts.bastion]\n[hosts.web2]\njump = \"gate.example.org\""), @r#"
    error: there is no host `bastoin` to jump through
     --> inventory.toml:5:8
      |
    5 | jump = "bastoin"
      |        ^^^^^^^^^ expected a host of the inventory, or `user@host:port`
      |
      = help: did you mean `bastion`? For a host that is not in the inventory, write `user@bastoin`

    error: there is no host `gate.example.org` to jump through
     --> inventory.toml:8:8
      |
    8 | jump = "gate.example.org"
      |        ^^^^^^^^^^^^^^^^^^ expected a host of the inventory, or `user@host:port`
      |
      = help: for a host that is not in the inventory, write `user@gate.example.org` or `gate.example.org:22`
    "#);
}

#[test]
fn jumps_in_a_circle() {
    insta::assert_snapshot!(with("jump = \"a\"\n[hosts.a]\njump = \"b\"\n[hosts.b]\njump = \"a\""), @r#"
    error: the host `a` is reached through itself: a → b → a
     --> inventory.toml:7:8
      |
    7 | jump = "b"
      |        ^^^ expected another host
    "#);
}

#[test]
fn what_is_named_twice() {
    insta::assert_snapshot!(with("roles = [\"web\", \"web\"]\n[groups.web1]\n[environments.prod]\nhosts = [\"web1\", \"web1\"]"), @r#"
    error: `web` is named twice
     --> inventory.toml:5:17
      |
    5 | roles = ["web", "web"]
      |                 ^^^^^

    error: `web1` is the name of a group and of a host
     --> inventory.toml:6:9
      |
    6 | [groups.web1]
      |         ^^^^ expected a name of its own
      |
      = help: the host stands at inventory.toml:4:8

    error: the environment `prod` names `web1` twice
     --> inventory.toml:8:18
      |
    8 | hosts = ["web1", "web1"]
      |                  ^^^^^^
    "#);
}

#[test]
fn a_key_that_is_there_twice() {
    insta::assert_snapshot!(with("[hosts.web1]"), @"
    error: duplicate key
     --> inventory.toml:5:8
      |
    5 | [hosts.web1]
      |        ^^^^
    ");
}

#[test]
fn a_default_that_does_not_exist() {
    insta::assert_snapshot!(said("recipe = \"x\"\napp = \"x\"\ndeploy_to = \"/srv/x\"\ndefault = \"prdo\"\n[hosts.web1]\n[environments.prod]\nhosts = [\"*\"]\n"), @r#"
    error: there is no environment `prdo`
     --> inventory.toml:4:11
      |
    4 | default = "prdo"
      |           ^^^^^^ expected the name of an environment
      |
      = help: did you mean `prod`?
    "#);
}

#[test]
fn a_bad_app_name() {
    insta::assert_snapshot!(said("recipe = \"x\"\napp = \"my app\"\ndeploy_to = \"/srv/x\"\n[hosts.web1]\n"), @r#"
    error: "my app" cannot be the name of an app
     --> inventory.toml:2:7
      |
    2 | app = "my app"
      |       ^^^^^^^^ expected letters, digits, `.`, `_` and `-`, beginning with a letter or digit
    "#);
}

#[test]
fn a_place_where_no_release_can_live() {
    insta::assert_snapshot!(said("recipe = \"x\"\napp = \"x\"\ndeploy_to = \"/\"\n[hosts.web1]\ndeploy_to = \"/srv/../etc\"\n[hosts.web2]\ndeploy_to = \"www\"\n"), @r#"
    error: releases cannot live in "/"
     --> inventory.toml:3:13
      |
    3 | deploy_to = "/"
      |             ^^^ expected a folder of the application's own, not the root of the host

    error: releases cannot live in "/srv/../etc"
     --> inventory.toml:5:13
      |
    5 | deploy_to = "/srv/../etc"
      |             ^^^^^^^^^^^^^ expected a path without `.` and `..`

    error: releases cannot live in "www"
     --> inventory.toml:7:13
      |
    7 | deploy_to = "www"
      |             ^^^^^ expected an absolute path
    "#);
}

#[test]
fn names_that_cannot_be() {
    insta::assert_snapshot!(with("vars = { \"my-var\" = 1, release = 2 }\n[hosts.local]\n[hosts.\"a b\"]\nuser = \"-oProxyCommand=x\""), @r#"
    error: `my-var` cannot be the name of a variable
     --> inventory.toml:5:10
      |
    5 | vars = { "my-var" = 1, release = 2 }
      |          ^^^^^^^^ expected letters, digits and `_`, beginning with a letter

    error: `release` cannot be the name of a variable
     --> inventory.toml:5:24
      |
    5 | vars = { "my-var" = 1, release = 2 }
      |                        ^^^^^^^ ship sets this variable itself

    error: `local` cannot be the name of a host
     --> inventory.toml:6:8
      |
    6 | [hosts.local]
      |        ^^^^^ this name means the machine that ship runs on

    error: "a b" cannot be the name of a host
     --> inventory.toml:7:8
      |
    7 | [hosts."a b"]
      |        ^^^^^ expected letters, digits, `.`, `_` and `-`, beginning with a letter or digit

    error: `user` of the host `a b` is "-oProxyCommand=x"
     --> inventory.toml:8:8
      |
    8 | user = "-oProxyCommand=x"
      |        ^^^^^^^^^^^^^^^^^^ expected one word that does not begin with `-`
    "#);
}

#[test]
fn numbers_out_of_range() {
    insta::assert_snapshot!(said("recipe = \"x\"\napp = \"x\"\ndeploy_to = \"/srv/x\"\nkeep_releases = 0\nexclude = [\"a{\"]\n[hosts.web1]\n[environments.prod]\nhosts = [\"*\"]\nbatch = \"half\"\nmax_failures = -1\n"), @r#"
    error: `keep_releases` of the inventory is 0
     --> inventory.toml:4:17
      |
    4 | keep_releases = 0
      |                 ^ expected a whole number, 1 or more

    error: this is no pattern
     --> inventory.toml:5:12
      |
    5 | exclude = ["a{"]
      |            ^^^^ the pattern "a{": unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)

    error: `batch` of the environment `prod` is "half"
     --> inventory.toml:9:9
      |
    9 | batch = "half"
      |         ^^^^^^ expected a count of hosts, a percentage such as "50%", or "all"

    error: `max_failures` of the environment `prod` is -1
      --> inventory.toml:10:16
       |
    10 | max_failures = -1
       |                ^^ expected a whole number, 0 or more
    "#);
}

#[test]
fn passwords_of_sudo_are_asked_for_or_secrets() {
    insta::assert_snapshot!(with("sudo_password = \"hunter22\"\n[hosts.web2]\nsudo_password = { secret = \"rot\" }\n[hosts.web3]\nsudo_password = \"ask\"\n[secrets]\nroot = { env = \"X\" }"), @r#"
    error: `sudo_password` stands in the clear at inventory.toml:5:17
     |
     = help: write `"ask"`, or `sudo_password = { secret = "NAME" }` and say in `[secrets]` where it comes from

    error: there is no secret `rot`
     --> inventory.toml:7:28
      |
    7 | sudo_password = { secret = "rot" }
      |                            ^^^^^ expected a name of `[secrets]`
      |
      = help: did you mean `root`?
    "#);
}

#[test]
fn host_keys_and_passwords() {
    insta::assert_snapshot!(with("host_key = \"ssh-ed25519\"\npassword = { secret = \"lgoin\" }\n[hosts.web2]\npassword = \"hunter22\"\n[secrets]\nlogin = { env = \"X\" }"), @r#"
    error: the password stands in the clear at inventory.toml:8:12
     |
     = help: write `password = { secret = "NAME" }` and say in `[secrets]` where it comes from

    error: this is no host key
     --> inventory.toml:5:12
      |
    5 | host_key = "ssh-ed25519"
      |            ^^^^^^^^^^^^^ expected `ssh-ed25519 AAAA…` or `SHA256:…`
      |
      = help: `ssh-keyscan HOST` prints a host's keys; compare them with the host's own before you trust them

    error: there is no secret `lgoin`
     --> inventory.toml:6:23
      |
    6 | password = { secret = "lgoin" }
      |                       ^^^^^^^ expected a name of `[secrets]`
      |
      = help: did you mean `login`?
    "#);
}
