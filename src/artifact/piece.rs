//! A very large file, or what is sent of it, travels in pieces, each of which goes on where an earlier upload was cut.
//!
//! The host keeps a piece in a file that is named by a SHA-256 that stands for the whole and by where the piece begins; how long
//! that file is says how much of it came. What is put together from pieces is verified like everything else.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use super::coding::Coding;
use super::patch::Range;
use super::stream::{self, Body, CHANGED, Output, Stop, Tally, failed};
use super::tree::Content;
use super::{Kind, Tree};

/// Files of at least this many bytes travel in pieces. Smaller ones are sent again where they were cut.
pub const HUGE: u64 = 8 << 20;

/// A piece is not made for less than this.
const LEAST: u64 = 4 << 20;

/// Bytes of a file that one stream carries.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The tree; shared, so that it is in memory once for all hosts.
    pub tree: Arc<Tree>,
    /// The index of the file's entry in the manifest.
    pub entry: usize,
    /// The ranges of the file that are sent to the host, as if they were a file of their own; none is the whole file.
    pub of: Vec<Range>,
    /// Which bytes of that.
    pub range: Range,
}

impl Piece {
    /// Whether it makes exactly the same bytes as `other`.
    pub fn is_same(&self, other: &Self) -> bool {
        let Self { tree, entry, of, range } = self;
        (entry, of, range) == (&other.entry, &other.of, &other.range) && tree.is_same(&other.tree)
    }

    /// Starts a thread that makes the stream; it ends when the stream is done or dropped.
    pub fn start(self, coding: Coding, tally: &Tally) -> Body {
        stream::start(coding, tally, move |output| self.write(output))
    }

    fn write(&self, output: &mut Output) -> Result<(), Stop> {
        let Some(Content::Disk(place)) = self.tree.content(self.entry) else {
            return Err(failed(b"a large file", "its contents are missing"));
        };
        let shown = place.as_os_str().as_bytes();
        let planned = self.tree.manifest().entries().get(self.entry).map_or(0, super::Entry::size);
        let mut file = File::open(&place).map_err(|error| failed(shown, error))?;
        if file.metadata().map_err(|error| failed(shown, error))?.len() != planned {
            return Err(failed(shown, CHANGED));
        }
        let ranges = if self.of.is_empty() { vec![self.range] } else { within(&self.of, self.range) };
        for range in ranges {
            file.seek(SeekFrom::Start(range.offset)).map_err(|error| failed(shown, error))?;
            // Whether these are still the bytes that the manifest means, the host sees when it verifies the whole file.
            output.read(&mut file, range.length, |_| {}).map_err(|stop| stop.at(shown))?;
        }
        output.flush()
    }
}

/// The bytes `wanted` of `all`, one after the other.
fn within(all: &[Range], wanted: Range) -> Vec<Range> {
    let (mut skipped, mut left) = (wanted.offset, wanted.length);
    let mut found = Vec::new();
    for range in all {
        let before = skipped.min(range.length);
        skipped -= before;
        let length = left.min(range.length - before);
        left -= length;
        if length > 0 {
            found.push(Range { offset: range.offset + before, length });
        }
    }
    found
}

/// Whether an entry travels in pieces: its path stands in a shell command on the host.
pub fn is_huge(entry: &super::Entry) -> bool {
    matches!(entry.kind, Kind::File { size, .. } if size >= HUGE) && std::str::from_utf8(&entry.path).is_ok()
}

/// A piece of a file as the host has it and as it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins in the file.
    pub offset: u64,
    /// How many bytes of it are there.
    pub had: u64,
    /// How many it will have.
    pub length: u64,
}

