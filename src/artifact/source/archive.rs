//! A tar archive as a folder.
#![allow(clippy::disallowed_methods, reason = "archives are decompressed by the programs that made them")]

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use tar::EntryType;
use tempfile::TempDir;

use super::SourceError;
use crate::artifact::path;

/// Compressions by their first bytes, and the program that undoes each.
const COMPRESSIONS: &[(&[u8], &str)] =
    &[(b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2")];

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

/// Unpacks `archive` (plain, or compressed by gzip, zstd, xz or bzip2) into a new folder in `parent`.
///
/// Refused: paths that are absolute or have `..`, entries inside what is no folder (also through symlinks),
/// hard links to what is not in the archive, devices and pipes. Symlinks are kept; the scan judges them.
pub fn unpack(archive: &Path, parent: &Path) -> Result<Unpacked, SourceError> {
    let shown = archive.display();
    let cannot = |error: io::Error| SourceError::new(format!("the archive {shown} cannot be unpacked: {error}"));
    let mut file = File::open(archive).map_err(cannot)?;
    let mut start = Vec::new();
    (&mut file).take(8).read_to_end(&mut start).and_then(|_| file.rewind()).map_err(cannot)?;
    fs::create_dir_all(parent).map_err(cannot)?;
    let folder = tempfile::Builder::new().prefix("artifact-").tempdir_in(parent).map_err(cannot)?;
    let compression = COMPRESSIONS.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, program)| *program);
    let count = match compression {
        None => unpack_tar(file, folder.path()),
        Some(program) => decompressed(program, file, |tar| unpack_tar(tar, folder.path())),
    };
    match count.map_err(cannot)? {
        0 => Err(SourceError::new(format!("the archive {shown} is empty"))),
        _ => Ok(Unpacked { folder }),
    }
}

/// Gives `read` what `program -dc` makes of `file`; fails where the program does, as it does for an archive
/// that was cut off.
fn decompressed<T>(program: &str, file: File, read: impl FnOnce(&mut dyn Read) -> io::Result<T>) -> io::Result<T> {
    let mut child = Running(
        Command::new(program)
            .arg("-dc")
            .stdin(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| io::Error::other(format!("`{program}` cannot be run: {error}")))?,
    );
    let mut output = child.0.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
    let result = read(&mut output)?;
    io::copy(&mut output, &mut io::sink())?;
    let status = child.0.wait()?;
    if status.success() { Ok(result) } else { Err(io::Error::other(format!("`{program}` failed: {status}"))) }
}

/// A program that is stopped where nobody waits for its end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Unpacks the plain tar `tar`; the number of its entries.
fn unpack_tar<R: Read>(tar: R, folder: &Path) -> io::Result<usize> {
    let mut archive = tar::Archive::new(tar);
    let mut count = 0;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            // `git archive` writes the commit there.
            continue;
        }
        count += 1;
        let name = entry.path_bytes().into_owned();
        let refused = |reason: &str| io::Error::other(format!("{}: {reason}", path::escape(&name)));
        let Some(inner) = relative(&name) else { return Err(refused("the path leads out of the archive")) };
        if inner.is_empty() && kind.is_dir() {
            continue;
        }
        path::check(&inner).map_err(refused)?;
        let place = new_place(folder, &inner, kind.is_dir()).map_err(|error| refused(&error.to_string()))?;
        let mode = entry.header().mode()? & 0o7777;
        match kind {
            EntryType::Directory => {
                if !place.exists() {
                    fs::create_dir(&place)?;
                }
                // Entries may follow that belong in it, and the scan gives the owner all rights anyway.
                fs::set_permissions(&place, Permissions::from_mode(mode & 0o777 | 0o700))?;
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let time = UNIX_EPOCH + Duration::from_secs(entry.header().mtime()?.min(u64::from(u32::MAX)));
                let mut file = File::create_new(&place)?;
                let written = io::copy(&mut entry, &mut file)?;
                if written != entry.size() {
                    return Err(refused("the archive was cut off"));
                }
                file.set_modified(time)?;
                file.set_permissions(Permissions::from_mode(mode))?;
            }
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name_bytes().ok_or_else(|| refused("this link has no target"))?.into_owned();
                if kind.is_symlink() {
                    symlink(OsStr::from_bytes(&target), &place)?;
                } else {
                    let original =
                        relative(&target).ok_or_else(|| refused("this hard link leads out of the archive"))?;
                    let original = existing(folder, &original)
                        .filter(|original| fs::symlink_metadata(original).is_ok_and(|metadata| metadata.is_file()))
                        .ok_or_else(|| refused("this hard link leads to no file of the archive"))?;
                    fs::hard_link(original, &place)?;
                }
            }
            _ => return Err(refused("devices and pipes are not carried")),
        }
    }
    Ok(count)
}

/// The path of an entry without `.`; `None` where it is absolute or has `..`.
fn relative(name: &[u8]) -> Option<Vec<u8>> {
    if name.starts_with(b"/") {
        return None;
    }
    let names = name.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    let names: Vec<&[u8]> = names.collect();
    (!names.contains(&&b".."[..])).then(|| names.join(&b'/'))
}

/// Where `inner` is on disk, if all the folders that it is in are folders, not symlinks to some.
fn existing(folder: &Path, inner: &[u8]) -> Option<PathBuf> {
    let mut place = folder.to_owned();
    let mut names = inner.split(|byte| *byte == b'/').peekable();
    while let Some(name) = names.next() {
        place.push(OsStr::from_bytes(name));
        if names.peek().is_some() && !fs::symlink_metadata(&place).ok()?.is_dir() {
            return None;
        }
    }
    Some(place)
}

/// Where `inner` is to be made: missing folders are made; what an earlier entry put there goes, as tar has it.
fn new_place(folder: &Path, inner: &[u8], is_folder: bool) -> io::Result<PathBuf> {
    let mut place = folder.to_owned();
    let mut names = inner.split(|byte| *byte == b'/').peekable();
    while let Some(name) = names.next() {
        place.push(OsStr::from_bytes(name));
        let there = match fs::symlink_metadata(&place) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        match (there, names.peek().is_some()) {
            (None, true) => fs::create_dir(&place)?,
            (None, false) => {}
            (Some(metadata), true) if metadata.is_dir() => {}
            (Some(_), true) => return Err(io::Error::other("it is inside something that is no folder")),
            (Some(metadata), false) if metadata.is_dir() && is_folder => {}
            (Some(metadata), false) if metadata.is_dir() => {
                return Err(io::Error::other("an earlier entry is a folder of this name"));
            }
            (Some(_), false) => fs::remove_file(&place)?,
        }
    }
    Ok(place)
}
