//! How the new release comes to a host: what is sent, and what the host has already.

use std::sync::Arc;
use std::time::Duration;

use super::interrupted::{self, Taken};
use super::lot::{Lot, Pieces};
use crate::artifact::{
    Chunks, Coding, Difference, Entry, Kind, Manifest, MemoryFile, Packing, Parts, Patch, Tree, difference, manifest,
};
use crate::artifact::{lists, patch, path, unwritable};
use crate::facts::Facts;
use crate::layout::{Layout, ReleaseId};
use crate::plan::deploy::is_good;

/// What is sent to one host.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// The tree with the host's own settings in it.
    pub tree: Arc<Tree>,
    /// How it differs from the live release.
    pub difference: Difference,
    /// How the host comes to the release's lists.
    pub lists: Lists,
    /// Whether what is unchanged becomes hard links instead of copies.
    pub read_only: bool,
    /// The large files of which only parts are sent.
    pub patches: Vec<Patch>,
    /// The paths of the live release that are gone from the new one.
    pub removed: Vec<String>,
    /// The very large files that come in pieces, whole or what is sent of them.
    pub pieces: Vec<Pieces>,
    /// What interrupted uploads left of it on the host.
    pub taken: Vec<Taken>,
    /// What travels, each in a channel of its own, in this order.
    pub lots: Vec<Lot>,
    /// How many of them at once.
    pub streams: usize,
    /// Whether the one lot that there is travels with the commands around it, in place of a channel of its own.
    pub inline: bool,
    /// What is known of the link.
    pub link: Link,
}

/// How a host comes to the lists of a release: its manifest, its checksums and what is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lists {
    /// They are sent as they are.
    Sent {
        /// How many files are verified.
        sums: usize,
    },
    /// It makes them of what is sent, and of the live release's manifest where they are `based` on that.
    Made {
        /// Whether they are.
        based: bool,
        /// How many files are verified.
        sums: usize,
        /// The SHA-256 of the checksums, and of the list of what is copied.
        digests: [String; 2],
    },
}

/// What decides how streams to a host are written.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// The best that the host can read.
    pub coding: Coding,
    /// Whether it is so far away that the link is taken to be what is waited for.
    pub far: bool,
    /// How many hosts are sent something at once.
    pub hosts: usize,
}

impl Link {
    /// How a lot of `total` bytes is sent, which is an archive of files or not: with a decoder on the host only where that
    /// is worth it. Decoding zstd takes less of a host than its SSH server takes for the bytes that are spared, so archives
    /// are always worth it. A very large file is as a rule compressed already, and gzip takes longer than most links: there
    /// the link has to be what is waited for. Of a far host that is taken for granted, of a near one only what was sent
    /// before can tell: `speed`, in bytes a second. The stream itself compresses no more than it has time for
    /// ([`crate::artifact::coding`]).
    pub fn coding(self, total: u64, archive: bool, speed: Option<u64>) -> Coding {
        // The other hosts are about as fast.
        let slow = speed.map_or(self.far, |speed| speed.saturating_mul(self.hosts as u64) < SLOW);
        if slow && total >= WORTH || self.is_quick(archive) && total >= WORTH_NEAR {
            self.coding
        } else {
            Coding::Plain
        }
    }

    /// Whether compressing and decoding archives, or other lots, is quicker than sending and receiving them, over any link.
    pub fn is_quick(self, archive: bool) -> bool {
        archive && self.coding == Coding::Zstd
    }
}

impl Lists {
    /// How many files are verified by reading them.
    pub fn sums(&self) -> usize {
        match self {
            Self::Sent { sums } | Self::Made { sums, .. } => *sums,
        }
    }
}

impl Transfer {
    /// How many lots are carried at once.
    pub fn channels(&self) -> usize {
        self.streams.clamp(1, self.lots.len().max(1))
    }

    /// Nothing but `lot`, over a link of which nothing is known.
    pub fn of(lot: Lot) -> Self {
        Self {
            tree: Arc::default(),
            difference: Difference::default(),
            lists: Lists::Sent { sums: 0 },
            read_only: false,
            patches: Vec::new(),
            removed: Vec::new(),
            pieces: Vec::new(),
            taken: Vec::new(),
            lots: vec![lot],
            streams: 1,
            inline: false,
            link: Link { coding: Coding::Plain, far: false, hosts: 1 },
        }
    }

    /// How the first lot is compressed, when nothing is known of the link but how long an answer takes.
    pub fn first_coding(&self) -> Coding {
        match self.lots.first() {
            Some(lot) => self.link.coding(lot.total(), lot.packing().is_some(), None),
            None => Coding::Plain,
        }
    }

