//! A manifest together with the places that the bytes of its files are in.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sha2::{Digest as _, Sha256};

use super::chunk::{self, Chunk, Chunks};
use super::{Entry, Kind, Manifest, MemoryFile, path};

/// The mode of folders that only files in memory need.
pub(super) const FOLDER_MODE: u32 = 0o755;

/// Something that cannot be carried to a host as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct TreeProblem {
    /// Where, with odd bytes escaped.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

impl TreeProblem {
    pub(super) fn new(path: &[u8], message: impl Into<String>) -> Self {
        Self { path: path::escape(path), message: message.into() }
    }
}

/// A manifest, and where the bytes of each entry are. Clones share most of it.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    manifest: Manifest,
    /// One for each entry.
    origins: Vec<Origin>,
    roots: Arc<[Root]>,
    memory: Vec<MemoryFile>,
    /// The chunks of large files, found once for all hosts.
    cut: Arc<Mutex<BTreeMap<[u8; 32], Cut>>>,
    /// The manifest's, once it was asked for.
    digest: OnceLock<String>,
}

/// The chunks of a file, once they were looked for; none where it could not be read.
type Cut = Arc<OnceLock<Option<Vec<Chunk>>>>;

/// Where the bytes of an entry are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// It has none: a directory or symlink.
    Nowhere,
    /// Under this root.
    Disk(usize),
    /// In this memory file.
    Memory(usize),
}

/// A part of the release on this machine's disk.
#[derive(Clone, Debug)]
pub(super) struct Root {
    /// The folder, or the file itself.
    pub from: PathBuf,
    /// Its path in the release, empty for the release itself.
    pub to: Vec<u8>,
}

impl Root {
    /// Where the file at `path` of the release is on disk.
    pub fn place(&self, path: &[u8]) -> Option<PathBuf> {
        let below = path.strip_prefix(self.to.as_slice())?;
        let below = below.strip_prefix(b"/").unwrap_or(below);
        // Joining nothing would add a slash, which no file has.
        Some(if below.is_empty() { self.from.clone() } else { self.from.join(OsStr::from_bytes(below)) })
    }
}

/// The bytes of a file.
#[derive(Debug)]
pub(super) enum Content<'a> {
    /// On disk.
    Disk(PathBuf),
    /// In memory.
    Memory(&'a MemoryFile),
}

impl Tree {
    /// A tree of `entries`, each with its origin.
    pub(super) fn new(entries: Vec<(Entry, Origin)>, roots: Vec<Root>) -> Self {
        let (entries, origins) = entries.into_iter().unzip();
        Self { manifest: Manifest::new(entries), origins, roots: roots.into(), ..Self::default() }
    }

    /// The same, with the chunks of large files that are known already.
    pub(super) fn with_chunks(self, chunks: Chunks) -> Self {
        let known = chunks.into_files().map(|(sha256, chunks)| (sha256, Arc::new(OnceLock::from(Some(chunks)))));
        Self { cut: Arc::new(Mutex::new(known.collect())), ..self }
    }

    /// What is in the tree.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The [`Manifest::digest`], made once.
    pub fn digest(&self) -> &str {
        self.digest.get_or_init(|| self.manifest.digest())
    }

