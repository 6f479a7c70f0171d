//! Options that a recipe declares: they become flags of `ship deploy` and variables of templates.

use std::collections::BTreeMap;

use crate::document::{Place, Problems};

/// What an option takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// A flag without a value.
    Bool,
    /// Any text.
    String,
    /// A whole number.
    Integer,
    /// One of these.
    Choice(Vec<String>),
}

/// The value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionValue {
    /// Of a flag.
    Bool(bool),
    /// Of a string or a choice.
    String(String),
    /// Of an integer.
    Integer(i64),
}

/// An option of a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionSpec {
    /// Its name in templates: `[a-z][a-z0-9_]*`.
    pub name: String,
    /// What it takes.
    pub kind: OptionKind,
    /// Its value where the command line gives none; flags have `false`.
    pub default: Option<OptionValue>,
    /// The help of its flag.
    pub help: Option<String>,
    /// Where it is declared.
    pub place: Place,
}

impl OptionSpec {
    /// The flag without its dashes: `skip-front-build`.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }
}

/// The value of every option, from what the command line gave: name (of the flag or in templates) → text,
/// `None` for a flag without a value. Options without value and default are left out.
pub fn values(
    _options: &[OptionSpec],
    _given: &[(String, Option<String>)],
) -> Result<BTreeMap<String, OptionValue>, Problems> {
    Err(Problems::new())
}