    /// The bytes of files that are sent.
    pub fn bytes(&self) -> u64 {
        let whole = |patch: &Patch| self.tree.manifest().entries().get(patch.entry).map_or(0, manifest::Entry::size);
        let spared: u64 = self.patches.iter().map(|patch| whole(patch).saturating_sub(patch.bytes())).sum();
        let there: u64 = self.pieces.iter().map(Pieces::had).sum();
        self.difference.bytes_to_send.saturating_sub(spared).saturating_sub(there).saturating_sub(self.taken())
    }

    /// The bytes of files that interrupted uploads left.
    pub fn taken(&self) -> u64 {
        self.taken.iter().map(|taken| taken.bytes(self.tree.manifest())).sum()
    }

    /// The bytes of files that become hard links.
    pub fn linked(&self) -> u64 {
        let unchanged = self.difference.unchanged.iter().filter(|_| self.read_only);
        unchanged.filter_map(|index| self.tree.manifest().entries().get(*index)).map(manifest::Entry::size).sum()
    }

    /// The bytes of files that the host reads to verify them.
    pub fn verified(&self) -> u64 {
        let all: u64 = self.tree.manifest().entries().iter().map(manifest::Entry::size).sum();
        all.saturating_sub(self.linked())
    }

    /// The most bytes that are on the host twice while pieces are put together.
    pub fn twice(&self) -> u64 {
        self.pieces.iter().map(Pieces::largest_but_first).max().unwrap_or(0)
    }
}

/// From here on the receive window of a channel (2 MiB in OpenSSH) is what limits it: at less, one channel carries more
/// than a gigabit link.
const FAR: Duration = Duration::from_millis(15);

/// The most channels for one host. sshd allows ten sessions in a connection (`MaxSessions`), and a run has two or
/// three others open.
const MOST_STREAMS: usize = 6;

/// The most channels for all hosts together, where each has one at least: each keeps up to a few MiB here.
const ALL_STREAMS: usize = 24;

/// A link that carries fewer bytes in a second, to all hosts together, is worth a decoder on each: one of 100 Mbit/s
/// is. Beyond it is rather a host's disk or a processor that is waited for.
const SLOW: u64 = 12 << 20;

/// So many bytes travel with commands, at least: a channel costs a host as much as reading them out of its shell's input.
const INLINE: u64 = 256 << 10;

/// So many do for each microsecond of the round trip that it spares: a third more is sent then (base64), which takes no
/// longer than that at 25 Mbit/s.
const INLINE_FAR: u64 = 9;

/// No more do, before they are compressed: the shell would read them longer than it takes to open a channel.
const INLINE_MOST: u64 = 1 << 20;

/// So many do for all hosts together: they are kept here, several times over.
const ALL_INLINE: u64 = 16 << 20;

/// Fewer bytes arrive before a decoder has started.
const WORTH: u64 = 64 << 10;

/// The same over a link that is not waited for.
const WORTH_NEAR: u64 = 1 << 20;

/// How many streams a host is sent at once, when it answers after `round_trip` and is one of `hosts`.
fn streams(round_trip: Option<Duration>, hosts: usize) -> usize {
    match round_trip {
        Some(time) if time >= FAR => (ALL_STREAMS / hosts.max(1)).clamp(1, MOST_STREAMS),
        _ => 1,
    }
}

/// The most bytes that travel with commands to each of so many hosts, which answers after `round_trip`.
fn inline(round_trip: Option<Duration>, hosts: usize) -> u64 {
    let micros = u64::try_from(round_trip.unwrap_or_default().as_micros()).unwrap_or(u64::MAX);
    micros.saturating_mul(INLINE_FAR).clamp(INLINE, INLINE_MOST).min(ALL_INLINE / hosts.max(1) as u64)
}

/// What a transfer is made of.
pub struct Sending<'a> {
    /// The host's paths.
    pub layout: &'a Layout,
    /// What it looked like.
    pub facts: &'a Facts,
    /// The new release.
    pub release: &'a ReleaseId,
    /// Seconds since 1970 of the release, for entries without a time of their own.
    pub time: i64,
    /// The host's tree, without settings.
    pub tree: &'a Arc<Tree>,
    /// Settings rendered for the host.
    pub settings: &'a [MemoryFile],
    /// The chunks of the tree's large files of which the host has another version.
    pub chunks: &'a Chunks,
    /// Whether no program changes an uploaded file, so that releases may share them.
    pub read_only: bool,
    /// How many hosts are sent something at once.
    pub hosts: usize,
}

