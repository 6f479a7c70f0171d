//! The list of everything in a release: paths, modes, sizes and SHA-256.

use std::sync::Arc;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// SHA-256 of the contents.
        sha256: [u8; 32],
        /// Permission bits (0777).
        mode: u32,
    },
    /// A directory.
    Directory {
        /// Permission bits; the owner can always write, or ship could not prune the release.
        mode: u32,
    },
    /// A symbolic link.
    Symlink {
        /// What it says.
        target: Arc<[u8]>,
    },
}

/// One path of a release. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the release, any bytes but NUL, without empty, `.` or `..` components.
    pub path: Arc<[u8]>,
    /// What stands there.
    pub kind: Kind,
}

/// The entries of a release, sorted by the bytes of their paths, each path once, every parent before its children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
}

/// Why bytes are not a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the manifest: {reason}")]
pub struct ManifestError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Manifest {
    /// The entries, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The manifest without the entries at `paths`.
    pub fn without(mut self, paths: &std::collections::BTreeSet<Vec<u8>>) -> Self {
        self.entries.retain(|entry| !paths.contains(entry.path.as_ref()));
        self
    }

    /// The number of files and symlinks.
    pub fn files(&self) -> usize {
        todo!()
    }

    /// The sum of the files' sizes.
    pub fn bytes(&self) -> u64 {
        todo!()
    }

    /// The text that stays on the host.
    pub fn to_bytes(&self) -> Vec<u8> {
        todo!()
    }

    /// Reads what [`Manifest::to_bytes`] wrote. The bytes come back from a host and may be anything.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let _ = bytes;
        todo!()
    }

    /// SHA-256 of [`Manifest::to_bytes`], in hexadecimal: the revision of a tree that has no commit.
    pub fn digest(&self) -> String {
        todo!()
    }

    /// The files for `sha256sum -c`, run in the release's folder.
    pub fn sums(&self) -> Vec<u8> {
        todo!()
    }
}
