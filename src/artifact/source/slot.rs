//! A folder that belongs to one run at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::SourceError;

/// What the lock file of a folder that ship made says.
const MARK: &str = "This folder is made by ship, and locked through this file while a run uses it.\n";

/// So many runs of one project may build at once.
const SLOTS: usize = 16;

/// A folder, held until this is dropped; also when the process is killed, the system frees it.
#[derive(Debug)]
pub struct Slot {
    /// The folder; it may not exist yet.
    pub path: PathBuf,
    _lock: File,
}

/// Takes the folder `wished`, or `<wished>-2`, `-3` … where other runs hold those.
///
/// The lock is a file beside the folder, because the folder is cleaned.
pub fn take(wished: &Path) -> Result<Slot, SourceError> {
    let cannot = |path: &Path, error: std::io::Error| {
        SourceError::new(format!("the build folder {} cannot be used: {error}", path.display()))
    };
    if let Some(parent) = wished.parent() {
        fs::create_dir_all(parent).map_err(|error| cannot(parent, error))?;
    }
    for number in 1..=SLOTS {
        let path = if number == 1 { wished.to_owned() } else { suffixed(wished, &format!("-{number}")) };
        let lock = suffixed(&path, ".lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock)
            .map_err(|error| cannot(&lock, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(error)) => return Err(cannot(&lock, error)),
        }
        let mut text = String::new();
        let known = file.read_to_string(&mut text).is_ok() && text == MARK;
        if !known {
            // What is cleaned and perhaps removed must not be a folder of the user's.
            if fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
                let message = format!("the build folder {} exists already and is not ship's", path.display());
                return Err(SourceError::new(message).advice("move it away, or remove it"));
            }
            file.set_len(0).and_then(|()| file.write_all(MARK.as_bytes())).map_err(|error| cannot(&lock, error))?;
        }
        return Ok(Slot { path, _lock: file });
    }
    let message = format!("{SLOTS} other runs of ship build in {} and beside it", wished.display());
    Err(SourceError::new(message).advice("wait until one of them has ended"))
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_its_own_folder() {
        let folder = tempfile::tempdir().unwrap();
        let wished = folder.path().join("build/app");
        let first = take(&wished).unwrap();
        let second = take(&wished).unwrap();
        assert_eq!((&first.path, &second.path), (&wished, &folder.path().join("build/app-2")));
        fs::create_dir(&wished).unwrap();
        fs::write(wished.join("cache"), "").unwrap();
        drop(first);
        assert_eq!(take(&wished).unwrap().path, wished);
    }

    #[test]
    fn a_folder_of_the_users_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x"), "").unwrap();
        let error = take(folder.path()).unwrap_err();
        assert!(error.message.ends_with("is not ship's"), "{error}");
    }
}
