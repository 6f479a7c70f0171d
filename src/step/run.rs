//! `run`: a shell command on the host, as the login user, in the release.

use super::{Context, Task, local};
use crate::command::Command;
use crate::document::{Node, Problems};

/// One line for the documentation.
pub const SUMMARY: &str = "runs a shell command on the host as the login user, in the release's folder";
/// An example in TOML.
pub const EXAMPLE: &str = r#"run = "{{ venv }}/bin/python manage.py migrate --noinput""#;

/// A rendered `run` step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Shell text.
    pub command: String,
}

impl Run {
    /// Reads the body: a string.
    pub fn read(body: &Node, problems: &mut Problems) -> Option<Self> {
        local::command_text("run", body, problems).map(|command| Self { command })
    }

    /// One command.
    pub fn tasks(&self, context: &Context<'_>) -> Vec<Task> {
        vec![context.task(context.runs(context.bound(Command::shell(self.command.clone()))))]
    }
}
