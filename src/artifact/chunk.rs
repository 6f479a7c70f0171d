//! Content-defined chunks of large files, so that a change moves only the chunks around it (FastCDC, 2020).
//!
//! A host keeps the chunks of a release's large files beside its manifest; comparing them with those of a new
//! version tells which parts it has already. They are a hint: what is put together from them is verified by the
//! manifest's SHA-256 before it can go live.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use fastcdc::v2020::{Normalization, cut, select_masks};
use twox_hash::XxHash3_128;

use super::digest::go_on;
use super::manifest::{hex, unhex};

/// Files of at least this many bytes are chunked. Below, sending all costs less than a process on the host.
pub const LARGE: u64 = 4 << 20;

/// Least, average and greatest bytes of a chunk: a 1 GiB file has about 4,000.
const SIZES: (usize, usize, usize) = (64 << 10, 256 << 10, 1 << 20);

/// The first line of the text, with the version of its format and of the way to cut.
const FIRST_LINE: &str = "ship chunks 2\n";

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chunk {
    /// Bytes.
    pub length: u32,
    /// Its XXH3, which costs a tenth of what SHA-256 does: no more than a hint hangs on it.
    pub id: [u8; 16],
}

impl Chunk {
    fn of(data: &[u8]) -> Self {
        let id = XxHash3_128::oneshot(data).to_be_bytes();
        Self { length: u32::try_from(data.len()).unwrap_or(u32::MAX), id }
    }
}

/// Bytes that are read ahead: what is left of them when a chunk might not end in it is moved, so they are twice the
/// greatest chunk.
const AHEAD: usize = 2 * SIZES.2;

/// The chunks of the file at `path`, in order; an error once `stop` is set.
pub fn of_file(path: &Path, stop: &AtomicBool) -> io::Result<Vec<Chunk>> {
    let mut file = File::open(path)?;
    let (least, average, most) = SIZES;
    let (small, large) = select_masks(average, Normalization::Level1);
    let mut buffer = vec![0; AHEAD];
    let (mut start, mut end, mut more) = (0, 0, true);
    let mut chunks = Vec::new();
    loop {
        if more && end - start < most {
            go_on(stop)?;
            buffer.copy_within(start..end, 0);
            (start, end) = (0, end - start);
            let room = buffer.get_mut(end..).unwrap_or_default();
            let count = fill(&mut file, room)?;
            more = count == room.len();
            end += count;
        }
        let rest = buffer.get(start..end).unwrap_or_default();
        let (_, length) = cut(rest, least, average, most, small, large, small << 1, large << 1);
        let Some(data @ [_, ..]) = rest.get(..length) else { return Ok(chunks) };
        chunks.push(Chunk::of(data));
        start += length;
    }
}

/// Reads until `room` is full or the file ends; how many bytes.
fn fill(file: &mut File, room: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest @ [_, ..]) = room.get_mut(filled..) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The chunks of files, by the SHA-256 of the whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    files: BTreeMap<[u8; 32], Vec<Chunk>>,
}

impl Chunks {
    /// Whether no file is known.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The chunks of the file with this digest.
    pub fn get(&self, sha256: &[u8; 32]) -> Option<&[Chunk]> {
        self.files.get(sha256).map(Vec::as_slice)
    }

    /// All files.
    pub fn into_files(self) -> impl Iterator<Item = ([u8; 32], Vec<Chunk>)> {
        self.files.into_iter()
    }

    /// Adds a file.
    pub fn insert(&mut self, sha256: [u8; 32], chunks: Vec<Chunk>) {
        self.files.insert(sha256, chunks);
    }

    /// The text that stays on the host: `file SHA256`, then `LENGTH ID` for each chunk.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = FIRST_LINE.as_bytes().to_vec();
        for (sha256, chunks) in &self.files {
            // Writing to a Vec cannot fail.
            let _ = writeln!(text, "file {}", hex(sha256));
            for chunk in chunks {
                let _ = writeln!(text, "{} {}", chunk.length, hex(&chunk.id));
            }
        }
        text
    }

    /// Reads what [`Chunks::to_bytes`] wrote. The bytes come back from a host and may be anything; nothing is
    /// known from a text that cannot be read to its end.
    pub fn parse(bytes: &[u8]) -> Self {
        Self::read(bytes).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.strip_prefix(FIRST_LINE)?;
        if !text.is_empty() && !text.ends_with('\n') {
            return None;
        }
        let mut files = BTreeMap::new();
        let mut current: Option<&mut Vec<Chunk>> = None;
        for line in text.lines() {
            let (first, second) = line.split_once(' ')?;
            if first == "file" {
                let sha256 = unhex(second.as_bytes())?;
                current = Some(files.entry(sha256).or_insert_with(Vec::new));
            } else {
                let id = unhex(second.as_bytes())?;
                current.as_mut()?.push(Chunk { length: first.parse().ok()?, id });
            }
        }
        Some(Self { files })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that no compression and no repetition makes smaller (xorshift).
    pub fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&next());
        }
        bytes.truncate(length);
        bytes
    }

    fn chunks(bytes: &[u8]) -> Vec<Chunk> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        of_file(file.path(), &AtomicBool::new(false)).unwrap()
    }

    #[test]
    fn an_insertion_changes_only_the_chunks_around_it() {
        let old = noise(1, 8 << 20);
        let mut new = old.clone();
        new.splice(4_000_000..4_000_000, *b"something that was not there");
        let (old, new) = (chunks(&old), chunks(&new));
        assert_eq!(old.iter().map(|chunk| u64::from(chunk.length)).sum::<u64>(), 8 << 20);
        assert!(old.len() > 10, "{}", old.len());
        let unknown = new.iter().filter(|chunk| !old.contains(chunk)).count();
        assert!((1..=3).contains(&unknown), "{unknown} of {}", new.len());
        assert_eq!(chunks(b""), []);
    }

    #[test]
    fn chunks_are_the_same_wherever_reading_stops() {
        for length in [1, SIZES.0, SIZES.2, AHEAD - 1, AHEAD, AHEAD + 1, 3 * AHEAD + 12_345] {
            let bytes = noise(2, length);
            let (least, average, most) = SIZES;
            let whole = fastcdc::v2020::FastCDC::new(&bytes, least, average, most);
            let expected: Vec<Chunk> = whole.map(|cut| Chunk::of(&bytes[cut.offset..][..cut.length])).collect();
            assert_eq!(chunks(&bytes), expected, "{length}");
        }
    }

    proptest! {
        #[test]
        fn the_text_is_read_back(files in prop::collection::btree_map(any::<[u8; 32]>(), prop::collection::vec((any::<u32>(), any::<[u8; 16]>()), 0..4), 0..4)) {
            let files = files.into_iter().map(|(sha256, chunks)| {
                (sha256, chunks.into_iter().map(|(length, id)| Chunk { length, id }).collect())
            });
            let chunks = Chunks { files: files.collect() };
            prop_assert_eq!(Chunks::parse(&chunks.to_bytes()), chunks);
        }

        #[test]
        fn anything_can_come_back(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            Chunks::parse(&bytes);
            Chunks::parse(&[FIRST_LINE.as_bytes(), &bytes].concat());
        }
    }
}