/// What the live release on a host was made of. A manifest that does not parse is one that we do not have.
fn base(facts: &Facts) -> Manifest {
    let usable = facts.live().is_some_and(|live| is_good(facts, &live));
    if usable { Manifest::parse(&facts.manifest).unwrap_or_default() } else { Manifest::default() }
}

/// What the live release on a host holds, as far as it can be relied on: what was touched since is left out.
pub fn held(facts: &Facts) -> Manifest {
    base(facts).without(|path| facts.may_differ(path))
}

impl Sending<'_> {
    /// What is sent. The error names settings that do not fit into the tree.
    pub fn transfer(&self) -> Result<Transfer, String> {
        let tree = if self.settings.is_empty() {
            Arc::clone(self.tree)
        } else {
            let merged = self
                .tree
                .with_files(&self.settings())
                .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
            Arc::new(merged)
        };
        let (base, had) = (base(self.facts), Chunks::parse(&self.facts.chunks));
        let old = base.clone().without(|path| self.facts.may_differ(path));
        let mut patches = patch::patches(tree.manifest(), &old, &had, self.chunks);
        // Other programs than GNU's copy no list of paths: there everything is sent.
        let old = if self.facts.gnu_cp { old } else { Manifest::default() };
        let difference = difference(tree.manifest(), &old);
        let removed = difference
            .removed
            .iter()
            .filter_map(|index| old.entries().get(*index))
            .map(|entry| crate::output::visible(&entry.path))
            .collect();
        let streams = streams(self.facts.round_trip, self.hosts);
        let mut entries = difference.send_list(tree.manifest());
        let taken = interrupted::take(tree.manifest(), &mut entries, self.facts);
        patches.retain(|patch| entries.binary_search(&patch.entry).is_ok());
        entries.retain(|index| patches.iter().all(|patch| patch.entry != *index));
        let mut pieces = Pieces::of_patches(&tree, &patches, &self.facts.incoming, streams);
        let parts = patches.iter().filter(|patch| !pieces.iter().any(|pieces| pieces.is_for(patch)));
        let parts: Vec<Parts> = parts
            .map(|patch| Parts { entry: patch.entry, path: self.record(&part(patch)), ranges: patch.sent().collect() })
            .collect();
        pieces.extend(Pieces::of(&tree, &mut entries, &self.facts.incoming, streams));
        let (lists, mut extra) = self.lists(&base, tree.manifest(), &difference);
        extra.extend(interrupted::lists(&taken, tree.manifest(), |name| self.record(name)));
        let packing = Packing {
            parts,
            entries,
            prefix: self.layout.release_target(self.release),
            extra,
            chunks: self.large(&tree, &had),
            time: self.time,
            tree: Arc::clone(&tree),
        };
        let far = self.facts.round_trip.is_some_and(|time| time >= FAR);
        let coding = Coding::best(|program| self.facts.programs.contains_key(program));
        let link = Link { coding, far, hosts: self.hosts };
        let lots = super::lot::lots(self.layout, &tree, &pieces, packing, streams, link.is_quick(true));
        let inline = match lots.as_slice() {
            [lot] => {
                let plain = link.coding(lot.total(), true, None) == Coding::Plain;
                // What is compressed is half as long, as a rule.
                let travels = if plain { lot.total() } else { lot.total() / 2 };
                self.facts.can_inline()
                    && lot.total() <= INLINE_MOST
                    && travels <= inline(self.facts.round_trip, self.hosts)
            }
            _ => false,
        };
        Ok(Transfer {
            tree,
            difference,
            lists,
            read_only: self.read_only,
            patches,
            removed,
            pieces,
            taken,
            lots,
            streams,
            inline,
            link,
        })
    }

    /// The settings, with the modes that they get.
    fn settings(&self) -> Vec<MemoryFile> {
        let mode = |mode| if self.read_only { unwritable(mode) } else { mode };
        let settings = self.settings.iter();
        settings.map(|file| MemoryFile::new(file.path(), mode(file.mode()), file.contents().to_vec())).collect()
    }

    /// A path in the release's record, relative to `deploy_to`.
    fn record(&self, name: &str) -> String {
        format!(".ship/releases/{}/{name}", self.release)
    }

    /// The lists of the release, and what is sent for them.
    fn lists(&self, base: &Manifest, new: &Manifest, difference: &Difference) -> (Lists, Vec<MemoryFile>) {
        let file = |name, bytes| MemoryFile::new(self.record(name), 0o600, bytes);
        let doubtful = self.doubtful(new);
        let doubtful = |index: usize| doubtful.get(index).copied().unwrap_or_default();
        let mut verified: Vec<bool> = vec![true; new.entries().len()];
        for index in difference.unchanged.iter().filter(|_| self.read_only) {
            if let Some(verified) = verified.get_mut(*index) {
                *verified = doubtful(*index);
            }
        }
        let verified = |index: usize| verified.get(index).copied().unwrap_or(true);
        let awk = self.facts.program("awk").is_some();
        let files = new.entries().iter().enumerate().filter(|(_, entry)| matches!(entry.kind, Kind::File { .. }));
        let sums = files.filter(|(index, _)| verified(*index)).count();
        match lists::lists(base, new, &difference.unchanged, doubtful).filter(|_| awk) {
            Some(text) => {
                let digests = lists::digests(new, difference, verified);
                (Lists::Made { based: lists::is_based(&text), sums, digests }, vec![file("lists", text)])
            }
            None => {
                let keep = difference.keep_list(new);
                let all = vec![file("manifest", new.to_bytes()), file("sums", new.sums(verified)), file("keep", keep)];
                (Lists::Sent { sums }, all)
            }
        }
    }

    /// Of each entry, whether a hard link to what the live release has there may be one to another thing. Entries of a
    /// folder come in a row, as a rule, and are alike.
    fn doubtful(&self, new: &Manifest) -> Vec<bool> {
        let mut last: Option<(Option<&[u8]>, bool)> = None;
        let entries = new.entries().iter().filter(|_| self.read_only);
        let doubtful = entries.map(|Entry { path, .. }| {
            let folder = path::parent(path);
            match last {
                Some((same, doubtful)) if same == folder => doubtful,
                _ => {
                    let doubtful = self.facts.may_be_replaced(path);
                    last = Some((folder, doubtful));
                    doubtful
                }
            }
        });
        doubtful.collect()
    }

    /// The chunks of the release's large files that are known, and where all of them are written.
    fn large(&self, tree: &Tree, had: &Chunks) -> Option<(String, Chunks)> {
        let mut known = Chunks::default();
        let mut any = false;
        for entry in tree.manifest().entries() {
            if let Kind::File { size, sha256, .. } = &entry.kind
                && *size >= crate::artifact::chunk::LARGE
            {
                any = true;
                if let Some(chunks) = self.chunks.get(sha256).or_else(|| had.get(sha256)) {
                    known.insert(*sha256, chunks.to_vec());
                }
            }
        }
        any.then(|| (self.record("chunks"), known))
    }
}

