//! How the new release comes to a host: what is sent, what is copied from the live one, what is put together from both.

use std::sync::Arc;

use crate::artifact::patch::{self, Segment};
use crate::artifact::{
    Chunks, Difference, Kind, Manifest, MemoryFile, Packing, Parts, Patch, Tree, difference, manifest,
};
use crate::command::{Command, quote};
use crate::facts::Facts;
use crate::layout::{Layout, ReleaseId};
use crate::plan::deploy::is_good;
use crate::step::{Action, Task};

/// What is sent to one host.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// The tree with the host's own settings in it.
    pub tree: Arc<Tree>,
    /// How it differs from the live release.
    pub difference: Difference,
    /// The large files of which only parts are sent.
    pub patches: Vec<Patch>,
    /// The paths of the live release that are gone from the new one.
    pub removed: Vec<String>,
    /// The stream.
    pub packing: Packing,
    /// Unpacks the stream.
    pub command: Command,
}

impl Transfer {
    /// The bytes of files that are sent.
    pub fn bytes(&self) -> u64 {
        let whole = |patch: &Patch| self.tree.manifest().entries().get(patch.entry).map_or(0, manifest::Entry::size);
        let spared: u64 = self.patches.iter().map(|patch| whole(patch).saturating_sub(patch.bytes())).sum();
        self.difference.bytes_to_send.saturating_sub(spared)
    }
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
}

/// What the live release on a host holds, as far as it can be relied on: what was touched since is left out.
pub fn held(facts: &Facts) -> Manifest {
    // A manifest that does not parse is one that we do not have.
    let usable = facts.live().is_some_and(|live| is_good(facts, &live));
    let held = if usable { Manifest::parse(&facts.manifest).unwrap_or_default() } else { Manifest::default() };
    held.without(|path| facts.may_differ(path))
}

