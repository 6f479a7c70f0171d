//! Why a command ended without doing its work: a kind, what happened, and what to do.
//!
//! The kind picks the exit code; the table of codes is made from [`Kind::ALL`].

/// The kinds of failure, which are the exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It failed, and every host was put back or never changed.
    Failed,
    /// The command line, inventory, recipe or plan is wrong; nothing was attempted.
    Usage,
    /// A host was unreachable, refused or locked; nothing was changed.
    Refused,
    /// Some host is in neither state and needs a person.
    NeedsPerson,
    /// Interrupted, and put back.
    Interrupted,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: &[Self] = &[Self::Failed, Self::Usage, Self::Refused, Self::NeedsPerson, Self::Interrupted];

    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::NeedsPerson => 4,
            Self::Interrupted => 130,
        }
    }

    /// What the code means, for the documentation.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Failed => "failed, and every host that failed was put back or never changed",
            Self::Usage => "the command line, inventory, recipe or plan is wrong: nothing was attempted",
            Self::Refused => "a host was unreachable, not ready, refused or locked: nothing was changed",
            Self::NeedsPerson => {
                "some host is in neither state and needs a person: it is named, with the commands to run"
            }
            Self::Interrupted => "interrupted, and put back",
        }
    }
}

/// The table of exit codes, as Markdown for the README.
pub fn exit_code_table() -> String {
    let mut table = String::from("| code | meaning |\n|---|---|\n| 0 | done |\n");
    for kind in Kind::ALL {
        table.push_str(&format!("| {} | {} |\n", kind.exit_code(), kind.meaning()));
    }
    table
}

/// A failure of a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The kind.
    pub kind: Kind,
    /// What happened: a sentence without its full stop, or a rendered diagnostic.
    pub message: String,
    /// What to do, one line each.
    pub hints: Vec<String>,
    /// The message was already shown by a reporter.
    pub shown: bool,
}

impl Error {
    /// A failure of `kind`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: Vec::new(), shown: false }
    }

    /// A wrong command line or file.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// A run whose end a reporter has already told.
    pub fn told(kind: Kind) -> Self {
        Self { kind, message: String::new(), hints: Vec::new(), shown: true }
    }
}