    /// Whether both were read at once and have the same files in memory, so that all their bytes are the same.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.roots, &other.roots) && self.memory == other.memory
    }

    /// The bytes of the file that entry `index` is.
    pub(super) fn content(&self, index: usize) -> Option<Content<'_>> {
        match self.origins.get(index)? {
            Origin::Nowhere => None,
            Origin::Memory(memory) => self.memory.get(*memory).map(Content::Memory),
            Origin::Disk(root) => {
                let path = &self.manifest.entries().get(index)?.path;
                self.roots.get(*root)?.place(path).map(Content::Disk)
            }
        }
    }

    /// The chunks of the file that entry `index` is, read from disk once, if at all; `None` for what is in memory or cannot be read.
    pub fn chunks(&self, index: usize) -> Option<Vec<Chunk>> {
        let (Content::Disk(place), Kind::File { sha256, .. }) =
            (self.content(index)?, &self.manifest.entries().get(index)?.kind)
        else {
            return None;
        };
        let mut known = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = Arc::clone(known.entry(*sha256).or_default());
        drop(known);
        cut.get_or_init(|| chunk::of_file(&place, &AtomicBool::new(false)).ok()).clone()
    }

    /// The tree with `files` in it, in place of files and symlinks at the same paths; missing folders are
    /// added. What does not differ is shared.
    pub fn with_files(&self, files: &[MemoryFile]) -> Result<Self, Vec<TreeProblem>> {
        let mut memory = self.memory.clone();
        let mut added: BTreeMap<Vec<u8>, (Kind, Origin)> = BTreeMap::new();
        let mut problems = Vec::new();
        for file in files {
            if let Err(reason) = path::check(file.path()) {
                problems.push(TreeProblem::new(file.path(), reason));
                continue;
            }
            let kind = Kind::File {
                size: file.contents().len() as u64,
                sha256: Sha256::digest(file.contents()).into(),
                mode: file.mode(),
            };
            if added.insert(file.path().to_vec(), (kind, Origin::Memory(memory.len()))).is_some() {
                problems.push(TreeProblem::new(file.path(), "two settings files have this path"));
            }
            memory.push(file.clone());
        }
        for file in files {
            if self.manifest.is_directory(file.path()) {
                problems.push(TreeProblem::new(file.path(), "a settings file cannot take the place of a folder"));
            }
            let mut folder = path::parent(file.path());
            while let Some(here) = folder.filter(|here| !here.is_empty()) {
                if !self.manifest.is_directory(here) {
                    let in_the_way = self.manifest.get(here).is_some()
                        || added.get(here).is_some_and(|(kind, _)| !matches!(kind, Kind::Directory { .. }));
                    if in_the_way {
                        let message = format!("`{}`, which it is to be in, is no folder", path::escape(here));
                        problems.push(TreeProblem::new(file.path(), message));
                        break;
                    }
                    added.insert(here.to_vec(), (Kind::Directory { mode: FOLDER_MODE }, Origin::Nowhere));
                }
                folder = path::parent(here);
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let kept = self.manifest.entries().iter().zip(&self.origins);
        let kept = kept.filter(|(entry, _)| !added.contains_key(&*entry.path));
        let mut all: Vec<(Entry, Origin)> = kept.map(|(entry, origin)| (entry.clone(), *origin)).collect();
        all.extend(added.into_iter().map(|(path, (kind, origin))| (Entry { path: path.into(), kind }, origin)));
        all.sort_by(|a, b| a.0.path.cmp(&b.0.path));
        let (entries, origins) = all.into_iter().unzip();
        let (roots, cut) = (Arc::clone(&self.roots), Arc::clone(&self.cut));
        Ok(Self { manifest: Manifest::new(entries), origins, roots, memory, cut, digest: OnceLock::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: Kind) -> (Entry, Origin) {
        (Entry { path: path.as_bytes().into(), kind }, Origin::Nowhere)
    }

    fn tree() -> Tree {
        let file = || Kind::File { size: 1, sha256: [0; 32], mode: 0o644 };
        let entries = vec![
            entry("a", file()),
            entry("d", Kind::Directory { mode: 0o700 }),
            entry("d/x", file()),
            entry("l", Kind::Symlink { target: (*b"d").into() }),
        ];
        Tree::new(entries, Vec::new())
    }

    fn listed(tree: &Tree) -> String {
        String::from_utf8(tree.manifest().to_bytes()).unwrap()
    }

    #[test]
    fn settings_take_the_place_of_files() {
        let new = |path: &str| MemoryFile::new(path, 0o600, b"secret".to_vec());
        let merged = tree().with_files(&[new("d/x"), new("l"), new("n/m/f")]).unwrap();
        insta::assert_snapshot!(listed(&merged), @r"
        ship manifest 1
        file 0644 1 0000000000000000000000000000000000000000000000000000000000000000 a
        dir 0700 d
        file 0600 6 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b d/x
        file 0600 6 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b l
        dir 0755 n
        dir 0755 n/m
        file 0600 6 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b n/m/f
        ");
        assert!(!format!("{merged:?}").contains("secret"));
        // Once more, over what was merged.
        let again = merged.with_files(&[MemoryFile::new("l", 0o644, b"2".to_vec())]).unwrap();
        let contents = |index: usize| match again.content(index) {
            Some(Content::Memory(file)) => file.contents().to_vec(),
            other => panic!("{other:?}"),
        };
        assert_eq!(contents(2), b"secret");
        assert_eq!(contents(3), b"2");
    }

    #[test]
    fn settings_do_not_go_astray() {
        let all = ["../x", "/etc/x", "d", "a/x", "l/x", "n", "n", "p", "p/q"];
        let files: Vec<MemoryFile> = all.iter().map(|path| MemoryFile::new(*path, 0o600, Vec::new())).collect();
        let problems: Vec<String> = tree().with_files(&files).unwrap_err().iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(problems.join("\n"), @r"
        ../x: the path leads out of the release
        /etc/x: the path is absolute, or has empty or `.` components
        n: two settings files have this path
        d: a settings file cannot take the place of a folder
        a/x: `a`, which it is to be in, is no folder
        l/x: `l`, which it is to be in, is no folder
        p/q: `p`, which it is to be in, is no folder
        ");
    }
}
