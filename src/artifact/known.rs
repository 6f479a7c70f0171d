//! The manifests that hosts were sent, kept on this machine: a host that names one of them need not send it back.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use super::Manifest;
use super::manifest::hex;

/// The most manifests that are kept. Their names travel to hosts.
const MOST: usize = 32;

/// The most bytes of all of them.
const MOST_BYTES: u64 = 64 << 20;

/// A folder of manifests, each named by its SHA-256.
#[derive(Clone, Debug)]
pub struct Known {
    folder: PathBuf,
}

impl Known {
    /// Those in `folder`, which need not be there.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The digests of those that are there, the newest first.
    pub fn digests(&self) -> Vec<String> {
        self.files().into_iter().map(|(_, _, name)| name).collect()
    }

    /// The text of a manifest; none where it is not there, or is not what its name says.
    pub fn text(&self, digest: &str) -> Option<Vec<u8>> {
        // A host says it, and may say anything.
        if !is_digest(digest) {
            return None;
        }
        let text = fs::read(self.folder.join(digest)).ok()?;
        (hex(&Sha256::digest(&text)) == digest).then_some(text)
    }

    /// Keeps a manifest, and forgets the oldest where there are too many.
    pub fn keep(&self, manifest: &Manifest) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        let text = manifest.to_bytes();
        file.write_all(&text)?;
        // One that is there already becomes the newest.
        file.persist(self.folder.join(hex(&Sha256::digest(&text))))?;
        let mut total = 0;
        for (index, (_, size, name)) in self.files().into_iter().enumerate() {
            total += size;
            // The newest stays, however long it is.
            if index >= MOST || (index > 0 && total > MOST_BYTES) {
                fs::remove_file(self.folder.join(name))?;
            }
        }
        Ok(())
    }

    /// When each was last kept, its bytes and its name, the newest first.
    fn files(&self) -> Vec<(SystemTime, u64, String)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let metadata = entry.metadata().ok().filter(|_| is_digest(&name))?;
                Some((metadata.modified().ok()?, metadata.len(), name))
            })
            .collect();
        files.sort_unstable();
        files.reverse();
        files
    }
}

fn is_digest(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::super::{Entry, Kind};
    use super::*;

    fn manifest(name: &str) -> Manifest {
        Manifest::new(vec![Entry { path: name.as_bytes().into(), kind: Kind::Directory { mode: 0o755 } }])
    }

    #[test]
    fn what_is_kept_is_found_by_its_digest_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let known = Known::new(folder.path().join("manifests"));
        assert!(known.digests().is_empty());
        let first = manifest("first");
        known.keep(&first).unwrap();
        assert_eq!(known.digests(), [first.digest()]);
        assert_eq!(known.text(&first.digest()), Some(first.to_bytes()));
        for number in 0..MOST + 3 {
            known.keep(&manifest(&number.to_string())).unwrap();
            // Another run needs it, so it is not the oldest.
            known.keep(&first).unwrap();
        }
        assert_eq!(known.digests().len(), MOST);
        assert!(known.text(&first.digest()).is_some());
        assert_eq!(known.text(&manifest("0").digest()), None);
    }

    #[test]
    fn a_damaged_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let known = Known::new(folder.path().to_owned());
        let (one, other) = (manifest("one"), manifest("other"));
        known.keep(&one).unwrap();
        fs::write(folder.path().join(one.digest()), other.to_bytes()).unwrap();
        assert_eq!(known.text(&one.digest()), None);
        let elsewhere = folder.path().join("elsewhere");
        fs::write(&elsewhere, one.to_bytes()).unwrap();
        assert_eq!(known.text(&elsewhere.to_string_lossy()), None);
        fs::write(folder.path().join("index"), "x").unwrap();
        assert_eq!(known.digests(), [one.digest()]);
    }
}
