//! The files of recipes: the project's own folder `recipes/`, and the one in the binary.

use std::path::Path;
use std::sync::Arc;

use crate::config::located::Located;
use crate::config::recipe::Recipe;
use crate::document::{Place, Problem, Problems, Source};

/// The recipe `name`: `recipes/NAME.toml` in `folder` (the project), or the one in the binary.
pub fn find(_folder: &Path, _name: &Located<String>) -> Result<Recipe, Problems> {
    Err(Problems::new())
}

/// The template `file` of `recipe`, named at `place`: `recipes/RECIPE/FILE` in `folder` (the project), or
/// the one in the binary.
pub fn template(_folder: &Path, _recipe: &str, file: &str, place: &Place) -> Result<Arc<Source>, Problem> {
    Err(Problem { place: Some(place.clone()), message: file.to_owned(), label: None, help: None })
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
    Vec::new()
}

/// All files of the embedded recipe `name` as (path below `recipes/`, text), for `ship recipes eject`.
pub fn files(_name: &str) -> Vec<(&'static str, &'static str)> {
    Vec::new()
}
