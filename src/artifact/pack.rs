//! The tar stream that carries a tree to a host.
//!
//! A file keeps its own modification time: web servers make `Last-Modified` and `ETag` of time and size,
//! and with one fixed time for all, a changed file of the same size would stay in the browsers' caches.
//!
//! The host unpacks with `umask 0; tar -x -p -o`: `-p` alone leaves BusyBox's tar under the umask. Every folder
//! is in the stream or exists, so nothing is made with that umask's modes.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::chunk::{Chunks, LARGE};
use super::patch::Range;
use super::tree::Content;
use super::{Entry, Kind, MemoryFile, Tree, path};

/// A stream of chunks, the same as `session::Body`: its end is the end of the archive; an error means that
/// what was sent so far must not be used.
pub type Body = mpsc::Receiver<io::Result<Bytes>>;

/// Bytes of one chunk.
const CHUNK: usize = 256 * 1024;

/// Chunks that may wait for the connection: as much as one SSH window of OpenSSH's.
const WAITING: usize = 8;

/// Bytes of a tar block.
const BLOCK: u64 = 512;

/// The longest name that a header holds; one byte less than there is room for, so that it ends in NUL.
const NAME: usize = 99;

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
    /// where it has no large file. The chunks of files that are sent whole are found while they are sent.
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
        entries.chain(extra).chain(parts).sum::<u64>() + 2 * BLOCK
    }

    /// Starts a thread that makes the stream; it ends when the stream is done or dropped.
    pub fn start(self) -> Body {
        let (sender, body) = mpsc::channel(WAITING);
        let mut output = Output { sender: sender.clone(), chunk: Vec::with_capacity(CHUNK), complete: false };
        let made = thread::Builder::new().name("pack".to_owned()).spawn(move || {
            // Beside the stream, which waits for the connection most of the time.
            let result = thread::scope(|scope| {
                let chunks = scope.spawn(|| self.chunks());
                self.write(&mut output, || chunks.join().unwrap_or_default())
            });
            output.end(result);
        });
        if let Err(error) = made {
            // Fails only where the stream is gone; it is new, and empty.
            let _ = sender.try_send(Err(error));
        }
        body
    }

    fn name(&self, entry: &Entry) -> Vec<u8> {
        path::join(self.prefix.as_bytes(), &entry.path)
    }

    /// The chunks of all large files, as far as they can be read.
    fn chunks(&self) -> Option<MemoryFile> {
        let (path, known) = self.chunks.as_ref()?;
        let mut chunks = known.clone();
        for index in &self.entries {
            let Some(Entry { kind: Kind::File { size, sha256, .. }, .. }) = self.tree.manifest().entries().get(*index)
            else {
                continue;
            };
            if *size >= LARGE
                && let Some(Ok(found)) = self.tree.chunks(*index)
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
        output.bytes(&[0; 2 * BLOCK as usize])?;
        output.flush()
    }
}

const CHANGED: &str = "it changed after it was read for the manifest; nothing of it goes live";

/// The length of one entry with its long names.
fn record(name: usize, link: usize, size: u64) -> u64 {
    let long = |length: usize| if length > NAME { BLOCK + padded(length as u64 + 1) } else { 0 };
    BLOCK + long(name) + long(link) + padded(size)
}

fn padded(size: u64) -> u64 {
    size.next_multiple_of(BLOCK)
}

/// Why a stream ends early.
enum Stop {
    /// Nobody takes it any more.
    Gone,
    Failed(io::Error),
}

impl Stop {
    /// The same, naming the file.
    fn at(self, path: &[u8]) -> Self {
        match self {
            Self::Gone => Self::Gone,
            Self::Failed(error) => failed(path, error),
        }
    }
}

fn failed(path: &[u8], reason: impl std::fmt::Display) -> Stop {
    Stop::Failed(io::Error::other(format!("{}: {reason}", path::escape(path))))
}

/// What a header says apart from the name.
struct Header<'a> {
    kind: tar::EntryType,
    mode: u32,
    time: i64,
    size: u64,
    link: &'a [u8],
}

impl Header<'_> {
    fn new(kind: tar::EntryType, mode: u32, time: i64) -> Self {
        Self { kind, mode, time, size: 0, link: b"" }
    }
}

