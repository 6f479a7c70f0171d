//! Inventory, recipe, options, secrets and templates: files become checked values that know their place.
//!
//! The way through this room: [`inventory::Inventory::read`] → [`selection::select`] (which hosts), [`placement::placed`]
//! (where on them) and [`recipe_files::find`] (which recipe) → [`scope::Scope`] for each host (templates become text) →
//! [`diagnostic::render`] for whatever is wrong. Every problem of every file is collected before anything
//! is said. Deliberately absent: what a step does (`step`), what will happen (`plan`), the environment
//! and the clock, which come in as values.

pub mod batch;
pub mod candidates;
pub mod cycles;
pub mod diagnostic;
pub mod dynamic;
pub mod embedded;
pub mod inventory;
pub mod inventory_checks;
pub mod inventory_file;
pub mod keys;
pub mod located;
pub mod names;
pub mod options;
pub mod pattern;
pub mod placeholders;
pub mod placement;
pub mod recipe;
pub mod recipe_file;
pub mod recipe_files;
pub mod reference;
pub mod renderer;
pub mod schema;
pub mod scope;
pub mod secret_values;
pub mod secrets;
pub mod selection;
pub mod shell_text;
pub mod step_file;
pub mod template;
pub mod template_problem;
pub mod variables;

#[cfg(test)]
mod example_tests;
#[cfg(test)]
mod inventory_tests;
#[cfg(test)]
mod recipe_tests;
#[cfg(test)]
mod robustness_tests;
#[cfg(test)]
mod scope_tests;
#[cfg(test)]
mod selection_tests;
