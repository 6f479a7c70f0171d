//! What templates can say, and what of secrets they must not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::diagnostic;
use super::inventory_tests;
use super::options;
use super::recipe::Recipe;
use super::recipe_tests;
use super::scope::{Ingredients, KnownSecrets, Mode, RunFacts, Scope};
use super::selection::{Choice, Selection, select};
use crate::command::EnvValue;
use crate::document::{Node, Place, Problems, Source, Value};
use crate::secret::Secret;

mod errors;

fn selection() -> Selection {
    let inventory = inventory_tests::read(inventory_tests::GOOD).expect("an inventory");
    select(&inventory, &Choice::default(), &|_| Err(String::new())).expect("hosts")
}

fn names() -> KnownSecrets {
    KnownSecrets::Names(BTreeSet::from(["db_password".to_owned()]))
}

fn values() -> KnownSecrets {
    KnownSecrets::Values(BTreeMap::from([("db_password".to_owned(), Secret::new("it's hunter22".to_owned()))]))
}

struct Setting {
    recipe: Recipe,
    set: Vec<(String, String)>,
    given: Vec<(String, Option<String>)>,
    secrets: KnownSecrets,
    run: RunFacts,
    local: bool,
}

impl Setting {
    fn new(recipe: &str) -> Self {
        let recipe = recipe_tests::read(recipe).unwrap_or_else(|said| panic!("{said}"));
        let run = RunFacts {
            app: "tsosi".to_owned(),
            environment: Some("prod".to_owned()),
            deploy_to: Some("/var/www/tsosi".to_owned()),
            release: Some("20261121T101500Z-1a2b3c4".to_owned()),
            revision: Some("1a2b3c4d".to_owned()),
            branch: Some("main".to_owned()),
            author: Some("Ann".to_owned()),
            title: Some("Mend it".to_owned()),
            time: Some("2026-11-21T10:15:00Z".to_owned()),
            by: Some("ann@desk".to_owned()),
            checking: false,
            setup: false,
        };
        Self { recipe, set: Vec::new(), given: Vec::new(), secrets: values(), run, local: false }
    }

    fn checking(mut self) -> Self {
        self.run = RunFacts {
            release: None,
            revision: None,
            branch: None,
            author: None,
            title: None,
            time: None,
            by: None,
            checking: true,
            ..self.run
        };
        self.secrets = names();
        self
    }

    fn scope(&self) -> Result<Scope, Problems> {
        let selection = selection();
        Scope::new(Ingredients {
            recipe: &self.recipe.vars,
            vars: &selection.vars,
            host: if self.local { None } else { selection.hosts.first() },
            hosts: &selection.hosts,
            set: &self.set,
            options: &options::values(&self.recipe.options, &self.given)?,
            option_names: &self.recipe.option_names(),
            run: &self.run,
            secrets: &self.secrets,
        })
    }