/// The chunk that is being filled.
struct Output {
    sender: mpsc::Sender<io::Result<Bytes>>,
    chunk: Vec<u8>,
    complete: bool,
}

impl Drop for Output {
    /// A tar that was cut at a file's end looks whole. If this thread panics, the stream ends in an error.
    fn drop(&mut self) {
        if !self.complete {
            let _ = self.sender.blocking_send(Err(io::Error::other("the archive was not made to its end")));
        }
    }
}

impl Output {
    fn end(&mut self, result: Result<(), Stop>) {
        self.complete = true;
        if let Err(Stop::Failed(error)) = result {
            // Where nobody listens, nobody takes the part for the whole either.
            let _ = self.sender.blocking_send(Err(error));
        }
    }

    fn flush(&mut self) -> Result<(), Stop> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.sender.blocking_send(Ok(chunk.into())).map_err(|_| Stop::Gone)
    }

    fn room(&self) -> usize {
        CHUNK.saturating_sub(self.chunk.len())
    }

    fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), Stop> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.room()));
            self.chunk.extend_from_slice(now);
            bytes = later;
            if self.room() == 0 {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn pad(&mut self, size: u64) -> Result<(), Stop> {
        const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
        let missing = (padded(size) - size) as usize;
        self.bytes(ZEROS.get(..missing).unwrap_or_default())
    }

    /// A header in GNU's format, names of any length and bytes: what GNU tar, BusyBox, bsdtar and Python
    /// read alike.
    fn header(&mut self, name: &[u8], header: &Header<'_>) -> Result<(), Stop> {
        for (bytes, kind) in [(header.link, tar::EntryType::GNULongLink), (name, tar::EntryType::GNULongName)] {
            if bytes.len() > NAME {
                let size = bytes.len() as u64 + 1;
                let long = Header { size, ..Header::new(kind, 0o644, 0) };
                self.block(b"././@LongLink", &long)?;
                self.bytes(bytes)?;
                self.bytes(b"\0")?;
                self.pad(size)?;
            }
        }
        self.block(name, header)
    }

    fn block(&mut self, name: &[u8], header: &Header<'_>) -> Result<(), Stop> {
        let mut block = tar::Header::new_gnu();
        let fields = block.as_old_mut();
        for (field, bytes) in [(&mut fields.name, name), (&mut fields.linkname, header.link)] {
            for (to, from) in field.iter_mut().take(NAME).zip(bytes) {
                *to = *from;
            }
        }
        block.set_entry_type(header.kind);
        block.set_mode(header.mode);
        block.set_uid(0);
        block.set_gid(0);
        block.set_size(header.size);
        // The field holds no time before 1970 and, in the digits that every tar reads, none after 2242.
        block.set_mtime(u64::try_from(header.time).unwrap_or(0).min(0o77_777_777_777));
        block.set_cksum();
        self.bytes(block.as_bytes())
    }

    fn memory(&mut self, name: &[u8], mode: u32, time: i64, contents: &[u8]) -> Result<(), Stop> {
        let size = contents.len() as u64;
        self.header(name, &Header { size, ..Header::new(tar::EntryType::Regular, mode, time) })?;
        self.bytes(contents)?;
        self.pad(size)
    }

    /// The contents of `file`, which must have `size` bytes; their digest.
    fn file(&mut self, mut file: File, size: u64) -> Result<[u8; 32], Stop> {
        let digest = self.copy(&mut file, size)?;
        self.pad(size)?;
        Ok(digest)
    }

    /// The next `size` bytes of `file`, which must be there; their digest.
    fn copy(&mut self, file: &mut File, size: u64) -> Result<[u8; 32], Stop> {
        let mut hash = Sha256::new();
        let mut left = size;
        while left > 0 {
            let start = self.chunk.len();
            let most = left.min(self.room() as u64);
            // Reads straight into the chunk, which has room for it, and goes on after interruptions.
            let count = file.take(most).read_to_end(&mut self.chunk).map_err(Stop::Failed)?;
            hash.update(self.chunk.get(start..).unwrap_or_default());
            if count as u64 != most {
                return Err(Stop::Failed(io::Error::other(CHANGED)));
            }
            left -= most;
            if self.room() == 0 {
                self.flush()?;
            }
        }
        Ok(hash.finalize().into())
    }
}
