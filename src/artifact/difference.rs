//! What of a release a host already has.

use super::Manifest;

/// How a new manifest differs from an old one, as indices of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// In the new one only. Indices into the new manifest.
    pub added: Vec<usize>,
    /// In both, but with another kind, content, target or mode. Indices into the new manifest.
    pub changed: Vec<usize>,
    /// In the old one only. Indices into the old manifest.
    pub removed: Vec<usize>,
    /// The same in both. Indices into the new manifest.
    pub unchanged: Vec<usize>,
    /// The sizes of added and changed files.
    pub bytes_to_send: u64,
}

/// Compares `new` with what the host has, `old`; for a first deploy that is `Manifest::default()`.
pub fn difference(new: &Manifest, old: &Manifest) -> Difference {
    let _ = (new, old);
    todo!()
}

impl Difference {
    /// The entries of `new` to send: what is added or changed, and every directory, because copying
    /// unchanged files on the host restores neither the modes of directories nor empty ones.
    pub fn send_list(&self, new: &Manifest) -> Vec<usize> {
        let _ = new;
        todo!()
    }

    /// The paths of unchanged files and symlinks of `new`, each followed by NUL, for `tar --null -T -` in
    /// the old release's folder.
    pub fn keep_list(&self, new: &Manifest) -> Vec<u8> {
        let _ = new;
        todo!()
    }
}
