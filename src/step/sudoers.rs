//! `sudoers`: lets the deploy user run as root exactly the commands that the recipe's other phases need.

use super::ground::{Change, Ground, Placed};
use crate::document::{Node, Problems, Reader};

/// One line for the documentation.
pub const SUMMARY: &str = "installs what `ship sudoers` prints for the deploy user, after `visudo` has checked it";
/// An example in TOML.
pub const EXAMPLE: &str = "sudoers = {}";

/// A `sudoers` step. It has no settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sudoers;

impl Sudoers {
    /// Reads the body: an empty table.
    pub fn read(body: &Node, problems: &mut Problems) -> Option<Self> {
        Reader::new("`sudoers`", body, problems)?.finish();
        Some(Self)
    }

    /// What has to change. The contents are the fragment; `path` has no dot in its name, or sudo would not read it.
    pub fn changes(self, ground: &Ground<'_>, path: &str) -> Result<Vec<Change>, String> {
        let mut placed = Placed::new(path, "root".to_owned(), "root".to_owned(), 0o440, ground.contents()?);
        placed.verify = vec!["visudo".to_owned(), "-cf".to_owned()];
        // Rules are no secret to those who run this: the diff is what they have to see.
        placed.private = false;
        Ok(ground.place(&placed)?.into_iter().collect())
    }
}
