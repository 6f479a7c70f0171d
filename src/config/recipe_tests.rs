//! What is said about a recipe that is wrong.

use std::path::Path;

use super::diagnostic;
use super::recipe::Recipe;
use crate::event::Phase;
use crate::step::Kind;

/// A whole recipe without a mistake.
pub const GOOD: &str = r#"description = "Django under gunicorn"
exclude = ["*.pyc"]
services = ["{{ app }}_gunicorn"]

[options]
skip_front_build = { type = "bool", help = "use what is there" }
ref = { type = "string" }

[vars]
settings = "site.settings"
venv = "{{ shared_path }}/venv"

[shared]
files = [".env"]
dirs = ["media"]

[[build]]
name = "Build the front end"
local = "npm ci && npm run build"
cwd = "frontend"
unless = "skip_front_build"

[[prepare]]
upload = [{ from = "backend", to = "backend" }, { from = "frontend/dist", to = "public" }]

[[prepare]]
settings = { template = "env.j2", to = ".env", mode = "0600" }

[[prepare]]
name = "Migrate {{ app }}"
run = "{{ venv }}/bin/python manage.py migrate --noinput"
cwd = "backend"
env = { DJANGO_SETTINGS_MODULE = "{{ settings }}", DB_PASSWORD = "{{ secrets.db_password }}" }
once = true
timeout = "5m"
attempts = 2
tags = ["db"]

[[publish]]
swap = {}

[[publish]]
systemd = { restart = ["{{ app }}_gunicorn"] }
roles = ["web"]

[[finish]]
run = "echo {{ options.ref }}"
when = "options.ref"
tolerate = true
"#;

/// The recipe, or what is said about it.
pub fn read(text: &str) -> Result<Recipe, String> {
    Recipe::read("django", Path::new("recipes/django.toml"), text.to_owned())
        .map_err(|problems| diagnostic::render(&problems, false))
}

fn said(text: &str) -> String {
    match read(text) {
        Ok(_) => panic!("nothing is wrong with {text}"),
        Err(said) => said,
    }
}

#[test]
fn a_good_recipe_is_read() {
    let recipe = read(GOOD).unwrap_or_else(|said| panic!("{said}"));
    let steps: Vec<(Phase, Kind)> = recipe.steps.iter().map(|step| (step.phase, step.kind)).collect();
    assert_eq!(
        steps,
        [
            (Phase::Build, Kind::Local),
            (Phase::Prepare, Kind::Upload),
            (Phase::Prepare, Kind::Settings),
            (Phase::Prepare, Kind::Run),
            (Phase::Publish, Kind::Swap),
            (Phase::Publish, Kind::Systemd),
            (Phase::Finish, Kind::Run),
        ]
    );
    let migrate = &recipe.steps[3].modifiers;
    assert!(migrate.once && migrate.attempts == 2 && migrate.timeout.is_some_and(|time| time.as_secs() == 300));
    assert_eq!(recipe.caches, ["node_modules", "frontend/node_modules", "target"]);
}

