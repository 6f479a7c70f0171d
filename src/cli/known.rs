//! What this machine knows of what hosts have: the manifests that they were sent, and the chunks of large files.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::artifact::known::Known;
use crate::artifact::patch::candidates;
use crate::artifact::{Chunks, Kind, Tree};
use crate::facts::Facts;
use crate::plan::Plan;
use crate::plan::transfer::held;

/// Fills in the manifests that hosts did not send because this machine has them. One that was lost meanwhile is none, so
/// that its host is sent everything.
pub fn recall(known: &Known, facts: &mut [Facts]) {
    let mut texts: BTreeMap<String, Bytes> = BTreeMap::new();
    for facts in facts {
        if let Some(digest) = &facts.known_manifest {
            let read = || Bytes::from(known.text(digest).unwrap_or_default());
            facts.manifest = texts.entry(digest.clone()).or_insert_with(read).clone();
        }
    }
}

/// Keeps what the hosts are sent, for the next deploy, beside what is done now. Where that fails, they send it back; so do
/// hosts beyond the first few that have settings of their own, for what is kept is bounded.
pub fn remember(known: Known, plan: &Plan) {
    let mut trees: Vec<Arc<Tree>> = Vec::new();
    for tree in plan.hosts.iter().filter_map(|host| host.transfer.as_ref()).map(|transfer| &transfer.tree) {
        if trees.len() < REMEMBERED && !trees.iter().any(|seen| seen.is_same(tree)) {
            trees.push(Arc::clone(tree));
        }
    }
    tokio::task::spawn_blocking(move || {
        for tree in trees {
            let _ = known.keep(tree.manifest());
        }
    });
}

/// The most manifests that one deploy keeps.
const REMEMBERED: usize = 16;

/// The chunks of the large files of which some host has another version. A file that cannot be read any more is
/// left out: sending it says why.
pub fn chunks(trees: &[Arc<Tree>], facts: &[Facts]) -> Chunks {
    let mut all = Chunks::default();
    for (tree, facts) in trees.iter().zip(facts) {
        let had = Chunks::parse(&facts.chunks);
        if had.is_empty() {
            // Nothing to compare with, and a manifest can be long.
            continue;
        }
        let old = held(facts);
        for index in candidates(tree.manifest(), &old, &had) {
            let Some(Kind::File { sha256, .. }) = tree.manifest().entries().get(index).map(|entry| &entry.kind) else {
                continue;
            };
            if all.get(sha256).is_none()
                && let Some(found) = tree.chunks(index)
            {
                all.insert(*sha256, found);
            }
        }
    }
    all
}
