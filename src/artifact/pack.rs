//! The tar stream that carries a tree to a host.
//!
//! A file keeps its own modification time: web servers make `Last-Modified` and `ETag` of time and size,
//! and with one fixed time for all, a changed file of the same size would stay in the browsers' caches.
//!
//! The host unpacks with `umask 0; tar -x -p -o`: `-p` alone leaves BusyBox's tar under the umask. Every folder
//! is in the stream or exists, so nothing is made with that umask's modes.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::thread;

use super::chunk::{Chunks, LARGE};
use super::coding::Coding;
use super::patch::Range;
use super::stream::{self, Body, CHANGED, END, Header, Output, Stop, Tally, failed, record};
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
    /// Parts of files that the host puts together itself, sent after the entries.
    pub parts: Vec<Parts>,
    /// Where the chunks of the release's large files are written, with those that are known already; `None`
    /// where it has no large file. Those of other files are found while the stream is made.
    pub chunks: Option<(String, Chunks)>,
    /// The modification time of what has none on this machine (directories, symlinks, memory files), in
    /// seconds since 1970: the release's own time.
    pub time: i64,
}

/// Ranges of one file, one after the other, as a file of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The index of the file's entry in the manifest.
    pub entry: usize,
    /// The path of what is sent, relative to where the stream is unpacked.
    pub path: String,
    /// Which bytes of the file.
    pub ranges: Vec<Range>,
}

impl Parts {
    fn size(&self) -> u64 {
        self.ranges.iter().map(|range| range.length).sum()
    }
}

impl Packing {
    /// The length of the stream: exact, but for the chunks of files that are found while it is made.
    pub fn total(&self) -> u64 {
        let entries = self.entries.iter().filter_map(|index| self.tree.manifest().entries().get(*index));
        let entries = entries.map(|entry| {
            let link = if let Kind::Symlink { target } = &entry.kind { target.len() } else { 0 };
            let slash = usize::from(matches!(entry.kind, Kind::Directory { .. }));
            record(self.name(entry).len() + slash, link, entry.size())
        });
        let extra = self.extra.iter().map(|file| record(file.path().len(), 0, file.contents().len() as u64));
        let parts = self.parts.iter().map(|parts| record(parts.path.len(), 0, parts.size()));
        entries.chain(extra).chain(parts).sum::<u64>() + END
    }

    /// Whether it makes exactly the same bytes as `other`.
    pub fn is_same(&self, other: &Self) -> bool {
        let Self { tree, entries, prefix, extra, parts, chunks, time } = self;
        tree.is_same(&other.tree)
            && (prefix, time, parts, chunks) == (&other.prefix, &other.time, &other.parts, &other.chunks)
            && *entries == other.entries
            && *extra == other.extra
    }

    /// Starts a thread that makes the stream; it ends when the stream is done or dropped.
    pub fn start(self, coding: Coding, tally: &Tally) -> Body {
        stream::start(coding, tally, move |output| {
            // Beside the stream, which waits for the connection most of the time.
            thread::scope(|scope| {
                let chunks = scope.spawn(|| self.chunks());
                self.write(output, || chunks.join().unwrap_or_default())
            })
        })
    }

    /// Begins to look for the chunks of large files, which takes a while, beside streams that come before this one.
    pub fn look_ahead(&self) {
        if self.chunks.is_some() {
            let packing = self.clone();
            // The tree remembers what is found. Where no thread can be had, the stream waits for it.
            let _ = thread::Builder::new().name("chunks".to_owned()).spawn(move || packing.chunks());
        }
    }

    /// The same in several streams: each ends once it has so many bytes of files as `limits` says, the last has the
    /// rest and what is not of the tree.
    ///
    /// They may be unpacked at once: each has the folders above its first path.
    pub fn split(self, limits: &[u64]) -> Vec<Self> {
        let manifest = self.tree.manifest();
        let mut limits = limits.iter();
        let mut limit = limits.next();
        let mut streams = Vec::new();
        let (mut entries, mut bytes): (Vec<usize>, u64) = (Vec::new(), 0);
        for index in &self.entries {
            let Some(entry) = manifest.entries().get(*index) else { continue };
            if limit.is_some_and(|limit| bytes >= *limit) {
                streams.push(Self { extra: Vec::new(), parts: Vec::new(), chunks: None, entries, ..self.clone() });
                entries = path::above(&entry.path).filter_map(|folder| manifest.index(folder)).collect();
                bytes = 0;
                limit = limits.next();
            }
            entries.push(*index);
            bytes += record(entry.path.len(), 0, entry.size());
        }
        streams.push(Self { entries, ..self });
        streams
    }

    fn name(&self, entry: &Entry) -> Vec<u8> {
        path::join(self.prefix.as_bytes(), &entry.path)
    }

    /// The chunks of all large files, as far as they can be read.
    fn chunks(&self) -> Option<MemoryFile> {
        let (path, known) = self.chunks.as_ref()?;
        let mut chunks = known.clone();
        for (index, entry) in self.tree.manifest().entries().iter().enumerate() {
            let Kind::File { size, sha256, .. } = &entry.kind else { continue };
            if *size >= LARGE
                && known.get(sha256).is_none()
                && let Some(found) = self.tree.chunks(index)
            {
                chunks.insert(*sha256, found);
            }
        }
        Some(MemoryFile::new(path.as_bytes(), 0o600, chunks.to_bytes()))
    }

    fn write(&self, output: &mut Output, chunks: impl FnOnce() -> Option<MemoryFile>) -> Result<(), Stop> {
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
        for parts in &self.parts {
            path::check(parts.path.as_bytes()).map_err(|reason| failed(parts.path.as_bytes(), reason))?;
            let Some(Content::Disk(place)) = self.tree.content(parts.entry) else {
                return Err(failed(parts.path.as_bytes(), "its contents are missing"));
            };
            let shown = place.as_os_str().as_bytes();
            let mut file = File::open(&place).map_err(|error| failed(shown, error))?;
            let header = Header::new(tar::EntryType::Regular, 0o600, self.time);
            output.header(parts.path.as_bytes(), &Header { size: parts.size(), ..header })?;
            for range in &parts.ranges {
                file.seek(SeekFrom::Start(range.offset)).map_err(|error| failed(shown, error))?;
                // Whether they are still what the manifest means, the host sees when it verifies the whole file.
                output.copy(&mut file, range.length).map_err(|stop| stop.at(shown))?;
            }
            output.pad(parts.size())?;
        }
        for file in self.extra.iter().chain(&chunks()) {
            path::check(file.path()).map_err(|reason| failed(file.path(), reason))?;
            output.memory(file.path(), file.mode(), self.time, file.contents())?;
        }
        output.finish()
    }
}
