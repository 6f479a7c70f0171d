//! Inventory, recipe, options, secrets and templates: files become checked values that know their place.
//!
//! The way through this room: [`inventory::Inventory::read`] → [`selection::select`] (which hosts) and
//! [`recipe_files::find`] (which recipe) → [`scope::Scope`] for each host (templates become text) →
//! [`diagnostic::render`] for whatever is wrong. Every problem of every file is collected before anything
//! is said. Deliberately absent: what a step does (`step`), what will happen (`plan`), the environment
//! and the clock, which come in as values.

pub mod batch;
pub mod diagnostic;
pub mod inventory;
pub mod located;
pub mod options;
pub mod recipe;
pub mod recipe_files;
pub mod scope;
pub mod secrets;
pub mod selection;
