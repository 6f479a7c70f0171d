//! Values read from a file, with their places.

use std::collections::BTreeMap;

pub use crate::document::Located;
use crate::document::Node;

/// Variables by name. Values keep their places; strings in them are templates.
pub type Vars = BTreeMap<String, Node>;
