//! Which hosts are sent exactly the same bytes: those are packed once for all of them.
//!
//! Hosts with the same tree, the same live release and the same kind of link have all lots in common. Settings of its
//! own, or another live release, give a host other bytes, and those are packed for it.

use std::sync::Arc;

use super::Transfer;
use super::lot::Lot;
use crate::artifact::{Room, Shared};

/// Has lots that are the same made once.
pub(super) fn share<'a>(transfers: impl Iterator<Item = &'a mut Transfer>) {
    let room = Room::default();
    let mut lots: Vec<&mut Lot> = transfers.flat_map(|transfer| &mut transfer.lots).collect();
    for group in groups(&lots) {
        let shared = Arc::new(Shared::new(group.len(), &room));
        for index in group {
            if let Some(lot) = lots.get_mut(index) {
                lot.share(&shared);
            }
        }
    }
}

/// The indices of lots that are the same, where there are several.
fn groups(lots: &[&mut Lot]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(&Lot, Vec<usize>)> = Vec::new();
    for (index, lot) in lots.iter().enumerate() {
        match groups.iter_mut().find(|(first, _)| first.is_same(lot)) {
            Some((_, group)) => group.push(index),
            None => groups.push((lot, vec![index])),
        }
    }
    groups.into_iter().map(|(_, group)| group).filter(|group| group.len() > 1).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::artifact::{Chunks, Coding, Manifest, MemoryFile, Part, ScanOptions, Tally, Tree, scan};
    use crate::facts::{Current, Facts, Release, ReleaseState};
    use crate::layout::{Layout, ReleaseId};
    use crate::plan::transfer::Sending;

    /// What is sent to a host with these settings that has this manifest live.
    fn transfer(
        deploy_to: &str,
        tree: &Arc<Tree>,
        settings: &[MemoryFile],
        live: Option<(&str, &Manifest)>,
    ) -> Transfer {
        let mut facts = Facts { gnu_cp: true, ..Facts::default() };
        if let Some((id, manifest)) = live {
            let good = Release { present: true, state: Some(ReleaseState::Live), info: Default::default() };
            facts.releases.insert(ReleaseId::parse(id).unwrap(), good);
            facts.current = Current::Link { target: format!("releases/{id}"), exists: true };
            facts.manifest = manifest.to_bytes().into();
        }
        let sending = Sending {
            layout: &Layout::new(deploy_to),
            facts: &facts,
            release: &ReleaseId::parse("20261121T101509Z-bbbbbbb").unwrap(),
            time: 0,
            tree,
            settings,
            chunks: &Chunks::default(),
            hosts: 6,
            read_only: false,
        };
        sending.transfer().unwrap()
    }

    fn scanned(folder: &std::path::Path) -> Arc<Tree> {
        let part = Part { from: folder.to_owned(), to: String::new(), exclude: Vec::new() };
        Arc::new(scan(&[part], &ScanOptions::default()).unwrap())
    }

    #[tokio::test]
    async fn hosts_that_need_the_same_bytes_share_them_and_others_have_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "before").unwrap();
        let before = scanned(folder.path());
        fs::write(&file, "contents").unwrap();
        let tree = scanned(folder.path());
        let settings = |text: &str| [MemoryFile::new("settings", 0o600, text.into())];
        let (one, other) = ("20261121T101507Z-aaaaaaa", "20261121T101508Z-aaaaaaa");
        let live = |id| Some((id, before.manifest()));
        let mut transfers = [
            transfer("/srv/a", &tree, &[], live(one)),
            transfer("/srv/b", &tree, &settings("1"), live(one)),
            transfer("/srv/c", &tree, &settings("2"), live(one)),
            // Another folder, and another release with the same files, are no reason.
            transfer("/srv/d", &tree, &[], live(other)),
            transfer("/srv/e", &tree, &settings("1"), live(one)),
            // This one has it all already.
            transfer("/srv/f", &tree, &[], Some((one, tree.manifest()))),
        ];
        let lots: Vec<&mut Lot> = transfers.iter_mut().flat_map(|transfer| &mut transfer.lots).collect();
        assert_eq!(lots.len(), 6);
        assert_eq!(groups(&lots), [vec![0, 3], vec![1, 4]]);

        share(transfers.iter_mut());
        let sent = async |index: usize| {
            let mut body = transfers[index].lots[0].start(Coding::Plain, &Tally::default());
            let mut all = Vec::new();
            while let Some(chunk) = body.recv().await {
                all.extend_from_slice(&chunk.map_err(|error| error.to_string())?);
            }
            Ok::<_, String>(all)
        };
        let first = sent(0).await.unwrap();
        assert!(first.windows(8).any(|window| window == b"contents"));
        // What was packed for one is not read again for another.
        fs::remove_file(&file).unwrap();
        assert_eq!(sent(3).await.unwrap(), first);
        for index in [1, 2, 4] {
            assert!(sent(index).await.unwrap_err().contains("file"));
        }
    }
}
