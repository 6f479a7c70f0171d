//! A host as those see it who look at its disk.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use crate::session::sshd::Sshd;

/// A host of a fleet.
pub struct Host {
    /// Its name in the inventory.
    pub name: String,
    /// Its server.
    pub server: Arc<Sshd>,
    /// Where this test deploys to on it.
    pub root: PathBuf,
}

impl Host {
    /// The release that `current` points at, by its full path from the disk: none where it points nowhere.
    pub fn current(&self) -> Option<String> {
        let real = fs::canonicalize(self.root.join("current")).ok()?;
        assert_eq!(real.parent(), Some(self.root.join("releases").as_path()), "current points elsewhere");
        Some(name(&real))
    }

    /// What it serves: the content of the live release's `version`.
    pub fn version(&self) -> Option<String> {
        fs::read_to_string(self.root.join("current/version")).ok()
    }

    /// The folders of its releases, oldest first.
    pub fn releases(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root.join("releases")) else { return Vec::new() };
        let mut all: Vec<String> = entries.map(|entry| name(&entry.unwrap().path())).collect();
        all.sort();
        all
    }

    /// The state that ship recorded of a release.
    pub fn state(&self, release: &str) -> String {
        let state = fs::read_to_string(self.root.join(".ship/releases").join(release).join("state"));
        state.unwrap_or_default().trim().to_owned()
    }

    /// Its history, oldest first.
    pub fn history(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.root.join(".ship/history.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Whether nobody holds the deploy lock.
    pub fn unlocked(&self) -> bool {
        let lock = self.root.join(".ship/lock");
        !lock.exists() || Command::new("flock").args(["-n"]).arg(lock).arg("true").status().unwrap().success()
    }

    /// Puts a file below `deploy_to`, with the folders above it.
    pub fn put(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Everything below `deploy_to`, whatever it is; empty where there is none.
    pub fn everything(&self) -> BTreeMap<Vec<u8>, Entry> {
        if self.root.exists() { tree(&self.root) } else { BTreeMap::new() }
    }

    /// Everything in the live release.
    pub fn live_tree(&self) -> BTreeMap<Vec<u8>, Entry> {
        tree(&fs::canonicalize(self.root.join("current")).unwrap())
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A folder with these permission bits.
    Folder(u32),
    /// A file with these permission bits and this content.
    File(u32, Vec<u8>),
    /// A link to this.
    Link(OsString),
}

/// Everything below `folder`, by its path as bytes.
pub fn tree(folder: &Path) -> BTreeMap<Vec<u8>, Entry> {
    let mut found = BTreeMap::new();
    walk(folder, &[], &mut found);
    found
}

fn walk(folder: &Path, prefix: &[u8], found: &mut BTreeMap<Vec<u8>, Entry>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_owned().into_vec();
        let key = if prefix.is_empty() { name } else { [prefix, b"/", &name].concat() };
        let meta = fs::symlink_metadata(&path).unwrap();
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_dir() {
            walk(&path, &key, found);
            found.insert(key, Entry::Folder(mode));
        } else if meta.is_symlink() {
            found.insert(key, Entry::Link(fs::read_link(&path).unwrap().into_os_string()));
        } else {
            found.insert(key, Entry::File(mode, fs::read(&path).unwrap()));
        }
    }
}