/// The name in the record of what is sent for `patch`.
pub(super) fn part(patch: &Patch) -> String {
    format!("part-{}", patch.entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_waits_for_its_link_is_compressed() {
        let chosen = |total, far, speed| {
            let link = Link { coding: Coding::Gzip, far, hosts: 4 };
            assert_eq!(link.coding(total, true, speed), link.coding(total, false, speed));
            link.coding(total, true, speed) == Coding::Gzip
        };
        assert!(chosen(1 << 20, true, None));
        assert!(!chosen(1 << 20, false, None));
        assert!(chosen(1 << 20, false, Some(1 << 20)));
        // What all hosts take together is much.
        assert!(!chosen(1 << 20, true, Some(10 << 20)));
        assert!(!chosen(1000, true, None));
        let near = |total, archive| Link { coding: Coding::Zstd, far: false, hosts: 1 }.coding(total, archive, None);
        assert_eq!(
            [near(1 << 20, true), near(1 << 20, false), near(1 << 19, true)],
            [Coding::Zstd, Coding::Plain, Coding::Plain]
        );
    }

    #[test]
    fn many_hosts_share_the_memory_for_what_travels_with_commands() {
        assert_eq!([1, 64, 128, 200].map(|hosts| inline(None, hosts)), [256 << 10, 256 << 10, 128 << 10, 83_886]);
    }

    #[test]
    fn the_longer_a_round_trip_the_more_travels_with_commands() {
        let most = |millis| inline(Some(Duration::from_millis(millis)), 2);
        assert_eq!([1, 20, 50, 300].map(most), [256 << 10, 256 << 10, 450_000, 1 << 20]);
    }

    #[test]
    fn only_far_hosts_get_several_streams_and_many_hosts_share_them() {
        let at = |millis, hosts| streams(Some(Duration::from_millis(millis)), hosts);
        assert_eq!((at(1, 1), at(14, 1), at(15, 1), at(300, 1)), (1, 1, 6, 6));
        assert_eq!((at(50, 2), at(50, 6), at(50, 12), at(50, 200)), (6, 4, 2, 1));
        assert_eq!(streams(None, 1), 1);
    }
}