    /// Every step as it comes out, or every problem.
    fn steps(&self) -> String {
        let scope = match self.scope() {
            Ok(scope) => scope,
            Err(problems) => return diagnostic::render(&problems, false),
        };
        let mut shown = Vec::new();
        let mut problems = scope.problems();
        for step in self.recipe.steps.iter().filter(|step| self.local == (step.kind == crate::step::Kind::Local)) {
            match scope.step(step) {
                Ok(step) if !step.wanted => shown.push("-".to_owned()),
                Ok(step) => shown.push(format!("{:?} {} {:?} {:?}", step.name, tree(&step.body), step.cwd, step.env)),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() { shown.join("\n") } else { diagnostic::render(&problems, false) }
    }
}

fn tree(node: &Node) -> String {
    match &node.value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(tree).collect::<Vec<_>>().join(", ")),
        Value::Table(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|entry| format!("{}={}", entry.key, tree(&entry.node))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        other => format!("{other:?}"),
    }
}

fn node(text: &str) -> Node {
    let source = Arc::new(Source { path: Path::new("x.toml").to_owned(), text: format!("'''{text}'''") });
    Node { place: Place { span: 0..source.text.len(), source }, value: Value::String(text.to_owned()) }
}

/// `text` rendered with the variables of web1, or what is wrong with it.
fn rendered(text: &str, mode: Mode) -> String {
    let scope = Setting::new(recipe_tests::GOOD).scope().unwrap_or_else(|found| panic!("{found:?}"));
    match scope.node(&node(text), mode) {
        Ok(node) => tree(&node),
        Err(problems) => diagnostic::render(&problems, false),
    }
}

/// The steps of a recipe with `text` in a `run` step.
fn run(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    Setting::new(&format!("[vars]\nlist = [\"a b\", 1]\nword = \"it's\"\n[[prepare]]\nrun = \"{text}\"\n"))
        .checking()
        .steps()
}

#[test]
fn a_recipe_is_rendered() {
    insta::assert_snapshot!(Setting::new(recipe_tests::GOOD).steps(), @r#"
    None [{from=backend, to=backend}, {from=frontend/dist, to=public}] None []
    None {template=env.j2, to=.env, mode=0600} None []
    Some("Migrate tsosi") /var/www/tsosi/shared/venv/bin/python manage.py migrate --noinput Some("backend") [("DJANGO_SETTINGS_MODULE", Plain("backend.settings")), ("DB_PASSWORD", Secret([secret]))]
    None {} None []
    None {restart=[tsosi_gunicorn]} None []
    -
    "#);
    let mut local = Setting::new(recipe_tests::GOOD);
    local.local = true;
    assert_eq!(local.steps(), "Some(\"Build the front end\") npm ci && npm run build Some(\"frontend\") []");
    local.given = vec![("skip-front-build".to_owned(), None)];
    assert_eq!(local.steps(), "-");
}

#[test]
fn a_recipe_is_checked_before_a_release_is_chosen() {
    insta::assert_snapshot!(Setting::new(recipe_tests::GOOD).checking().steps(), @r#"
    None [{from=backend, to=backend}, {from=frontend/dist, to=public}] None []
    None {template=env.j2, to=.env, mode=0600} None []
    Some("Migrate tsosi") /var/www/tsosi/shared/venv/bin/python manage.py migrate --noinput Some("backend") [("DJANGO_SETTINGS_MODULE", Plain("backend.settings")), ("DB_PASSWORD", Secret([secret]))]
    None {} None []
    None {restart=[tsosi_gunicorn]} None []
    -
    "#);
}

#[test]
fn shell_text_gets_each_value_as_one_word() {
    assert_eq!(
        run("echo {{ word }} {{ list|words }} {{ list|tojson }} {{ word|safe }} {{ 'x' ~ word }}"),
        "None echo 'it'\\''s' 'a b' 1 '[\"a b\",1]' it's 'xit'\\''s' None []"
    );
    assert_eq!(
        run("{% for x in list %}{{ x }};{% endfor %}{{ true }} {% if word %}yes{% endif %}"),
        "None 'a b';1;true yes None []"
    );
    assert_eq!(run("{% set x %}a {{ word }}{% endset %}{{ x }}"), "None a 'it'\\''s' None []");
}

#[test]
fn settings_are_written_as_they_are_meant() {
    assert_eq!(
        rendered("{{ true }} {{ 1 }} {{ 1.5 }} {{ settings }} <&> {{ roles|join(',') }}\n", Mode::Plain),
        "true 1 1.5 backend.settings <&> web,worker\n"
    );
    assert_eq!(
        rendered("{{ hosts[0].name }} {{ hosts[1]|tojson }}", Mode::Plain),
        r#"web1 {"name":"web2","address":"web2","roles":["web"],"groups":["front"]}"#
    );
    assert_eq!(
        rendered(
            "{{ hosts|map(attribute='name')|join(' ') }} {{ host }} {{ release_path }} {{ current_path }}",
            Mode::Plain
        ),
        "web1 web2 web1 /var/www/tsosi/releases/20261121T101500Z-1a2b3c4 /var/www/tsosi/current"
    );
    assert_eq!(
        rendered("{{ {'a': [1, '<x>']}|tojson }} {{ nothing|default('none') }}", Mode::Plain),
        r#"{"a":[1,"<x>"]} none"#
    );
    assert_eq!(rendered("echo ${#list}", Mode::Shell), "echo ${#list}");
}

#[test]
fn variables_are_resolved_through_each_other_and_the_strongest_wins() {
    assert_eq!(rendered("{{ venv }} {{ workers }} {{ tier }}", Mode::Plain), "/var/www/tsosi/shared/venv 5 front");
    let mut setting = Setting::new(recipe_tests::GOOD);
    setting.set = vec![("workers".to_owned(), "8".to_owned()), ("debug".to_owned(), "false".to_owned())];
    let scope = setting.scope().expect("a scope");
    assert_eq!(scope.text(&node("{{ workers + 1 }} {{ 'on' if debug else 'off' }}")).expect("text"), "9 off");
}

#[test]
fn lists_tables_and_absent_values_are_no_text() {
    insta::assert_snapshot!(rendered("{{ roles }}", Mode::Plain), @"
    error: `roles` cannot be used like this
     --> x.toml:1:7
      |
    1 | '''{{ roles }}'''
      |       ^^^^^ it is a list; say how to write it: `|join(', ')` or `|tojson`
    ");
    insta::assert_snapshot!(rendered("a {{ options }}", Mode::Plain), @"
    error: `options` cannot be used like this
     --> x.toml:1:9
      |
    1 | '''a {{ options }}'''
      |         ^^^^^^^ it is a table; name one of its keys, or say `|tojson`
    ");
    insta::assert_snapshot!(rendered("a {{ options.ref }} b", Mode::Shell), @"
    error: `options.ref` has no value in this run
     --> x.toml:1:9
      |
    1 | '''a {{ options.ref }} b'''
      |         ^^^^^^^^^^^ expected a value
      |
      = help: write `|default('…')` where it may be left out, or keep the step from happening with `when`
    ");
}

#[test]
fn conditions() {
    let text = |condition: &str| {
        Setting::new(&format!(
            "[options]\nquick = {{ type = \"bool\" }}\nref = {{ type = \"string\" }}\n[[prepare]]\nrun = \"x\"\nwhen = \"{condition}\"\n"
        ))
    };
    for yes in [
        "not quick",
        "not options.quick",
        "environment == 'prod'",
        "'web' in roles",
        "ref is none",
        "branch == 'main'",
        "workers > 4",
    ] {
        assert_eq!(text(yes).steps(), "None x None []", "{yes}");
    }
    for no in ["quick", "options.ref", "branch == 'other'", "false"] {
        assert_eq!(text(no).steps(), "-", "{no}");
    }
    assert_eq!(text("branch == 'other'").checking().steps(), "None x None []", "a branch that is not known yet");
    insta::assert_snapshot!(text("qiuck and not options.rfe").steps(), @r#"
    error: `qiuck` is not defined
     --> recipes/django.toml:6:9
      |
    6 | when = "qiuck and not options.rfe"
      |         ^^^^^ no such variable
      |
      = help: did you mean `quick`?

    error: `options.rfe` is not defined
     --> recipes/django.toml:6:23
      |
    6 | when = "qiuck and not options.rfe"
      |                       ^^^^^^^^^^^ no such variable
      |
      = help: did you mean `ref`?
    "#);
    insta::assert_snapshot!(text("quick and").steps(), @r#"
    error: the template cannot be read
     --> recipes/django.toml:6:15
      |
    6 | when = "quick and"
      |               ^^^ unexpected end of input, expected expression
    "#);
    insta::assert_snapshot!(text("roles.x").steps(), @r#"
    error: this expression has no value
     --> recipes/django.toml:6:8
      |
    6 | when = "roles.x"
      |        ^^^^^^^^^ expected true or false
    "#);
}

#[test]
fn secrets_stay_out_of_commands() {
    insta::assert_snapshot!(run("mysql -p{{ secrets.db_password }}"), @r#"
    error: the secret `db_password` would show here, in process lists and logs
     --> recipes/django.toml:5:19
      |
    5 | run = "mysql -p{{ secrets.db_password }}"
      |                   ^^^^^^^^^^^^^^^^^^^ a secret may stand only in a settings file and in `env`
      |
      = help: write `env = { DB_PASSWORD = "{{ secrets.db_password }}" }`, and "$DB_PASSWORD" in the command
    "#);
    let through_a_variable = "[vars]\nurl = \"pg://{{ secrets.db_password }}\"\n[[prepare]]\nrun = \"x {{ url }}\"\n";
    insta::assert_snapshot!(Setting::new(through_a_variable).steps(), @r#"
    error: the secret `db_password` would show here, in process lists and logs
     --> recipes/django.toml:4:7
      |
    4 | run = "x {{ url }}"
      |       ^^^^^^^^^^^^^ a secret may stand only in a settings file and in `env`
      |
      = help: write `env = { DB_PASSWORD = "{{ secrets.db_password }}" }`, and "$DB_PASSWORD" in the command
    "#);
}

#[test]
fn secrets_are_noted_and_masked() {
    let setting = Setting::new("[vars]\nurl = \"pg://{{ secrets.db_password }}\"\n");
    let scope = setting.scope().expect("a scope");
    assert!(scope.used_secrets().is_empty());
    let value = scope.env_value(&node("{{ url }}/x")).expect("a value");
    assert_eq!(format!("{value:?}"), "Secret([secret])");
    assert_eq!(value, EnvValue::Secret(Secret::new("pg://it's hunter22/x".to_owned())));
    assert_eq!(scope.used_secrets(), BTreeSet::from(["db_password".to_owned()]));
    let source = Arc::new(Source { path: "env.j2".into(), text: "PASSWORD={{ secrets['db_password'] }}\n".to_owned() });
    let file = scope.file(&source).expect("a file");
    assert_eq!((file.text.as_str(), file.secrets.len()), ("PASSWORD=it's hunter22\n", 1));
    assert!(!format!("{file:?}").contains("hunter"));
    for text in ["{{ secrets.db_password|int }}", "{{ secrets }}", "{{ secrets.db_password + 1 }}", "{{ debug() }}"] {
        let source = Arc::new(Source { path: "env.j2".into(), text: text.to_owned() });
        let problems = scope.file(&source).expect_err("a problem");
        assert!(!diagnostic::render(&problems, false).contains("hunter"), "{text}");
    }
    assert_eq!(scope.text(&node("{{ secrets|tojson }} {{ secrets|length }}")).expect("text"), "{} 0");
}

#[test]
fn what_set_cannot_set() {
    let mut setting = Setting::new(recipe_tests::GOOD);
    setting.set = ["wokers", "release", "ref", "a-b"].map(|name| (name.to_owned(), String::new())).to_vec();
    insta::assert_snapshot!(setting.steps(), @"
    error: there is no variable `wokers`
     |
     = help: did you mean `workers`?

    error: `--set release=…` sets no variable
     |
     = note: ship sets this variable itself

    error: `--set ref=…` sets no variable
     |
     = note: `ref` is an option of the recipe: say `--ref`

    error: `--set a-b=…` sets no variable
     |
     = note: expected letters, digits and `_`, beginning with a letter
    ");
}
