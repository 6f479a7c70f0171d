//! The tar stream that carries a tree to a host.
//!
//! A file keeps its own modification time: web servers make `Last-Modified` and `ETag` of time and size,
//! and with one fixed time for all, a changed file of the same size would stay in the browsers' caches.
//!
//! The host unpacks with `umask 0; tar -x -p -o`: `-p` alone leaves BusyBox's tar under the umask. Every folder
//! is in the stream or exists, so nothing is made with that umask's modes.

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use super::stream::{self, Body, CHANGED, END, Header, Output, Stop, failed, record};
use super::tree::Content;
use super::{Entry, Kind, MemoryFile, Tree, path};

/// What goes into one stream.
#[derive(Clone, Debug)]
pub struct Packing {
    /// The tree; shared, so that it is in memory once for all hosts.
    pub tree: Arc<Tree>,
    /// Which entries of its manifest, for example [`super::Difference::send_list`].
    pub entries: Vec<usize>,
    /// The folder they go into, relative to where the stream is unpacked: `releases/<id>`. It and its
    /// parents are not in the stream, so that their modes stay as they are.
    pub prefix: String,
    /// More files, at their own paths relative to where the stream is unpacked, sent last.
    pub extra: Vec<MemoryFile>,
    /// The modification time of what has none on this machine (directories, symlinks, memory files), in
    /// seconds since 1970: the release's own time.
    pub time: i64,
}

impl Packing {
    /// The exact length of the stream.
    pub fn total(&self) -> u64 {
        let entries = self.entries.iter().filter_map(|index| self.tree.manifest().entries().get(*index));
        let entries = entries.map(|entry| {
            let link = if let Kind::Symlink { target } = &entry.kind { target.len() } else { 0 };
            let slash = usize::from(matches!(entry.kind, Kind::Directory { .. }));
            record(self.name(entry).len() + slash, link, entry.size())
        });
        let extra = self.extra.iter().map(|file| record(file.path().len(), 0, file.contents().len() as u64));
        entries.chain(extra).sum::<u64>() + END
    }

    /// Starts a thread that makes the stream; it ends when the stream is done or dropped.
    pub fn start(self) -> Body {
        stream::start(move |output| self.write(output))
    }

    fn name(&self, entry: &Entry) -> Vec<u8> {
        path::join(self.prefix.as_bytes(), &entry.path)
    }

    fn write(&self, output: &mut Output) -> Result<(), Stop> {
        if !self.prefix.is_empty() {
            path::check(self.prefix.as_bytes()).map_err(|reason| failed(self.prefix.as_bytes(), reason))?;
        }
        let known = self.tree.manifest().entries();
        let chosen = || self.entries.iter().filter_map(|index| Some((*index, known.get(*index)?)));
        // Folders first: then whatever follows finds its folder, with its mode.
        for (_, entry) in chosen() {
            if let Kind::Directory { mode } = entry.kind {
                let name = [self.name(entry).as_slice(), b"/"].concat();
                output.header(&name, &Header::new(tar::EntryType::Directory, mode, self.time))?;
            }
        }
        for (index, entry) in chosen() {
            let name = self.name(entry);
            match &entry.kind {
                Kind::Directory { .. } => {}
                Kind::Symlink { target } => {
                    let header = Header::new(tar::EntryType::Symlink, 0o777, self.time);
                    output.header(&name, &Header { link: target, ..header })?;
                }
                Kind::File { size, sha256, mode } => match self.tree.content(index) {
                    Some(Content::Memory(file)) => output.memory(&name, *mode, self.time, file.contents())?,
                    Some(Content::Disk(place)) => {
                        let shown = place.as_os_str().as_bytes();
                        let file = File::open(&place).map_err(|error| failed(shown, error))?;
                        let metadata = file.metadata().map_err(|error| failed(shown, error))?;
                        let header = Header::new(tar::EntryType::Regular, *mode, metadata.mtime());
                        output.header(&name, &Header { size: *size, ..header })?;
                        let sent = output.file(file, *size).map_err(|stop| stop.at(shown))?;
                        if sent != *sha256 {
                            return Err(failed(shown, CHANGED));
                        }
                    }
                    None => return Err(failed(&name, "its contents are missing")),
                },
            }
        }
        for file in &self.extra {
            path::check(file.path()).map_err(|reason| failed(file.path(), reason))?;
            output.memory(file.path(), file.mode(), self.time, file.contents())?;
        }
        output.finish()
    }
}
