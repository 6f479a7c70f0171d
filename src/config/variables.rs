//! Which variables there are: recipe < inventory < group < environment < host < `--set`, then options, then
//! what ship itself says about the run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minijinja::value::Value;

use crate::config::names::{RUN_VARIABLES, variable};
use crate::config::options::OptionValue;
use crate::config::renderer::Variable;
use crate::config::scope::Ingredients;
use crate::config::template::is_template;
use crate::document::{Problem, Problems, nearest};
use crate::layout::Layout;

/// What follows from `deploy_to`.
const FOLLOWS: &[&str] = &["deploy_to", "release_path", "current_path", "shared_path"];

/// Variables by name, and what is wrong with `--set`.
pub struct Variables {
    /// The variables.
    pub known: BTreeMap<String, Variable>,
    /// Those that have a stand-in for a value that nobody knows yet.
    pub stand_ins: BTreeSet<&'static str>,
    /// What is wrong with `--set`.
    pub problems: Problems,
}

/// The variables of a host, or of this machine.
pub fn of(ingredients: &Ingredients<'_>) -> Variables {
    let mut known = BTreeMap::new();
    let own = ingredients.host.map_or(ingredients.vars, |host| &host.vars);
    for (name, node) in ingredients.recipe.iter().chain(own) {
        known.insert(name.clone(), Variable::Node(node.clone()));
    }
    let mut problems = Problems::new();
    for (name, text) in ingredients.set {
        match check_set(name, &known, ingredients.option_names) {
            Ok(()) => {
                known.insert(name.clone(), Variable::Value(from_text(text)));
            }
            Err(problem) => problems.push(problem),
        }
    }
    let options: BTreeMap<String, Value> = ingredients
        .option_names
        .iter()
        .map(|name| (name.clone(), ingredients.options.get(name).map_or(Value::from(()), option)))
        .collect();
    for (name, value) in &options {
        known.insert(name.clone(), Variable::Value(value.clone()));
    }
    known.insert("options".to_owned(), Variable::Value(Value::from(options)));
    let stand_ins = of_run(ingredients, &mut known);
    if ingredients.host.is_some_and(|host| is_template(&host.deploy_to)) {
        known.retain(|name, variable| {
            let unknown = matches!(variable, Variable::Value(value) if value.is_none());
            let of_options = name == "options" || ingredients.option_names.contains(name);
            !unknown && !of_options && !FOLLOWS.contains(&name.as_str())
        });
    }
    Variables { known, stand_ins, problems }
}

/// Why a name that hosts have does not exist on this machine.
pub fn absent_here(name: &str) -> Option<&'static str> {
    RUN_VARIABLES.contains(&name).then_some("a step of `build` is done once, on this machine, and belongs to no host")
}

/// Why a name that deploys have does not exist in `setup`.
pub fn absent_in_setup(name: &str) -> Option<&'static str> {
    ["release", "release_path", "revision", "branch", "author", "title", "time", "by"]
        .contains(&name)
        .then_some("`setup` belongs to no release")
}

/// Why a name does not exist while `deploy_to` is a template that is to become a path.
pub fn absent_before_placement(name: &str) -> Option<&'static str> {
    match name {
        name if FOLLOWS.contains(&name) => Some("it follows from `deploy_to`"),
        "release" | "revision" | "branch" | "author" | "title" | "time" | "by" | "options" => {
            Some("where releases live is the same for every run")
        }
        "environment" => Some("the inventory has no environments"),
        "deploy_user" => Some("say in the inventory which `user` the host has"),
        _ => None,
    }
}

