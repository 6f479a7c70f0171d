//! What travels to a host in one channel each, and how very large files are put together from their pieces.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::artifact::patch::Range;
use crate::artifact::piece::{self, Extent};
use crate::artifact::{Body, Coding, Kind, Packing, Patch, Piece, Shared, Tally, Tree, manifest};
use crate::command::{Command, quote};
use crate::layout::{Layout, ReleaseId};

/// What one channel carries, and who takes it there.
#[derive(Clone, Debug)]
pub struct Lot {
    content: Arc<Content>,
    /// Shell text that goes where it belongs.
    place: String,
    /// What it has in common with lots of other hosts.
    shared: Option<Arc<Shared>>,
}

#[derive(Clone, Debug)]
enum Content {
    Archive(Packing),
    /// A piece, the file that it is kept in, and whether it goes on with what is there.
    Piece(Piece, String, bool),
}

/// A link that carries fewer bytes in a second is given up, after a while.
const SLOWEST: u64 = 16 << 10;

/// That while.
const SLOWEST_START: Duration = Duration::from_secs(600);

impl Lot {
    /// An archive that is unpacked where the shell text `place` goes.
    pub fn archive(packing: Packing, place: String) -> Self {
        Self { content: Arc::new(Content::Archive(packing)), place, shared: None }
    }

    /// What is in it, where it is an archive.
    pub fn packing(&self) -> Option<&Packing> {
        match &*self.content {
            Content::Archive(packing) => Some(packing),
            Content::Piece(..) => None,
        }
    }

    /// Its bytes, before they are compressed.
    pub fn total(&self) -> u64 {
        match &*self.content {
            Content::Archive(packing) => packing.total(),
            Content::Piece(piece, ..) => piece.range.length,
        }
    }

    /// What runs on the host.
    pub fn command(&self, coding: Coding) -> Command {
        let decoder = coding.decoder().map_or("exec ".to_owned(), |decoder| format!("{decoder} | "));
        let reader = match &*self.content {
            // Options as in GNU, BusyBox and BSD tar: modes of the stream (`p`), owners of the login user (`o`).
            Content::Archive(_) => "tar -xpof -".to_owned(),
            Content::Piece(_, path, false) => format!("cat >{path}"),
            Content::Piece(_, path, true) => format!("cat >>{path}"),
        };
        let patience = SLOWEST_START + Duration::from_secs(self.total() / SLOWEST);
        Command::shell(format!("{} && {decoder}{reader}", self.place)).timeout(patience)
    }

    /// The stream. Needs a tokio runtime.
    pub fn start(&self, coding: Coding, tally: &Tally) -> Body {
        let content = Arc::clone(&self.content);
        let make = move |tally: &Tally| match &*content {
            Content::Archive(packing) => packing.clone().start(coding, tally),
            Content::Piece(piece, ..) => piece.clone().start(coding, tally),
        };
        match &self.shared {
            Some(shared) => shared.start(coding, self.total(), tally, make),
            None => make(tally),
        }
    }

    /// Whether it carries exactly the same bytes as `other`, wherever they are put.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&*self.content, &*other.content) {
            (Content::Archive(one), Content::Archive(other)) => one.is_same(other),
            (Content::Piece(one, ..), Content::Piece(other, ..)) => one.is_same(other),
            (Content::Archive(_), Content::Piece(..)) | (Content::Piece(..), Content::Archive(_)) => false,
        }
    }

    /// Makes it one of those that `shared` is sent to.
    pub fn share(&mut self, shared: &Arc<Shared>) {
        self.shared = Some(Arc::clone(shared));
    }

    /// Begins what takes a while, beside the lots that come before this one.
    pub fn look_ahead(&self) {
        if let Content::Archive(packing) = &*self.content {
            packing.look_ahead();
        }
    }
}

/// A very large file, wherever the release has it, or what is sent of one, and its pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pieces {
    /// A SHA-256 that stands for the whole, which the pieces are named by.
    pub name: String,
    /// The ranges of the file that are sent where the host has the others; none is the whole file.
    pub of: Vec<Range>,
    /// The indices of its entries in the manifest: one, unless there are copies.
    pub entries: Vec<usize>,
    /// The pieces, from the first byte to the last.
    pub extents: Vec<Extent>,
}

