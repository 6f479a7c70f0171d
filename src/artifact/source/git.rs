//! One commit out of what a user calls it.

use std::path::Path;

use super::SourceError;

/// What is to be deployed, in the user's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A branch: the local one, else `origin`'s.
    Branch(String),
    /// A commit id, a tag, or anything else that git understands as a commit.
    Revision(String),
    /// What is checked out.
    Head,
}

/// A commit, resolved once, so that every host gets the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The full id.
    pub id: String,
    /// The branch that was asked for, or that is checked out for [`Wanted::Head`].
    pub branch: Option<String>,
    /// The author's name.
    pub author: String,
    /// The first line of its message.
    pub title: String,
    /// When it was committed, in seconds since 1970 (UTC).
    pub time: i64,
    /// What the user may not expect: uncommitted changes, a branch behind its upstream.
    pub warnings: Vec<String>,
}

/// Resolves `wanted` in the repository that `repo` is in.
pub fn resolve(repo: &Path, wanted: &Wanted) -> Result<Commit, SourceError> {
    let _ = (repo, wanted);
    todo!()
}
