//! A tar archive as a folder.

use std::path::Path;

use tempfile::TempDir;

use super::SourceError;

/// An unpacked archive; its folder is removed when this is dropped.
#[derive(Debug)]
pub struct Unpacked {
    folder: TempDir,
}

impl Unpacked {
    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Unpacks `archive` (`.tar`, `.tar.gz`, `.tgz`, `.tar.zst`, …) into a new folder in `parent`.
pub fn unpack(archive: &Path, parent: &Path) -> Result<Unpacked, SourceError> {
    let _ = (archive, parent);
    todo!()
}
