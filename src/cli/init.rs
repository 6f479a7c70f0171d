//! `ship init`: writes an inventory for the project in this folder.

use std::path::Path;

use super::args::InitArgs;
use super::machine::Machine;
use crate::config::recipe_files;
use crate::error::{Error, Kind};
use crate::report;

/// Which recipe fits a project that has one of these files; the first that fits is taken.
const SIGNS: &[(&str, &str)] = &[
    ("manage.py", "django"),
    ("backend/manage.py", "django"),
    ("compose.yaml", "compose"),
    ("compose.yml", "compose"),
    ("docker-compose.yml", "compose"),
    ("docker-compose.yaml", "compose"),
    ("index.html", "static"),
    ("public/index.html", "static"),
];

/// `ship init`.
pub fn run(machine: &Machine, args: &InitArgs) -> Result<(), Error> {
    let path = machine.directory.join("inventory.toml");
    if path.exists() && !args.force {
        return Err(Error::usage(format!("{} is there already, and is left as it is", path.display()))
            .hint("--force overwrites it"));
    }
    let known: Vec<&str> = recipe_files::embedded().iter().map(|recipe| recipe.name).collect();
    let recipe = match &args.recipe {
        Some(name) if known.contains(&name.as_str()) => name.clone(),
        Some(name) => {
            return Err(
                Error::usage(format!("there is no recipe `{name}`")).hint(format!("there is {}", known.join(", ")))
            );
        }
        None => fitting(&machine.directory, &known).to_owned(),
    };
    let app: String = machine
        .directory
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' })
        .collect();
    let app = if app.is_empty() { "app".to_owned() } else { app };
    let server = args.server.as_deref().unwrap_or("deployer@server.example.org");
    let (user, address) = match server.rsplit_once('@') {
        Some((user, address)) => (Some(user), address),
        None => (None, server),
    };
    let text = inventory(&app, &recipe, user, address);
    std::fs::write(&path, text).map_err(|error| Error::new(Kind::Failed, format!("{}: {error}", path.display())))?;
    let next = format!(
        "wrote inventory.toml: recipe {recipe}, server {server}\n\nNext:\n  \
         ship check              is the server ready?\n  \
         ship plan               what would be done\n  \
         ship deploy             do it\n\
         `ship recipes show {recipe}` prints what the recipe does; `ship recipes eject {recipe}` copies it here to change it.\n"
    );
    report::print_stdout(&next).map_err(|error| Error::new(Kind::Failed, error.to_string()))
}

fn fitting<'a>(folder: &Path, known: &[&'a str]) -> &'a str {
    let fits = |name: &str| known.iter().copied().find(|known| *known == name);
    SIGNS
        .iter()
        .filter(|(file, _)| folder.join(file).exists())
        .find_map(|(_, recipe)| fits(recipe))
        .or_else(|| fits("static"))
        .or_else(|| known.first().copied())
        .unwrap_or("static")
}

fn inventory(app: &str, recipe: &str, user: Option<&str>, address: &str) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let user = user.map(|user| format!("user    = {}\n", quoted(user))).unwrap_or_default();
    format!(
        "# Who is deployed to. inventory.example.toml of ship explains every key; `ship schema inventory` is for editors.\n\
         recipe    = {recipe}\n\
         app       = {app}\n\
         deploy_to = {deploy_to}\n\
         \n\
         [hosts.web1]\n\
         address = {address}\n\
         {user}roles   = [\"web\"]\n\
         \n\
         [environments.prod]\n\
         hosts = [\"web1\"]\n",
        recipe = quoted(recipe),
        app = quoted(app),
        deploy_to = quoted(&format!("/var/www/{app}")),
        address = quoted(address),
    )
}
