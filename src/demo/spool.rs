//! Input that a command has not read yet: in memory at first, then in a file without a name.
//!
//! russh opens the window again as soon as data arrives, read or not, and an inbox that is full stops the
//! whole connection: `cat` with a large body would wait for us while we wait for it. So an inbox takes what
//! comes, and its memory stays bounded.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};

/// How many bytes wait in memory.
const MEMORY: usize = 4 * 1024 * 1024;

/// How many bytes wait in the file; then the connection waits too.
const DISK: u64 = 4 * 1024 * 1024 * 1024;

/// How much comes back from the file at once.
const CHUNK: u64 = 256 * 1024;

/// Bytes in the order in which they came. What is at the front is always in memory.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    memory: VecDeque<Bytes>,
    in_memory: usize,
    file: Option<File>,
    read: u64,
    written: u64,
}

impl Spool {
    /// An empty one, whose file is made in `folder` where it needs one.
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), memory: VecDeque::new(), in_memory: 0, file: None, read: 0, written: 0 }
    }

    /// Adds `bytes` at the end.
    pub(super) fn push(&mut self, bytes: Bytes) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        // Behind what is in the file comes only the file, or bytes would overtake each other.
        if self.read == self.written && self.in_memory < MEMORY {
            self.in_memory += bytes.len();
            self.memory.push_back(bytes);
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile_in(&self.folder)?),
        };
        file.write_all_at(&bytes, self.written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// What comes next; empty where there is nothing.
    pub(super) fn front(&self) -> &[u8] {
        self.memory.front().map_or(&[], Bytes::as_ref)
    }

    /// The first `count` bytes of [`Spool::front`] are done with.
    pub(super) fn consume(&mut self, count: usize) -> io::Result<()> {
        let Some(front) = self.memory.front_mut() else { return Ok(()) };
        let count = count.min(front.len());
        front.advance(count);
        self.in_memory -= count;
        if front.is_empty() {
            self.memory.pop_front();
        }
        if self.memory.is_empty() { self.refill() } else { Ok(()) }
    }

    /// Whether there is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.memory.is_empty()
    }

    /// Whether no more should be taken in.
    pub(super) fn is_full(&self) -> bool {
        self.written - self.read >= DISK
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new(&self.folder);
    }

    fn refill(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let count = CHUNK.min(self.written - self.read);
        if count == 0 {
            return Ok(());
        }
        let mut chunk = vec![0; usize::try_from(count).unwrap_or(0)];
        file.read_exact_at(&mut chunk, self.read)?;
        self.read += count;
        self.in_memory += chunk.len();
        self.memory.push_back(chunk.into());
        if self.read == self.written {
            file.set_len(0)?;
            (self.read, self.written) = (0, 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_whether_they_were_in_the_file_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path());
        let (mut next_in, mut next_out) = (0u32, 0u32);
        // Three in, two out, until everything is in; then the rest.
        for round in 0u32.. {
            if round % 5 < 3 && next_in < 4096 {
                spool.push(Bytes::from(next_in.to_be_bytes().repeat(1024))).unwrap();
                next_in += 1;
            } else if !spool.is_empty() {
                let mut block = Vec::new();
                while block.len() < 4096 {
                    let taken = spool.front().len().min(4096 - block.len()).min(1500);
                    block.extend_from_slice(&spool.front()[..taken]);
                    spool.consume(taken).unwrap();
                }
                assert_eq!(block, next_out.to_be_bytes().repeat(1024));
                next_out += 1;
            } else if next_in == 4096 {
                break;
            }
            assert!(spool.in_memory <= MEMORY + 4096);
        }
        assert_eq!(next_out, 4096);
        assert!(spool.file.is_some());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
    }
}
