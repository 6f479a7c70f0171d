//! Names with `*`, `?`, `[…]` and `{…}`: which hosts, roles or groups are meant.

use globset::{Glob, GlobMatcher};

/// A name, or a glob over names.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// Exactly this name.
    Name(String),
    /// All names that match.
    Glob(GlobMatcher),
}

/// Whether `text` has a character that makes it a glob. No name may contain one.
pub fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

impl Pattern {
    /// Reads `text`; the error says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        if !is_glob(text) {
            return Ok(Self::Name(text.to_owned()));
        }
        Glob::new(text).map(|glob| Self::Glob(glob.compile_matcher())).map_err(|error| error.kind().to_string())
    }

    /// Whether `name` is meant.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(wanted) => wanted == name,
            Self::Glob(glob) => glob.is_match(name),
        }
    }
}
