//! Problems as text in the shape of rustc's.

use crate::document::Problem;

/// The problems, sorted by file and position, each with its line.
pub fn render(_problems: &[Problem], _color: bool) -> String {
    String::new()
}
