//! Where secrets come from.
//!
//! Deliberately absent: reading the environment or running commands; the caller gives [`Sources`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::document::{Place, Problems};
use crate::secret::Secret;

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable of ship.
    Env(String),
    /// A file; relative paths are already joined to the project's folder.
    File(PathBuf),
    /// What a command prints, run in the project's folder.
    Command(String),
    /// An age-encrypted file; relative paths are already joined to the project's folder.
    Age(PathBuf),
}

/// A secret of the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretSpec {
    /// Its name in templates: `secrets.NAME`.
    pub name: String,
    /// Where it comes from.
    pub source: SecretSource,
    /// Where it stands in the inventory.
    pub place: Place,
}

/// What can be asked for secrets. An error is a sentence without its full stop.
pub trait Sources {
    /// The value of an environment variable.
    fn environment(&self, name: &str) -> Option<String>;
    /// The text of a file.
    fn file(&self, path: &Path) -> Result<String, String>;
    /// What a command prints.
    fn command(&self, command: &str) -> Result<String, String>;
    /// The text of an age-encrypted file.
    fn age(&self, path: &Path) -> Result<String, String>;
}

/// Reads those of `secrets` that are `used`, which is all of them where it is `None`.
pub fn resolve(
    _secrets: &[SecretSpec],
    _used: Option<&BTreeSet<String>>,
    _sources: &dyn Sources,
) -> Result<BTreeMap<String, Secret>, Problems> {
    Err(Problems::new())
}
