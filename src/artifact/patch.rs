//! How a host puts a changed large file together: parts of the file it has, and parts that are sent.

use std::collections::HashMap;

use super::chunk::{Chunk, Chunks, LARGE};
use super::{Kind, Manifest};

/// The most segments of a patch. Each is a process on the host, so many small ones cost more than sending all.
const MOST_SEGMENTS: usize = 256;

/// A run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Where it begins.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
}

/// Where the next bytes of the new file come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// From the file that the host has, at this range of it.
    Had(Range),
    /// From what is sent; the range is one of the new file.
    Sent(Range),
}

/// A file of the new release that is made of the same file of the old one and of what is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The index of its entry in the new manifest.
    pub entry: usize,
    /// The new file, from its first byte to its last.
    pub segments: Vec<Segment>,
}

impl Patch {
    /// The ranges of the new file that are sent, in order.
    pub fn sent(&self) -> impl Iterator<Item = Range> + '_ {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Sent(range) => Some(*range),
            Segment::Had(_) => None,
        })
    }

    /// Whether what the host has of the file is where it was.
    pub fn keeps_places(&self) -> bool {
        let mut at = 0;
        self.segments.iter().all(|segment| {
            let (Segment::Had(range) | Segment::Sent(range)) = segment;
            let kept = range.offset == at;
            at += range.length;
            kept
        })
    }

    /// The bytes that are sent.
    pub fn bytes(&self) -> u64 {
        self.sent().map(|range| range.length).sum()
    }
}

/// The entries of `new` for which a patch may be possible: large files that `old` has with another content, of
/// which the host knows the chunks.
pub fn candidates<'a>(new: &'a Manifest, old: &'a Manifest, had: &'a Chunks) -> impl Iterator<Item = usize> + 'a {
    new.entries().iter().enumerate().filter_map(move |(index, entry)| {
        let (Kind::File { size, sha256, .. }, Kind::File { sha256: before, .. }) =
            (&entry.kind, &old.get(&entry.path)?.kind)
        else {
            return None;
        };
        // The path stands in a shell command on the host.
        let nameable = std::str::from_utf8(&entry.path).is_ok();
        (*size >= LARGE && sha256 != before && nameable && had.get(before).is_some()).then_some(index)
    })
}

/// The patches that are worth it: at least half of the file is there already.
pub fn patches(new: &Manifest, old: &Manifest, had: &Chunks, chunks: &Chunks) -> Vec<Patch> {
    candidates(new, old, had)
        .filter_map(|index| {
            let entry = new.entries().get(index)?;
            let (Kind::File { size, sha256, .. }, Kind::File { sha256: before, .. }) =
                (&entry.kind, &old.get(&entry.path)?.kind)
            else {
                return None;
            };
            let patch = Patch { entry: index, segments: segments(had.get(before)?, chunks.get(sha256)?) };
            (patch.segments.len() <= MOST_SEGMENTS && patch.bytes() <= size / 2).then_some(patch)
        })
        .collect()
}

/// The new file in as few segments as follow from its chunks.
fn segments(old: &[Chunk], new: &[Chunk]) -> Vec<Segment> {
    let mut places: HashMap<Chunk, Vec<u64>> = HashMap::new();
    let mut offset = 0;
    for chunk in old {
        places.entry(*chunk).or_default().push(offset);
        offset += u64::from(chunk.length);
    }
    let mut segments: Vec<Segment> = Vec::new();
    let mut at = 0;
    for chunk in new {
        let length = u64::from(chunk.length);
        match (segments.last_mut(), places.get(chunk).map(Vec::as_slice)) {
            // A chunk that is there several times goes on where the last one ended, if it can.
            (Some(Segment::Had(last)), Some(had)) if had.contains(&(last.offset + last.length)) => {
                last.length += length;
            }
            (_, Some([first, ..])) => segments.push(Segment::Had(Range { offset: *first, length })),
            (Some(Segment::Sent(last)), _) => last.length += length,
            _ => segments.push(Segment::Sent(Range { offset: at, length })),
        }
        at += length;
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::super::Entry;
    use super::*;

    fn chunks(text: &str) -> Vec<Chunk> {
        text.bytes().map(|byte| Chunk { length: 10, id: [byte; 16] }).collect()
    }

    fn shown(old: &str, new: &str) -> String {
        let shown = segments(&chunks(old), &chunks(new)).into_iter().map(|segment| match segment {
            Segment::Had(range) => format!("had {}+{}", range.offset, range.length),
            Segment::Sent(range) => format!("sent {}+{}", range.offset, range.length),
        });
        shown.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn segments_are_as_long_as_they_can_be() {
        assert_eq!(shown("abcd", "abcd"), "had 0+40");
        assert_eq!(shown("abcd", "abxyd"), "had 0+20, sent 20+20, had 30+10");
        assert_eq!(shown("abcd", "cdab"), "had 20+20, had 0+20");
        assert_eq!(shown("aaab", "aab"), "had 0+20, had 30+10");
        assert_eq!(shown("zazb", "zb"), "had 0+10, had 30+10");
        assert_eq!(shown("", "ab"), "sent 0+20");
        assert_eq!(shown("ab", ""), "");
    }

    #[test]
    fn only_large_files_that_are_mostly_there_are_patched() {
        let file = |path: &str, size: u64, byte: u8| Entry {
            path: path.as_bytes().into(),
            kind: Kind::File { size, sha256: [byte; 32], mode: 0o644 },
        };
        let old = Manifest::new(vec![file("big", LARGE, 1), file("same", LARGE, 3), file("small", 10, 1)]);
        let new = Manifest::new(vec![
            file("big", LARGE, 2),
            file("new", LARGE, 2),
            file("same", LARGE, 3),
            file("small", 10, 2),
        ]);
        let (mut had, mut now) = (Chunks::default(), Chunks::default());
        had.insert([1; 32], chunks("abc"));
        had.insert([3; 32], chunks("abc"));
        assert_eq!(candidates(&new, &old, &had).collect::<Vec<_>>(), [0]);
        now.insert([2; 32], chunks("abx"));
        let found = patches(&new, &old, &had, &now);
        assert_eq!(found.iter().map(|patch| (patch.entry, patch.bytes())).collect::<Vec<_>>(), [(0, 10)]);
        // Nothing is known of what the host has, or of the new file.
        assert_eq!(patches(&new, &old, &Chunks::default(), &now), []);
        assert_eq!(patches(&new, &old, &had, &Chunks::default()), []);
    }
}
