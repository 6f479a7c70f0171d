//! A clean checkout of one commit, kept between deploys for the sake of its caches.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{Commit, SourceError};

/// A checkout that belongs to this run until it is dropped.
#[derive(Debug)]
pub struct Checkout {
    path: PathBuf,
    _lock: File,
}

impl Checkout {
    /// Its folder: the wished one, or `<wished>-2`, `-3` … where other runs are using those.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Checks `commit` of `repo` out into `into`, exactly as committed: what is untracked or ignored is
/// removed, but for the paths `caches` (relative to the checkout, such as `frontend/node_modules`).
pub fn checkout(repo: &Path, commit: &Commit, into: &Path, caches: &[String]) -> Result<Checkout, SourceError> {
    let _ = (repo, commit, into, caches);
    todo!()
}
