//! `sudo`: one exact command as root. Never a shell, so the sudoers rule can be as narrow as the command.

use super::{Action, Context, Task};
use crate::command::{Command, split};
use crate::document::{Node, Problem, Problems, Value};

/// One line for the documentation.
pub const SUMMARY: &str = "runs one exact command as root through `sudo -n`; never a shell";
/// An example in TOML.
pub const EXAMPLE: &str = r#"sudo = "nginx -t""#;

/// A rendered `sudo` step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sudo {
    /// The program and its arguments; never empty.
    pub argv: Vec<String>,
}

impl Sudo {
    /// Reads the body: a string that is split into words, or an array of words.
    pub fn read(body: &Node, problems: &mut Problems) -> Option<Self> {
        let mut wrong = |message: String| {
            problems.push(Problem {
                place: Some(body.place.clone()),
                message,
                label: Some("expected one command, such as \"systemctl restart app\"".to_owned()),
                help: None,
            });
            None
        };
        match &body.value {
            Value::String(text) => match split(text) {
                Ok(argv) => Some(Self { argv }),
                // A template is split after it is rendered.
                Err(_) if text.contains("{{") => Some(Self { argv: vec![text.clone()] }),
                Err(reason) => wrong(format!("`sudo` cannot be one command: {reason}")),
            },
            Value::Array(items) => {
                let words: Option<Vec<String>> = items
                    .iter()
                    .map(|item| match &item.value {
                        Value::String(word) => Some(word.clone()),
                        _ => None,
                    })
                    .collect();
                match words {
                    Some(argv) if !argv.is_empty() => Some(Self { argv }),
                    _ => wrong("`sudo` is an array that is not made of words".to_owned()),
                }
            }
            other => wrong(format!("`sudo` is {}", other.kind())),
        }
    }

    /// The program, as the recipe names it.
    pub fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    /// One command, with the program's absolute path: sudoers rules have no other form.
    pub fn tasks(&self, context: &Context<'_>) -> Result<Vec<Task>, String> {
        let mut argv = vec![context.program(self.program())?];
        argv.extend(self.argv.iter().skip(1).cloned());
        let command = context.limited(Command::argv(argv).sudo());
        Ok(vec![context.task(Action::Command(command)).meanings(&[(1, REFUSED)])])
    }
}

/// What sudo's own status 1 may mean (sudo(8), EXIT VALUE): the command's status, or a refusal.
pub const REFUSED: &str = "if sudo refused it, `ship sudoers` prints the rule to add on the host";