impl Sending<'_> {
    /// What is sent. The error names settings that do not fit into the tree.
    pub fn transfer(&self) -> Result<Transfer, String> {
        let tree = if self.settings.is_empty() {
            Arc::clone(self.tree)
        } else {
            let merged = self
                .tree
                .with_files(self.settings)
                .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
            Arc::new(merged)
        };
        let (old, had) = (held(self.facts), Chunks::parse(&self.facts.chunks));
        let patches = patch::patches(tree.manifest(), &old, &had, self.chunks);
        // Only GNU tar copies a list of names that may hold any byte; elsewhere everything is sent.
        let old = if self.facts.gnu_tar { old } else { Manifest::default() };
        let difference = difference(tree.manifest(), &old);
        let removed = difference
            .removed
            .iter()
            .filter_map(|index| old.entries().get(*index))
            .map(|entry| crate::output::visible(&entry.path))
            .collect();
        let mut entries = difference.send_list(tree.manifest());
        entries.retain(|index| patches.iter().all(|patch| patch.entry != *index));
        let parts = patches.iter().map(|patch| Parts {
            entry: patch.entry,
            path: self.record(&part(patch)),
            ranges: patch.sent().collect(),
        });
        let packing = Packing {
            parts: parts.collect(),
            entries,
            prefix: self.layout.release_target(self.release),
            extra: self.record_files(&tree, difference.keep_list(tree.manifest())),
            chunks: self.large(&tree, &had),
            time: self.time,
            tree: Arc::clone(&tree),
        };
        Ok(Transfer { command: unpack(self.layout), tree, difference, patches, removed, packing })
    }

    /// A path in the release's record, relative to `deploy_to`.
    fn record(&self, name: &str) -> String {
        format!(".ship/releases/{}/{name}", self.release)
    }

    /// Memory files that ship keeps beside the release: its manifest, checksums and the list to reuse.
    fn record_files(&self, tree: &Tree, keep: Vec<u8>) -> Vec<MemoryFile> {
        vec![
            MemoryFile::new(self.record("manifest"), 0o600, tree.manifest().to_bytes()),
            MemoryFile::new(self.record("sums"), 0o600, tree.manifest().sums()),
            MemoryFile::new(self.record("keep"), 0o600, keep),
        ]
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
fn part(patch: &Patch) -> String {
    format!("part-{}", patch.entry)
}

/// The tar command that unpacks a transfer under `deploy_to`.
///
/// Options as in GNU, BusyBox and BSD tar: modes of the stream (`p`), owners of the login user (`o`).
/// BusyBox applies the umask in spite of `p`, so there is none.
fn unpack(layout: &Layout) -> Command {
    Command::shell(format!("umask 0; cd {} && exec tar -xpof -", quote(layout.root())))
}

/// Receives the transfer, takes from the live release what it can, and verifies every file.
pub fn receive(layout: &Layout, facts: &Facts, release: &ReleaseId, transfer: &Transfer) -> Vec<Task> {
    let mut tasks = vec![Task::new("Upload the release", Action::Transfer)];
    let record = layout.record(release);
    let folder = layout.release(release);
    // What was taken from a release that turns out to be damaged makes the new one damaged.
    let source = facts.live().filter(|_| !transfer.difference.unchanged.is_empty() || !transfer.patches.is_empty());
    if let Some(live) = source.as_ref().filter(|_| !transfer.difference.unchanged.is_empty()) {
        let copy = Command::shell(format!(
            "set -e; umask 0; cd {old}; tar -cf - --null --no-recursion -T {keep} | tar -xpof - -C {new}",
            old = quote(&layout.release(live)),
            keep = quote(&format!("{record}/keep")),
            new = quote(&folder),
        ));
        tasks.push(Task::own("Copy unchanged files from the live release", copy));
    }
    if let Some(live) = source.as_ref().filter(|_| !transfer.patches.is_empty()) {
        let all: Vec<String> = transfer.patches.iter().filter_map(|patch| rebuild(patch, transfer, &record)).collect();
        let text = format!("set -e; umask 077; old={}\n{}", quote(&layout.release(live)), all.join("\n"),);
        tasks.push(Task::own("Put changed large files together", Command::shell(text).directory(&folder)));
    }
    if transfer.tree.manifest().files() > 0 {
        // What was copied came from a release that nobody can trust any more: the next deploy sends everything.
        let distrust = source.map(|live| format!("rm -f {}; ", quote(&format!("{}/verified", layout.record(&live)))));
        // The kernel stamps files by a clock that ticks every few milliseconds: what a step changes right afterwards
        // must have a later time than `verified`.
        let check = Command::shell(format!(
            "sha256sum -c {record}/sums >{record}/check || {{ grep -v ': OK$' {record}/check; {distrust}exit 70; }}; : >{record}/verified\n\
             n=0; while [ $n -lt 1000 ] && : >{record}/check && [ -z \"$(find {record}/check -cnewer {record}/verified)\" ]; do n=$((n + 1)); done; rm {record}/check",
            record = quote(&record),
            distrust = distrust.unwrap_or_default(),
        ))
        .directory(folder);
        let task = Task::own("Verify the release", check);
        tasks.push(task.meanings(&[(
            70,
            "files on the host are not what was sent; nothing was published, and the next deploy sends every file",
        )]));
    }
    tasks
}

/// Shell text that puts one file together in the release's folder, `$old` being the live release.
///
/// `tail -c +N` and `head -c` are in POSIX or in every system's head; both seek in a file rather than read it.
fn rebuild(patch: &Patch, transfer: &Transfer, record: &str) -> Option<String> {
    let entry = transfer.tree.manifest().entries().get(patch.entry)?;
    let Kind::File { mode, .. } = entry.kind else { return None };
    let path = std::str::from_utf8(&entry.path).ok()?;
    let mut sent: u64 = 0;
    let pieces: Vec<String> = patch
        .segments
        .iter()
        .map(|segment| match segment {
            Segment::Had(range) => format!("tail -c +{} \"$old/$f\" | head -c {}", range.offset + 1, range.length),
            Segment::Sent(range) => {
                let piece = format!("tail -c +{} \"$p\" | head -c {}", sent + 1, range.length);
                sent += range.length;
                piece
            }
        })
        .collect();
    Some(format!(
        "f={} p={}\n{{ {}; }} >\"./$f\"; chmod {mode:04o} \"./$f\"; rm \"$p\"",
        quote(path),
        quote(&format!("{record}/{}", part(patch))),
        pieces.join("; "),
    ))
}
