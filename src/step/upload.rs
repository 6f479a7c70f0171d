//! `upload`: which files of the checkout become the release.

use super::link::{inside, wrong};
use crate::document::{Node, Problems, Reader, Value};

/// One line for the documentation.
pub const SUMMARY: &str = "puts files and folders of the checkout into the release; only what changed is sent";
/// An example in TOML.
pub const EXAMPLE: &str =
    r#"upload = [{ from = "backend", to = "backend" }, { from = "frontend/dist", to = "public" }]"#;

/// A folder or file of the checkout and its place in the release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Relative to the checkout; empty for all of it.
    pub from: String,
    /// Relative to the release; empty for its root.
    pub to: String,
    /// Patterns to leave out, in the manner of `.gitignore`.
    pub exclude: Vec<String>,
}

/// A rendered `upload` step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its parts.
    pub parts: Vec<Part>,
}

impl Upload {
    /// Reads the body: `"folder"`, `{ from, to, exclude }`, or an array of those.
    pub fn read(body: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.len();
        let items = match &body.value {
            Value::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(body),
        };
        let parts: Vec<Part> = items.iter().filter_map(|item| part(item, problems)).collect();
        if problems.len() > before {
            return None;
        }
        if parts.is_empty() {
            problems.push(wrong(&body.place, "`upload` has nothing to upload".to_owned()));
            return None;
        }
        Some(Self { parts })
    }
}

fn part(item: &Node, problems: &mut Problems) -> Option<Part> {
    let part = if let Value::String(from) = &item.value {
        Part { from: normal(from), to: normal(from), exclude: Vec::new() }
    } else {
        let mut reader = Reader::new("an `upload` part", item, problems)?;
        let from = reader.required_string("from").map(|from| normal(&from));
        let to = reader.string("to").map(|to| normal(&to));
        let exclude = reader.strings("exclude").unwrap_or_default();
        reader.finish();
        let from = from?;
        Part { to: to.unwrap_or_else(|| from.clone()), from, exclude }
    };
    for path in [&part.from, &part.to] {
        if !path.is_empty()
            && let Err(reason) = inside(path)
        {
            problems.push(wrong(&item.place, format!("`upload` cannot use {path:?}: {reason}")));
            return None;
        }
    }
    Some(part)
}

/// `.` and a trailing slash mean the same as nothing.
fn normal(path: &str) -> String {
    let path = path.trim_end_matches('/');
    path.strip_prefix("./").unwrap_or(if path == "." { "" } else { path }).to_owned()
}
