//! A value read from a file, with its place.

use std::collections::BTreeMap;

use crate::document::{Node, Place};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

/// Variables by name. Values keep their places; strings in them are templates.
pub type Vars = BTreeMap<String, Node>;
