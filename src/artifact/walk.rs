//! What is in folders on this machine, and what of it cannot be carried to a host.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use super::digest::Stamp;
use super::path;
use super::pattern::Patterns;
use super::scan::Part;
use super::tree::{Root, TreeProblem};

/// Something found on disk.
pub struct Found {
    /// Its path in the release.
    pub path: Vec<u8>,
    /// What it is.
    pub what: What,
    /// Which root it is in.
    pub root: usize,
}

/// What was found.
pub enum What {
    /// A regular file.
    File {
        stamp: Stamp,
        mode: u32,
    },
    Directory {
        mode: u32,
    },
    /// A folder that only `to` names; any real one says better what its mode is.
    ImpliedDirectory,
    Symlink {
        target: Vec<u8>,
    },
}

impl What {
    /// Whether it is a folder.
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory { .. } | Self::ImpliedDirectory)
    }
}

/// What all parts have, in the order of reading.
#[derive(Default)]
pub struct Walk {
    /// What can be carried.
    pub found: Vec<Found>,
    /// The parts that exist.
    pub roots: Vec<Root>,
    /// What cannot be carried.
    pub problems: Vec<TreeProblem>,
}

impl Walk {
    fn problem(&mut self, path: &Path, message: impl Into<String>) {
        self.problems.push(TreeProblem::new(path.as_os_str().as_bytes(), message));
    }

    fn found(&mut self, path: Vec<u8>, what: What) {
        // Roots are added before anything is found in them.
        let root = self.roots.len().saturating_sub(1);
        self.found.push(Found { path, what, root });
    }

    /// Reads `part`.
    pub fn part(&mut self, part: &Part) {
        let exclude = match Patterns::new(&part.exclude) {
            Ok(exclude) => exclude,
            Err(message) => return self.problem(&part.from, message),
        };
        let Some(to) = folder(&part.to) else {
            return self.problem(Path::new(&part.to), "this is no folder inside the release");
        };
        // Followed where it is a symlink: the author of the recipe named it.
        let metadata = match fs::metadata(&part.from) {
            Ok(metadata) => metadata,
            Err(error) => return self.problem(&part.from, cannot("be read", &error)),
        };
        let root = if metadata.is_dir() {
            Root { from: part.from.clone(), to: to.clone() }
        } else {
            let Some(name) = part.from.file_name() else {
                return self.problem(&part.from, "this is no file with a name");
            };
            Root { from: part.from.clone(), to: path::join(&to, name.as_bytes()) }
        };
        self.roots.push(root);
        let mut above = Some(to.as_slice());
        if metadata.is_dir() && !to.is_empty() {
            self.found(to.clone(), What::Directory { mode: directory_mode(&metadata) });
            above = path::parent(&to);
        }
        while let Some(folder) = above.filter(|folder| !folder.is_empty()) {
            self.found(folder.to_vec(), What::ImpliedDirectory);
            above = path::parent(folder);
        }
        if metadata.is_dir() {
            self.folder(&part.from, &to, &exclude);
        } else {
            let name = part.from.file_name().unwrap_or_default().as_bytes();
            self.entry(&part.from, path::join(&to, name), &metadata);
        }
    }

    /// Everything in the folder `from`, without recursion, so that depth costs no stack.
    fn folder(&mut self, from: &Path, to: &[u8], exclude: &Patterns) {
        // Folders to read: where they are, and their path seen from `from`.
        let mut ahead = vec![(from.to_owned(), Vec::new())];
        while let Some((folder, below)) = ahead.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) => {
                    self.problem(&folder, cannot("be read", &error));
                    continue;
                }
            };
            for entry in entries {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) => {
                        self.problem(&folder, cannot("be read to its end", &error));
                        break;
                    }
                };
                let name = entry.file_name();
                if name == OsStr::new(".git") || (below.is_empty() && name == OsStr::new(".ship")) {
                    continue;
                }
                let inner = path::join(&below, name.as_bytes());
                // Does not follow a symlink.
                let metadata = match entry.metadata() {
                    Ok(metadata) => metadata,
                    Err(error) => {
                        self.problem(&entry.path(), cannot("be read", &error));
                        continue;
                    }
                };
                if exclude.leave_out(&inner, metadata.is_dir()) {
                    continue;
                }
                let place = entry.path();
                self.entry(&place, path::join(to, &inner), &metadata);
                if metadata.is_dir() {
                    ahead.push((place, inner));
                }
            }
        }
    }

    fn entry(&mut self, place: &Path, path: Vec<u8>, metadata: &Metadata) {
        if let Err(reason) = path::check(&path) {
            return self.problem(place, reason);
        }
        let kind = metadata.file_type();
        let what = if kind.is_dir() {
            What::Directory { mode: directory_mode(metadata) }
        } else if kind.is_file() {
            if metadata.mode() & 0o6000 != 0 {
                return self.problem(place, "a set-user-ID or set-group-ID file is not carried");
            }
            What::File { stamp: Stamp::new(metadata), mode: metadata.mode() & 0o777 }
        } else if kind.is_symlink() {
            match fs::read_link(place) {
                Ok(target) => What::Symlink { target: target.into_os_string().into_vec() },
                Err(error) => return self.problem(place, cannot("be read", &error)),
            }
        } else {
            let name = if kind.is_socket() {
                "a socket"
            } else if kind.is_fifo() {
                "a named pipe"
            } else {
                "a device"
            };
            return self.problem(place, format!("{name} is not carried"));
        };
        self.found(path, what);
    }
}

/// `to` as a path in the release; `None` where it leads out of it.
fn folder(to: &str) -> Option<Vec<u8>> {
    let names: Vec<&str> = to.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    let folder = names.join("/").into_bytes();
    let inside = !to.starts_with('/') && (folder.is_empty() || path::check(&folder).is_ok());
    inside.then_some(folder)
}

/// Folders of a project shared by a group often are set-group-ID; on the host that means nothing.
fn directory_mode(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o777 | 0o700
}

/// "it cannot be read: permission denied".
pub fn cannot(what: &str, error: &io::Error) -> String {
    format!("it cannot {what}: {error}")
}