/// The folder of pieces, relative to `deploy_to`.
const INCOMING: &str = ".ship/incoming";

impl Pieces {
    /// Takes the very large files out of `entries`.
    pub(super) fn of(
        tree: &Tree,
        entries: &mut Vec<usize>,
        incoming: &BTreeMap<String, Vec<(u64, u64)>>,
        streams: usize,
    ) -> Vec<Self> {
        let mut found: BTreeMap<String, Self> = BTreeMap::new();
        entries.retain(|index| {
            let Some(entry) = tree.manifest().entries().get(*index).filter(|entry| piece::is_huge(entry)) else {
                return true;
            };
            let Kind::File { size, sha256, .. } = &entry.kind else { return true };
            let name = manifest::hex(sha256);
            let had = incoming.get(&name).map(Vec::as_slice).unwrap_or_default();
            let fresh = || Self {
                entries: Vec::new(),
                extents: piece::extents(*size, had, streams),
                name: name.clone(),
                of: Vec::new(),
            };
            found.entry(name.clone()).or_insert_with(fresh).entries.push(*index);
            false
        });
        found.into_values().collect()
    }

    /// What is sent of very large files of which the host has the rest, where that alone is very large.
    pub(super) fn of_patches(
        tree: &Tree,
        patches: &[Patch],
        incoming: &BTreeMap<String, Vec<(u64, u64)>>,
        streams: usize,
    ) -> Vec<Self> {
        let large = patches.iter().filter(|patch| patch.bytes() >= piece::HUGE);
        let found = large.filter_map(|patch| {
            let Kind::File { sha256, .. } = &tree.manifest().entries().get(patch.entry)?.kind else { return None };
            let name = patch.name(sha256);
            let had = incoming.get(&name).map(Vec::as_slice).unwrap_or_default();
            let extents = piece::extents(patch.bytes(), had, streams);
            Some(Self { name, of: patch.sent().collect(), entries: vec![patch.entry], extents })
        });
        found.collect()
    }

    /// Whether they are what is sent for `patch`.
    pub fn is_for(&self, patch: &Patch) -> bool {
        !self.of.is_empty() && self.entries.contains(&patch.entry)
    }

    /// Shell text that makes one file of all, in `deploy_to`, and the path of that file.
    pub(super) fn join(&self) -> (Vec<String>, String) {
        let mut all = self.extents.iter().map(|extent| self.path(extent));
        let first = all.next().unwrap_or_default();
        (all.map(|next| format!("cat {next} >>{first}; rm {next}")).collect(), first)
    }

    /// How many bytes of it are there already.
    pub fn had(&self) -> u64 {
        self.extents.iter().map(|extent| extent.had).sum()
    }

    /// The greatest of the pieces that are appended to the first.
    pub fn largest_but_first(&self) -> u64 {
        self.extents.iter().skip(1).map(|extent| extent.length).max().unwrap_or(0)
    }

    fn path(&self, extent: &Extent) -> String {
        format!("{INCOMING}/{}.{}", self.name, extent.offset)
    }

    /// One lot for each piece of which something is missing.
    fn lots(&self, layout: &Layout, tree: &Arc<Tree>) -> impl Iterator<Item = Lot> {
        let missing = self.extents.iter().filter(|extent| extent.had < extent.length);
        missing.filter_map(move |extent| {
            let range = Range { offset: extent.offset + extent.had, length: extent.length - extent.had };
            let piece = Piece { tree: Arc::clone(tree), entry: *self.entries.first()?, of: self.of.clone(), range };
            // What cannot be gone on with is written anew.
            Some(Lot {
                content: Arc::new(Content::Piece(piece, self.path(extent), extent.had > 0)),
                place: format!("umask 077; cd {} && mkdir -p {INCOMING}", quote(layout.root())),
                shared: None,
            })
        })
    }
}

