//! The files of recipes: the project's own folder `recipes/`, and the one in the binary.
//!
//! A recipe is `recipes/NAME.toml`, its templates stand in `recipes/NAME/`. File by file, what the project
//! has wins over what the binary has.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::embedded::FILES;
use crate::config::located::Located;
use crate::config::names::inside;
use crate::config::recipe::Recipe;
use crate::document::{Place, Problem, Problems, Source, suggestion};

/// The recipe `name`: `recipes/NAME.toml` in `folder` (the project), or the one in the binary.
pub fn find(folder: &Path, name: &Located<String>) -> Result<Recipe, Problems> {
    let below = format!("recipes/{}.toml", name.value);
    let path = folder.join(&below);
    match read(&path) {
        Ok(Some(text)) => Recipe::read(&name.value, &shown(&name.place, &below), text),
        Ok(None) => match embedded().into_iter().find(|recipe| recipe.name == name.value) {
            Some(recipe) => Recipe::read_embedded(recipe.name, recipe.text),
            None => {
                let existing = existing(folder);
                Err(vec![
                    Problem::at(&name.place, format!("there is no recipe `{}`", name.value))
                        .label(format!("expected a recipe in the binary, or {below} beside the inventory"))
                        .help(suggestion(&name.value, existing.iter().map(String::as_str))),
                ])
            }
        },
        Err(why) => Err(vec![Problem::at(&name.place, format!("{below} cannot be read: {why}"))]),
    }
}

/// The template `file` of `recipe`, named at `place`: `recipes/RECIPE/FILE` or `FILE` in `folder` (the
/// project), or the one in the binary.
pub fn template(folder: &Path, recipe: &str, file: &str, place: &Place) -> Result<Arc<Source>, Problem> {
    if let Err(expected) = inside(file) {
        return Err(Problem::at(place, format!("{file:?} is no template of the recipe")).label(expected));
    }
    let below = format!("recipes/{recipe}/{file}");
    for path in [below.as_str(), file] {
        match read(&folder.join(path)) {
            Ok(Some(text)) => return Ok(Arc::new(Source { path: PathBuf::from(path), text })),
            Ok(None) => {}
            Err(why) => return Err(Problem::at(place, format!("{path} cannot be read: {why}"))),
        }
    }
    if let Some((_, text)) = FILES.iter().find(|(path, _)| *path == format!("{recipe}/{file}")) {
        return Ok(Arc::new(Source { path: PathBuf::from(format!("ship:{below}")), text: (*text).to_owned() }));
    }
    let mut existing = names_in(&folder.join("recipes").join(recipe));
    existing.extend(
        files(recipe)
            .into_iter()
            .filter_map(|(path, _)| path.strip_prefix(recipe)?.strip_prefix('/').map(str::to_owned)),
    );
    existing.sort();
    existing.dedup();
    Err(Problem::at(place, format!("the recipe `{recipe}` has no template {file:?}"))
        .label(format!("expected {below} or {file} beside the inventory"))
        .help(suggestion(file, existing.iter().map(String::as_str))))
}

/// A recipe in the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddedRecipe {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// The recipes in the binary, by name, for `ship recipes`.
pub fn embedded() -> Vec<EmbeddedRecipe> {
    let recipe = |(path, text): &(&'static str, &'static str)| {
        let name = path.strip_suffix(".toml").filter(|name| !name.contains('/'))?;
        Some(EmbeddedRecipe { name, text })
    };
    FILES.iter().filter_map(recipe).collect()
}

/// All files of the embedded recipe `name` as (path below `recipes/`, text), for `ship recipes eject`.
pub fn files(name: &str) -> Vec<(&'static str, &'static str)> {
    let of_recipe = |path: &str| path.strip_prefix(name).is_some_and(|rest| rest == ".toml" || rest.starts_with('/'));
    FILES.iter().filter(|(path, _)| of_recipe(path)).copied().collect()
}

/// The names of all recipes that an inventory in `folder` can use.
fn existing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = embedded().into_iter().map(|recipe| recipe.name.to_owned()).collect();
    let own = names_in(&folder.join("recipes"));
    names.extend(own.iter().filter_map(|name| name.strip_suffix(".toml")).map(str::to_owned));
    names.sort();
    names.dedup();
    names
}

/// For suggestions only, so a folder that cannot be read is as good as an empty one.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The text of `path`; `None` where there is no such file.
fn read(path: &Path) -> Result<Option<String>, String> {
    match std::fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| "it is not UTF-8 text".to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// A path beside the file of `place`, as the user would type it.
fn shown(place: &Place, below: &str) -> PathBuf {
    place.source.path.parent().map_or_else(|| PathBuf::from(below), |folder| folder.join(below))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic;

    fn named(text: &str) -> Located<String> {
        let source = Source { path: PathBuf::from("inventory.toml"), text: format!("recipe = \"{text}\"\n") };
        let place = Place { span: 9..11 + text.len(), source: Arc::new(source) };
        Located { value: text.to_owned(), place }
    }

    #[test]
    fn a_recipe_of_the_project_is_found_with_its_templates() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("recipes/site")).expect("folders");
        std::fs::write(folder.path().join("recipes/site.toml"), "description = \"x\"\n").expect("a file");
        std::fs::write(folder.path().join("recipes/site/env.j2"), "A={{ app }}\n").expect("a file");
        let recipe = find(folder.path(), &named("site")).expect("a recipe");
        assert_eq!((recipe.name.as_str(), recipe.description.as_str()), ("site", "x"));
        let template = |file: &str| template(folder.path(), "site", file, &named("site").place);
        assert_eq!(template("env.j2").expect("a template").text, "A={{ app }}\n");
        let problems = [
            find(folder.path(), &named("stie")).expect_err("a problem").remove(0),
            template("evn.j2").expect_err("a problem"),
            template("../../etc/passwd").expect_err("a problem"),
        ];
        insta::assert_snapshot!(diagnostic::render(&problems, false), @r#"
        error: there is no recipe `stie`
         --> inventory.toml:1:10
          |
        1 | recipe = "stie"
          |          ^^^^^^ expected a recipe in the binary, or recipes/stie.toml beside the inventory
          |
          = help: did you mean `site`?

        error: the recipe `site` has no template "evn.j2"
         --> inventory.toml:1:10
          |
        1 | recipe = "site"
          |          ^^^^^^ expected recipes/site/evn.j2 or evn.j2 beside the inventory
          |
          = help: did you mean `env.j2`?

        error: "../../etc/passwd" is no template of the recipe
         --> inventory.toml:1:10
          |
        1 | recipe = "site"
          |          ^^^^^^ expected a path without `..`
        "#);
    }
}
