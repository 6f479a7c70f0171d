//! Commands whose result is a text of the binary itself: recipes, schema, completions, man.

use clap::CommandFactory;

use super::args::{Cli, CompletionsArgs, Global, RecipesAction, RecipesArgs, SchemaArgs, SchemaFile};
use super::machine::Machine;
use super::project::inventory_path;
use crate::config::{recipe_files, schema};
use crate::document::suggestion;
use crate::error::{Error, Kind};
use crate::report;

fn print(text: &str) -> Result<(), Error> {
    report::print_stdout(text).map_err(|error| Error::new(Kind::Failed, format!("standard output: {error}")))
}

/// `ship recipes`.
pub fn recipes(global: &Global, machine: &Machine, args: &RecipesArgs) -> Result<(), Error> {
    let all = recipe_files::embedded();
    let find = |name: &str| {
        all.iter().find(|recipe| recipe.name == name).ok_or_else(|| {
            let mut error = Error::usage(format!("there is no recipe `{name}` in the binary"));
            error.hints.extend(suggestion(name, all.iter().map(|recipe| recipe.name)));
            error
        })
    };
    match &args.action {
        None => {
            let width = all.iter().map(|recipe| recipe.name.len()).max().unwrap_or(0);
            let mut text = String::new();
            for recipe in &all {
                let description = recipe
                    .text
                    .lines()
                    .find_map(|line| line.strip_prefix("description = "))
                    .map(|quoted| quoted.trim_matches('"'))
                    .unwrap_or_default();
                text.push_str(&format!("{:width$}  {description}\n", recipe.name));
            }
            print(&text)
        }
        Some(RecipesAction::Show { name }) => print(find(name)?.text),
        Some(RecipesAction::Eject { name }) => {
            find(name)?;
            let inventory = inventory_path(global, machine).ok();
            let folder = inventory.as_deref().and_then(std::path::Path::parent).unwrap_or(&machine.directory);
            let mut text = String::new();
            let files = recipe_files::files(name);
            for (path, _) in &files {
                let to = folder.join("recipes").join(path);
                if to.exists() {
                    return Err(Error::usage(format!("{} is there already, and is left as it is", to.display())));
                }
            }
            for (path, contents) in files {
                let to = folder.join("recipes").join(path);
                let parent = to.parent().unwrap_or(folder);
                std::fs::create_dir_all(parent)
                    .and_then(|()| std::fs::write(&to, contents))
                    .map_err(|error| Error::new(Kind::Failed, format!("{}: {error}", to.display())))?;
                text.push_str(&format!("wrote {}\n", to.display()));
            }
            print(&text)
        }
    }
}

/// `ship schema`.
pub fn print_schema(args: &SchemaArgs) -> Result<(), Error> {
    let schema = match args.file {
        SchemaFile::Inventory => schema::inventory(),
        SchemaFile::Recipe => schema::recipe(),
    };
    let text = serde_json::to_string_pretty(&schema).map_err(|error| Error::new(Kind::Failed, error.to_string()))?;
    print(&format!("{text}\n"))
}

/// `ship completions`.
pub fn completions(args: &CompletionsArgs) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ship", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// `ship man`.
pub fn man() -> Result<(), Error> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .map_err(|error| Error::new(Kind::Failed, format!("the manual page cannot be made: {error}")))?;
    print(&String::from_utf8_lossy(&page))
}
