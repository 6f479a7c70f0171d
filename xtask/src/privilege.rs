//! Whether system packages may be installed: as root, through sudo without a password, or not at all.

use crate::process::Program;

/// What this user may do to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// This is root.
    Root,
    /// `sudo -n` works.
    Sudo,
    /// Neither.
    None,
}

impl Privilege {
    /// Looks at the user id, then tries sudo.
    pub fn detect() -> Self {
        if Program::new("id").arg("-u").read().is_ok_and(|id| id.trim() == "0") {
            return Self::Root;
        }
        if Program::new("sudo").args(["-n", "true"]).succeeds() { Self::Sudo } else { Self::None }
    }

    /// The words to put before a command that needs root, or `None` where there is no way.
    pub fn prefix(self) -> Option<Vec<String>> {
        match self {
            Self::Root => Some(Vec::new()),
            Self::Sudo => Some(vec!["sudo".to_owned(), "-n".to_owned()]),
            Self::None => None,
        }
    }
}
