//! Folders on this machine as one release: what is in them, what cannot be carried.

use std::path::PathBuf;

use super::{Manifest, MemoryFile};

/// A folder, or a file, that goes into the release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it is on this machine. Of a folder, what is in it goes; a file goes itself.
    pub from: PathBuf,
    /// The folder of the release it goes into, relative; empty for the release itself.
    pub to: String,
    /// What to leave out, as in `.gitignore`, seen from `from`.
    pub exclude: Vec<String>,
}

/// How to scan.
#[derive(Clone, Debug, Default)]
pub struct ScanOptions {
    /// Take symlinks that are absolute or lead out of the release as they are; otherwise they are problems.
    pub allow_escaping_links: bool,
    /// The file that remembers digests by size, mtime, ctime and inode; made when missing.
    pub index: Option<PathBuf>,
}

/// Something that cannot be carried to a host as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct TreeProblem {
    /// Where, with odd bytes escaped.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// A manifest, and where the bytes of each entry are.
#[derive(Clone, Debug)]
pub struct Tree {
    manifest: Manifest,
}

impl Tree {
    /// What is in the tree.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The tree with `files` in it, in place of files and symlinks at the same paths; missing folders are
    /// added. Only what differs is copied.
    pub fn with_files(&self, files: &[MemoryFile]) -> Result<Self, Vec<TreeProblem>> {
        let _ = files;
        todo!()
    }
}

/// Whether `pattern` can be understood; `config` asks, to report it at its place.
pub fn check_pattern(pattern: &str) -> Result<(), String> {
    let _ = pattern;
    todo!()
}

/// Reads and hashes `parts` into one tree, or says everything that is wrong with them.
pub fn scan(parts: &[Part], options: &ScanOptions) -> Result<Tree, Vec<TreeProblem>> {
    let _ = (parts, options);
    todo!()
}
