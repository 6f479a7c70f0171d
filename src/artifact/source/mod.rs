//! Where an artifact comes from: a commit of a git repository, a folder, or a tar archive.
//!
//! A folder needs nothing here: it is scanned where it stands, and its revision is the digest of its
//! manifest. Everything here waits for programs and disks, so async callers use a blocking thread.
//! Deliberately absent: build steps, which run in the checkout (`execute`).

mod archive;
mod checkout;
mod git;
mod resolve;
mod slot;

pub use archive::{Unpacked, unpack};
pub use checkout::{Checkout, checkout};
pub use resolve::{Commit, Wanted, resolve};

/// Why there is no source, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// What is wrong, as a sentence without its full stop.
    pub message: String,
    /// What to do.
    pub advice: Option<String>,
}

impl SourceError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), advice: None }
    }

    fn advice(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

#[cfg(test)]
mod tests;