#[test]
fn a_step_has_exactly_one_action() {
    insta::assert_snapshot!(said("[[prepare]]\nname = \"nothing\"\n[[prepare]]\nrun = \"a\"\nupload = \"b\"\n"), @r#"
    error: a step of `prepare` has no action
     --> recipes/django.toml:1:1
      |
    1 | [[prepare]]
      | ^^^^^^^^^^^ expected one of `upload`, `settings`, `link`, `run`, `sudo`, `systemd`, `compose`, `wait`

    error: a step has two actions: `run` and `upload`
     --> recipes/django.toml:5:1
      |
    5 | upload = "b"
      | ^^^^^^ expected exactly one action
      |
      = help: begin another step with `[[prepare]]`
    "#);
}

#[test]
fn an_unknown_action_or_modifier() {
    insta::assert_snapshot!(said("[[prepare]]\nuplaod = \".\"\n[[prepare]]\nrun = \"a\"\ntiemout = \"5s\"\n[[prepare]]\nxyz = 1\n"), @r#"
    error: a step of `prepare` has no key `uplaod`
     --> recipes/django.toml:2:1
      |
    2 | uplaod = "."
      | ^^^^^^ unknown key
      |
      = help: did you mean `upload`?

    error: a step of `prepare` has no key `tiemout`
     --> recipes/django.toml:5:1
      |
    5 | tiemout = "5s"
      | ^^^^^^^ unknown key
      |
      = help: did you mean `timeout`?

    error: a step of `prepare` has no key `xyz`
     --> recipes/django.toml:7:1
      |
    7 | xyz = 1
      | ^^^ unknown key
      |
      = help: there is `name`, `tags`, `roles`, `when`, `unless`, `once`, `cwd`, `env`, `timeout`, `attempts`, `tolerate`, `creates`, `done_when`, `local`, `upload`, `settings`, `link`, `run`, `sudo`, `systemd`, `compose`, `swap`, `wait`, `directory`, `file`, `nginx`, `packages`, `sudoers`, `free_ports`
    "#);
}

#[test]
fn an_action_in_the_wrong_phase() {
    insta::assert_snapshot!(said("[[publish]]\nupload = \".\"\n[[build]]\nlocal = \"make\"\nroles = [\"web\"]\n"), @r#"
    error: `upload` cannot stand in `publish`
     --> recipes/django.toml:2:1
      |
    2 | upload = "."
      | ^^^^^^ expected in `prepare`

    error: `roles` has no meaning in `build`, which is done once, on this machine
     --> recipes/django.toml:5:1
      |
    5 | roles = ["web"]
      | ^^^^^
    "#);
}

#[test]
fn one_bracket_too_few() {
    insta::assert_snapshot!(said("[prepare]\nrun = \"a\"\n"), @"
    error: `prepare` is a table
     --> recipes/django.toml:1:1
      |
    1 | [prepare]
      | ^^^^^^^^^ expected steps
      |
      = help: write `[[prepare]]`, with two brackets, before each step
    ");
}

#[test]
fn modifiers_that_do_not_fit() {
    insta::assert_snapshot!(said(concat!(
        "[[prepare]]\nrun = \"a\"\ntimeout = \"soon\"\nattempts = 0\nonce = \"yes\"\nwhen = \"{{ x }}\"\nunless = 3\n",
        "env = { \"A-B\" = \"x\", C = [\"y\"] }\nroles = [\"a b\"]\n",
    )), @r#"
    error: `timeout` of a step of `prepare` is "soon"
     --> recipes/django.toml:3:11
      |
    3 | timeout = "soon"
      |           ^^^^^^ expected a time such as "30s", "5m" or "250ms"

    error: `attempts` of a step of `prepare` is 0
     --> recipes/django.toml:4:12
      |
    4 | attempts = 0
      |            ^ expected a whole number, 1 or more

    error: `once` of a step of `prepare` is "yes"
     --> recipes/django.toml:5:8
      |
    5 | once = "yes"
      |        ^^^^^ expected true or false

    error: `when` is no expression
     --> recipes/django.toml:6:8
      |
    6 | when = "{{ x }}"
      |        ^^^^^^^^^ expected an expression without braces, such as `not options.skip_front_build`

    error: `unless` is no expression
     --> recipes/django.toml:7:10
      |
    7 | unless = 3
      |          ^ expected an expression in quotes, or true or false

    error: "A-B" cannot be the name of an environment variable
     --> recipes/django.toml:8:9
      |
    8 | env = { "A-B" = "x", C = ["y"] }
      |         ^^^^^ expected letters, digits and `_`

    error: the environment variable `C` is an array
     --> recipes/django.toml:8:26
      |
    8 | env = { "A-B" = "x", C = ["y"] }
      |                          ^^^^^ expected a string, a number or a boolean

    error: "a b" cannot be the name of a role
     --> recipes/django.toml:9:10
      |
    9 | roles = ["a b"]
      |          ^^^^^ expected letters, digits, `.`, `_` and `-`, beginning with a letter or digit
    "#);
}

#[test]
fn what_cannot_be_shared() {
    insta::assert_snapshot!(said("[shared]\nfiles = [\"../x\", \"media/a\", \".env\"]\ndirs = [\"media\", \".env\", \"{{ x }}\"]\n"), @r#"
    error: "../x" cannot be shared
     --> recipes/django.toml:2:10
      |
    2 | files = ["../x", "media/a", ".env"]
      |          ^^^^^^ expected a path without `..`

    error: `media` and `media/a` are both shared, and one contains the other
     --> recipes/django.toml:3:9
      |
    3 | dirs = ["media", ".env", "{{ x }}"]
      |         ^^^^^^^

    error: `.env` is shared twice
     --> recipes/django.toml:3:18
      |
    3 | dirs = ["media", ".env", "{{ x }}"]
      |                  ^^^^^^
    "#);
}

#[test]
fn an_unknown_key_and_an_option_that_is_a_variable() {
    insta::assert_snapshot!(said("descripton = \"x\"\ncaches = [\"/tmp\"]\n[options]\na = { type = \"bool\" }\n[vars]\na = 1\n"), @r#"
    error: the recipe has no key `descripton`
     --> recipes/django.toml:1:1
      |
    1 | descripton = "x"
      | ^^^^^^^^^^ unknown key
      |
      = help: did you mean `description`?

    error: "/tmp" is no folder of the checkout
     --> recipes/django.toml:2:11
      |
    2 | caches = ["/tmp"]
      |           ^^^^^^ expected a relative path

    error: `a` is an option and a variable
     --> recipes/django.toml:4:1
      |
    4 | a = { type = "bool" }
      | ^ expected a name of its own
    "#);
}
