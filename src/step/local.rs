//! `local`: a command on this machine, in the clean checkout of the revision.

use crate::document::{Node, Problem, Problems, Value};

/// One line for the documentation.
pub const SUMMARY: &str = "runs a shell command on this machine, in the clean checkout of the revision";
/// An example in TOML.
pub const EXAMPLE: &str = r#"local = "npm ci && npm run build""#;

/// A rendered `local` step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Shell text.
    pub command: String,
}

impl Local {
    /// Reads the body: a string.
    pub fn read(body: &Node, problems: &mut Problems) -> Option<Self> {
        command_text("local", body, problems).map(|command| Self { command })
    }
}

/// A body that is one non-empty string of shell text.
pub(super) fn command_text(kind: &str, body: &Node, problems: &mut Problems) -> Option<String> {
    match &body.value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        other => {
            problems.push(Problem {
                place: Some(body.place.clone()),
                message: match other {
                    Value::String(_) => format!("`{kind}` is empty"),
                    other => format!("`{kind}` is {}", other.kind()),
                },
                label: Some("expected a command as a string".to_owned()),
                help: None,
            });
            None
        }
    }
}
