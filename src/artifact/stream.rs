//! A tar stream that is made in a thread of its own and sent in chunks.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::coding::{Coder, Coding};
use super::path;

/// A stream of chunks, the same as `session::Body`: its end is the end of the archive; an error means that
/// what was sent so far must not be used.
pub type Body = mpsc::Receiver<io::Result<Bytes>>;

/// Bytes of one chunk.
pub const CHUNK: usize = 128 * 1024;

/// Chunks that may wait for the connection. Few: there may be many hosts with several streams each.
const WAITING: usize = 2;

/// Bytes of a tar block.
const BLOCK: u64 = 512;

/// Bytes of the end of an archive.
pub const END: u64 = 2 * BLOCK;

/// The longest name that a header holds; one byte less than there is room for, so that it ends in NUL.
const NAME: usize = 99;

/// What is said of a file whose contents are not those that were planned.
pub const CHANGED: &str = "it changed after it was read for the manifest; nothing of it goes live";

/// What the streams to one host have in common.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    made: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
}

impl Tally {
    /// How many bytes were handed to the connection, counted before they were compressed.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// So many more were.
    pub fn add(&self, made: u64) {
        self.made.fetch_add(made, Ordering::Relaxed);
    }

    /// The streams end in an error as soon as they can: another one failed, so nobody needs them.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// An error once they are to end.
    pub fn check(&self) -> io::Result<()> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("another part of it could not be sent"));
        }
        Ok(())
    }
}

/// Starts a thread that makes the stream; it ends when the stream is done or dropped.
pub fn start(
    coding: Coding,
    tally: &Tally,
    write: impl FnOnce(&mut Output) -> Result<(), Stop> + Send + 'static,
) -> Body {
    let (sender, body) = mpsc::channel(WAITING);
    let mut output = Output {
        sender: sender.clone(),
        chunk: Vec::with_capacity(CHUNK),
        complete: false,
        coder: Coder::new(coding),
        tally: tally.clone(),
    };
    let made = thread::Builder::new().name("pack".to_owned()).spawn(move || {
        let result = write(&mut output);
        output.end(result);
    });
    if let Err(error) = made {
        // Fails only where the stream is gone; it is new, and empty.
        let _ = sender.try_send(Err(error));
    }
    body
}

/// The length of one entry with its long names.
pub fn record(name: usize, link: usize, size: u64) -> u64 {
    let long = |length: usize| if length > NAME { BLOCK + padded(length as u64 + 1) } else { 0 };
    BLOCK + long(name) + long(link) + padded(size)
}

fn padded(size: u64) -> u64 {
    size.next_multiple_of(BLOCK)
}

/// Why a stream ends early.
pub enum Stop {
    /// Nobody takes it any more.
    Gone,
    /// It cannot be made to its end.
    Failed(io::Error),
}

impl Stop {
    /// The same, naming the file.
    pub fn at(self, path: &[u8]) -> Self {
        match self {
            Self::Gone => Self::Gone,
            Self::Failed(error) => failed(path, error),
        }
    }
}

/// The stream cannot be made, because of this file.
pub fn failed(path: &[u8], reason: impl std::fmt::Display) -> Stop {
    Stop::Failed(io::Error::other(format!("{}: {reason}", path::escape(path))))
}

/// What a header says apart from the name.
pub struct Header<'a> {
    /// What it is.
    pub kind: tar::EntryType,
    /// Its permission bits.
    pub mode: u32,
    /// Its modification time.
    pub time: i64,
    /// Bytes that follow.
    pub size: u64,
    /// Where a link points.
    pub link: &'a [u8],
}

impl Header<'_> {
    /// A header without contents.
    pub fn new(kind: tar::EntryType, mode: u32, time: i64) -> Self {
        Self { kind, mode, time, size: 0, link: b"" }
    }
}

/// The chunk that is being filled.
pub struct Output {
    sender: mpsc::Sender<io::Result<Bytes>>,
    chunk: Vec<u8>,
    complete: bool,
    coder: Coder,
    tally: Tally,
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

    /// The end of the archive.
    pub fn finish(&mut self) -> Result<(), Stop> {
        self.bytes(&[0; END as usize])?;
        self.flush()
    }

    /// Sends what was not enough for a chunk.
    pub fn flush(&mut self) -> Result<(), Stop> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.tally.check().map_err(Stop::Failed)?;
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        let made = chunk.len() as u64;
        let bytes = self.coder.code(chunk);
        let began = Instant::now();
        // Before it is on its way: whoever tells that the last chunk was sent tells all of them.
        self.tally.add(made);
        self.sender.blocking_send(Ok(bytes)).map_err(|_| Stop::Gone)?;
        self.coder.waited(began.elapsed());
        Ok(())
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

    /// What fills the last block after `size` bytes.
    pub fn pad(&mut self, size: u64) -> Result<(), Stop> {
        const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
        let missing = (padded(size) - size) as usize;
        self.bytes(ZEROS.get(..missing).unwrap_or_default())
    }

    /// A header in GNU's format, names of any length and bytes: what GNU tar, BusyBox, bsdtar and Python
    /// read alike.
    pub fn header(&mut self, name: &[u8], header: &Header<'_>) -> Result<(), Stop> {
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

    /// A file that is in memory.
    pub fn memory(&mut self, name: &[u8], mode: u32, time: i64, contents: &[u8]) -> Result<(), Stop> {
        let size = contents.len() as u64;
        self.header(name, &Header { size, ..Header::new(tar::EntryType::Regular, mode, time) })?;
        self.bytes(contents)?;
        self.pad(size)
    }

    /// The contents of `file`, which must have `size` bytes; their digest.
    pub fn file(&mut self, mut file: File, size: u64) -> Result<[u8; 32], Stop> {
        let digest = self.copy(&mut file, size)?;
        self.pad(size)?;
        Ok(digest)
    }

    /// The next `size` bytes of `file`, which must be there; their digest.
    pub fn copy(&mut self, file: &mut File, size: u64) -> Result<[u8; 32], Stop> {
        let mut hash = Sha256::new();
        self.read(file, size, |bytes| hash.update(bytes))?;
        Ok(hash.finalize().into())
    }

    /// The next `size` bytes of `file`, which must be there; `seen` is shown all of them.
    pub fn read(&mut self, file: &mut File, size: u64, mut seen: impl FnMut(&[u8])) -> Result<(), Stop> {
        let mut left = size;
        while left > 0 {
            let start = self.chunk.len();
            let most = left.min(self.room() as u64);
            // Reads straight into the chunk, which has room for it, and goes on after interruptions.
            let count = file.take(most).read_to_end(&mut self.chunk).map_err(Stop::Failed)?;
            seen(self.chunk.get(start..).unwrap_or_default());
            if count as u64 != most {
                return Err(Stop::Failed(io::Error::other(CHANGED)));
            }
            left -= most;
            if self.room() == 0 {
                self.flush()?;
            }
        }
        Ok(())
    }
}