/// An archive is not divided into less than this.
const LEAST: u64 = 4 << 20;

/// What is sent first where one stream carries all, so that its speed can decide about the rest.
const PROBE: u64 = 4 << 20;

/// Everything that travels, in its order. Where the archive is `decided`, nothing is sent first to learn how to send it.
pub(super) fn lots(
    layout: &Layout,
    tree: &Arc<Tree>,
    pieces: &[Pieces],
    packing: Packing,
    streams: usize,
    decided: bool,
) -> Vec<Lot> {
    // The largest first, so that no stream is left alone with one at the end.
    let mut lots: Vec<Lot> = pieces.iter().flat_map(|pieces| pieces.lots(layout, tree)).collect();
    let total = packing.total();
    let limits = if streams > 1 {
        let count = usize::try_from(total / LEAST).unwrap_or(usize::MAX).clamp(1, streams);
        vec![total / count as u64; count - 1]
    } else if !decided && total > 2 * PROBE && lots.is_empty() {
        vec![PROBE]
    } else {
        Vec::new()
    };
    if streams == 1
        && let Some(first) = lots.first().cloned()
    {
        lots = first.probed().into_iter().chain(lots.into_iter().skip(1)).collect();
    }
    // BusyBox applies the umask in spite of `p`, so there is none.
    let place = format!("umask 0; cd {}", quote(layout.root()));
    lots.extend(packing.split(&limits).into_iter().map(|packing| Lot::archive(packing, place.clone())));
    lots
}

impl Lot {
    /// A long piece as a short one and the rest, which the host appends.
    fn probed(self) -> Vec<Self> {
        let Content::Piece(piece, path, append) = &*self.content else { return vec![self] };
        if piece.range.length <= 2 * PROBE {
            return vec![self];
        }
        let (mut first, mut rest) = (piece.clone(), piece.clone());
        first.range.length = PROBE;
        rest.range.offset += PROBE;
        rest.range.length -= PROBE;
        let lot =
            |piece, append| Self { content: Arc::new(Content::Piece(piece, path.clone(), append)), ..self.clone() };
        vec![lot(first, *append), lot(rest, true)]
    }
}

/// Seconds since 1970 for touch(1), in UTC: the same time on every host, as web servers make `ETag` of it.
pub(super) fn stamp(time: i64) -> String {
    jiff::Timestamp::from_second(time).unwrap_or_default().strftime("%Y%m%d%H%M.%S").to_string()
}

/// Puts whole files together from their pieces, in the release's folder.
pub(super) fn assemble(layout: &Layout, release: &ReleaseId, time: i64, tree: &Tree, pieces: &[Pieces]) -> Command {
    let folder = layout.release_target(release);
    let time = stamp(time);
    let mut lines = vec!["set -e; umask 077".to_owned()];
    for file in pieces.iter().filter(|pieces| pieces.of.is_empty()) {
        let (joining, first) = file.join();
        lines.extend(joining);
        let mut targets = file.entries.iter().filter_map(|index| tree.manifest().entries().get(*index));
        let Some(last) = targets.next() else { continue };
        let mut settle = |verb: &str, entry: &manifest::Entry| {
            let (Kind::File { mode, .. }, Ok(path)) = (&entry.kind, std::str::from_utf8(&entry.path)) else { return };
            let path = quote(&format!("{folder}/{path}")).into_owned();
            lines.push(format!("{verb} {first} {path}; chmod {mode:04o} {path}; TZ=UTC0 touch -t {time} {path}"));
        };
        targets.for_each(|entry| settle("cp", entry));
        settle("mv", last);
    }
    Command::shell(lines.join("\n")).directory(layout.root())
}

/// Removes pieces that this deploy has no use for.
pub(super) fn forget(layout: &Layout, names: &[&str]) -> Command {
    let files: Vec<String> = names.iter().map(|name| format!("{INCOMING}/{name}.*")).collect();
    // The names are hexadecimal digits: see `Facts::parse`.
    Command::subshell(format!("rm -f {}", files.join(" "))).directory(layout.root())
}