/// The pieces of a file of `size` bytes, of which the host has `had` (offsets and lengths), for so many streams at once.
///
/// What is there stays and is gone on with. What is missing is divided evenly, and not into crumbs.
pub fn extents(size: u64, had: &[(u64, u64)], streams: usize) -> Vec<Extent> {
    let mut known: Vec<(u64, u64)> = had.to_vec();
    known.sort_unstable();
    let overlap = known.windows(2).any(|pair| matches!(pair, [(at, length), (next, _)] if at + length > *next));
    let beyond = known.last().is_some_and(|(at, length)| at.saturating_add(*length) > size || *at >= size);
    if overlap || beyond {
        known.clear();
    }
    if known.first().is_none_or(|(at, _)| *at > 0) {
        known.insert(0, (0, 0));
    }
    let missing = size.saturating_sub(known.iter().map(|(_, length)| length).sum());
    let share = missing.div_ceil(streams.max(1) as u64).max(LEAST);
    let ends = known.iter().skip(1).map(|(at, _)| *at).chain([size]);
    let mut extents = Vec::new();
    for ((offset, had), end) in known.iter().copied().zip(ends) {
        let mut extent = Extent { offset, had, length: end - offset };
        // The last part of a gap may be half a share longer than the others.
        while extent.length - extent.had > share + share / 2 {
            let length = extent.had + share;
            extents.push(Extent { length, ..extent });
            extent = Extent { offset: extent.offset + length, had: 0, length: extent.length - length };
        }
        extents.push(extent);
    }
    extents
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn shown(size: u64, had: &[(u64, u64)], streams: usize) -> String {
        let had: Vec<_> = had.iter().map(|(at, length)| (at * MIB, length * MIB)).collect();
        let all = extents(size * MIB, &had, streams).into_iter();
        let all = all.map(|extent| format!("{}:{}/{}", extent.offset / MIB, extent.had / MIB, extent.length / MIB));
        all.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn pieces_go_on_where_they_were_cut() {
        assert_eq!(shown(1000, &[], 1), "0:0/1000");
        assert_eq!(shown(1000, &[(0, 300)], 1), "0:300/1000");
        assert_eq!(shown(900, &[], 3), "0:0/300 300:0/300 600:0/300");
        assert_eq!(shown(900, &[(0, 200), (300, 200), (600, 300)], 2), "0:200/300 300:200/300 600:300/300");
        assert_eq!(shown(1000, &[(0, 400)], 3), "0:400/600 600:0/200 800:0/200");
        assert_eq!(shown(20, &[], 6), "0:0/4 4:0/4 8:0/4 12:0/4 16:0/4");
        assert_eq!(shown(1000, &[(0, 1000)], 4), "0:1000/1000");
        // What cannot be is nothing.
        for had in [&[(0, 600), (500, 100)][..], &[(900, 200)], &[(2000, 0)]] {
            assert_eq!(shown(1000, had, 1), "0:0/1000");
        }
    }

    #[test]
    fn bytes_of_ranges_are_found() {
        let all = [(100, 10), (200, 5), (300, 20)].map(|(offset, length)| Range { offset, length });
        let shown = |offset, length| {
            let found = within(&all, Range { offset, length });
            found.iter().map(|range| format!("{}+{}", range.offset, range.length)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(0, 35), "100+10 200+5 300+20");
        assert_eq!(shown(4, 8), "104+6 200+2");
        assert_eq!(shown(10, 6), "200+5 300+1");
        assert_eq!(shown(30, 5), "315+5");
        assert_eq!(shown(35, 0), "");
    }

    proptest! {
        #[test]
        fn pieces_are_the_whole_file(
            size in 1_u64..2_000_000_000,
            had in prop::collection::vec((0_u64..2_000_000_000, 0_u64..500_000_000), 0..5),
            streams in 0_usize..8,
        ) {
            let found = extents(size, &had, streams);
            let mut at = 0;
            for extent in &found {
                prop_assert_eq!(extent.offset, at);
                prop_assert!(extent.had <= extent.length);
                prop_assert!(extent.had == 0 || had.contains(&(extent.offset, extent.had)));
                at += extent.length;
            }
            prop_assert_eq!(at, size);
        }
    }
}
