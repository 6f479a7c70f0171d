//! Files that exist only in memory: settings rendered for a host, ship's own records.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// A file that is sent without ever being on this machine's disk. Clones share the contents.
#[derive(Clone, PartialEq, Eq)]
pub struct MemoryFile {
    path: Vec<u8>,
    mode: u32,
    contents: Arc<Zeroizing<Vec<u8>>>,
}

impl MemoryFile {
    /// A file at `path`, relative to the release (or, as an extra of [`super::Packing`], to the folder the
    /// stream is unpacked in). The contents may be secret: they are wiped when dropped.
    pub fn new(path: impl Into<Vec<u8>>, mode: u32, contents: Vec<u8>) -> Self {
        Self { path: path.into(), mode: mode & 0o777, contents: Arc::new(Zeroizing::new(contents)) }
    }

    /// Where it goes.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Its permission bits.
    pub fn mode(&self) -> u32 {
        self.mode
    }

    /// What is in it.
    pub fn contents(&self) -> &[u8] {
        &self.contents
    }
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFile")
            .field("path", &String::from_utf8_lossy(&self.path))
            .field("mode", &format_args!("{:04o}", self.mode))
            .finish_non_exhaustive()
    }
}
