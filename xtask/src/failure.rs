//! The one error type of the chores: a message for the person who ran them.

use std::fmt;

/// Why a chore stopped, in whole sentences.
#[derive(Debug)]
pub struct Failure {
    message: String,
}

/// What every fallible function of the chores returns.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

/// Says what was being done when an input or output error came up.
pub trait During<T> {
    /// Turns the error into a failure that starts with "Could not {what}".
    fn during(self, what: impl fmt::Display) -> Result<T>;
}

impl<T> During<T> for std::io::Result<T> {
    fn during(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::new(format!("Could not {what}: {error}.")))
    }
}
