//! What of a release a host already has.

use std::cmp::Ordering;

use super::{Kind, Manifest, path};

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
///
/// A file whose mode alone changed is sent again: modes seldom change, and it saves a way of its own.
pub fn difference(new: &Manifest, old: &Manifest) -> Difference {
    let mut found = Difference::default();
    let mut news = new.entries().iter().enumerate().peekable();
    let mut olds = old.entries().iter().enumerate().peekable();
    loop {
        let order = match (news.peek(), olds.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((_, new)), Some((_, old))) => new.path.cmp(&old.path),
        };
        let entry = if order.is_le() { news.next() } else { None };
        let before = if order.is_ge() { olds.next() } else { None };
        match (entry, before) {
            (Some((index, entry)), None) => {
                found.added.push(index);
                found.bytes_to_send += entry.size();
            }
            (Some((index, entry)), Some((_, before))) if entry == before => found.unchanged.push(index),
            (Some((index, entry)), Some(_)) => {
                found.changed.push(index);
                found.bytes_to_send += entry.size();
            }
            (None, Some((index, _))) => found.removed.push(index),
            (None, None) => break,
        }
    }
    found
}

impl Difference {
    /// The entries of `new` to send: what is added or changed, and every directory, because copying
    /// unchanged files on the host restores neither the modes of directories nor empty ones.
    pub fn send_list(&self, new: &Manifest) -> Vec<usize> {
        let is_directory = |index: &&usize| {
            new.entries().get(**index).is_some_and(|entry| matches!(entry.kind, Kind::Directory { .. }))
        };
        let directories = self.unchanged.iter().filter(is_directory);
        let mut list: Vec<usize> = self.added.iter().chain(&self.changed).chain(directories).copied().collect();
        list.sort_unstable();
        list
    }

    /// The paths of unchanged files and symlinks of `new`, each followed by NUL, for `xargs -0` in the old release's
    /// folder.
    pub fn keep_list(&self, new: &Manifest) -> Vec<u8> {
        let mut list = Vec::new();
        for entry in self.unchanged.iter().filter_map(|index| new.entries().get(*index)) {
            if matches!(entry.kind, Kind::Directory { .. }) {
                continue;
            }
            list.extend_from_slice(&path::named(&entry.path));
            list.push(0);
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::super::Entry;
    use super::*;

    fn manifest(text: &str) -> Manifest {
        let entries = text.split_whitespace().map(|word| {
            let (path, mark) = word.split_once('=').unwrap_or((word, ""));
            let kind = match mark.bytes().next() {
                None => Kind::Directory { mode: 0o755 },
                Some(b'>') => Kind::Symlink { target: mark.as_bytes().into() },
                Some(byte) => Kind::File { size: 10, sha256: [byte; 32], mode: 0o644 + u32::from(mark.len() > 1) },
            };
            Entry { path: path.as_bytes().into(), kind }
        });
        Manifest::new(entries.collect())
    }

    fn paths(manifest: &Manifest, indices: &[usize]) -> String {
        let names = indices.iter().map(|index| String::from_utf8_lossy(&manifest.entries()[*index].path).into_owned());
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_entry_is_in_one_set() {
        let new = manifest("-x=1 a b=1 c=2 d d/e=1 f=>t g=>u m=1x");
        let old = manifest("-x=1 a b=1 c=1 d f=>t g=>v h h/i=1 m=1");
        let found = difference(&new, &old);
        assert_eq!(paths(&new, &found.added), "d/e");
        assert_eq!(paths(&new, &found.changed), "c g m");
        assert_eq!(paths(&old, &found.removed), "h h/i");
        assert_eq!(paths(&new, &found.unchanged), "-x a b d f");
        assert_eq!(found.bytes_to_send, 30);
        assert_eq!(paths(&new, &found.send_list(&new)), "a c d d/e g m");
        assert_eq!(found.keep_list(&new), b"./-x\0b\0f\0");
    }

    #[test]
    fn a_first_deploy_sends_all() {
        let new = manifest("a a/b=1");
        let found = difference(&new, &Manifest::default());
        assert_eq!(found.added, [0, 1]);
        assert_eq!(found.send_list(&new), [0, 1]);
        assert!(found.keep_list(&new).is_empty());
        assert_eq!(difference(&new, &new).unchanged, [0, 1]);
    }
}