/// What ship itself says. Returns the names of stand-ins.
fn of_run(ingredients: &Ingredients<'_>, known: &mut BTreeMap<String, Variable>) -> BTreeSet<&'static str> {
    let run = ingredients.run;
    let mut stand_ins = BTreeSet::new();
    let mut or_stand_in = |name: &'static str, value: &Option<String>, stand_in: &str| match value {
        None if run.checking => {
            stand_ins.insert(name);
            Some(stand_in.to_owned())
        }
        value => value.clone(),
    };
    let release = or_stand_in("release", &run.release, "20000101T000000Z-0000000");
    let revision = or_stand_in("revision", &run.revision, &"0".repeat(40));
    let branch = or_stand_in("branch", &run.branch, "branch");
    let author = or_stand_in("author", &run.author, "somebody");
    let title = or_stand_in("title", &run.title, "title");
    let time = or_stand_in("time", &run.time, "2000-01-01T00:00:00Z");
    let by = or_stand_in("by", &run.by, "somebody");
    let mut text = |name: &str, value: Option<&str>| {
        known.insert(name.to_owned(), Variable::Value(value.map_or(Value::from(()), Value::from)));
    };
    if !run.setup {
        text("release", release.as_deref());
        text("revision", revision.as_deref());
        text("branch", branch.as_deref());
        text("author", author.as_deref());
        text("title", title.as_deref());
        text("time", time.as_deref());
        text("by", by.as_deref());
    }
    text("app", Some(&run.app));
    text("environment", run.environment.as_deref());
    let Some(host) = ingredients.host else {
        if let Some(deploy_to) = &run.deploy_to {
            text("deploy_to", Some(deploy_to));
        }
        let peers = ingredients.hosts.first().map(|host| Arc::clone(&host.peers)).unwrap_or_default();
        known.insert("hosts".to_owned(), Variable::Peers(peers));
        return stand_ins;
    };
    let layout = Layout::new(&host.deploy_to);
    if stand_ins.contains("release") {
        stand_ins.insert("release_path");
    }
    text("deploy_to", Some(&host.deploy_to));
    if !run.setup {
        text("release_path", release.map(|release| format!("{}/{release}", layout.releases())).as_deref());
    }
    text("current_path", Some(&layout.current()));
    text("shared_path", Some(&layout.shared()));
    text("host", Some(&host.name));
    text("address", Some(&host.target.address));
    // Where only ~/.ssh/config or the login itself knows the user, `ship setup` learns it from the host.
    let unknown_user = host.target.user.is_none();
    text("deploy_user", Some(host.target.user.as_deref().unwrap_or("deploy-user")));
    if unknown_user && run.checking {
        stand_ins.insert("deploy_user");
    } else if unknown_user {
        known.remove("deploy_user");
    }
    known.insert("roles".to_owned(), Variable::Value(Value::from(host.roles.clone())));
    known.insert("groups".to_owned(), Variable::Value(Value::from(host.groups.clone())));
    known.insert("hosts".to_owned(), Variable::Peers(Arc::clone(&host.peers)));
    stand_ins
}

fn option(value: &OptionValue) -> Value {
    match value {
        OptionValue::Bool(value) => Value::from(*value),
        OptionValue::String(value) => Value::from(value.as_str()),
        OptionValue::Integer(value) => Value::from(*value),
    }
}

/// The value of `--set`. Text that is written exactly as TOML writes a boolean or a number is one, so that
/// `--set debug=false` is not true.
fn from_text(text: &str) -> Value {
    match text {
        "true" => Value::from(true),
        "false" => Value::from(false),
        _ => match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => Value::from(number),
            _ => Value::from(text),
        },
    }
}

fn check_set(name: &str, variables: &BTreeMap<String, Variable>, options: &[String]) -> Result<(), Problem> {
    let wrong = |label: String| Problem::without_place(format!("`--set {name}=…` sets no variable")).label(label);
    variable(name).map_err(wrong)?;
    if options.iter().any(|option| option == name) {
        return Err(wrong(format!("`{name}` is an option of the recipe: say `--{}`", name.replace('_', "-"))));
    }
    if !variables.contains_key(name)
        && let Some(near) = nearest(name, variables.keys().map(String::as_str))
    {
        return Err(
            Problem::without_place(format!("there is no variable `{name}`")).help(format!("did you mean `{near}`?"))
        );
    }
    Ok(())
}
