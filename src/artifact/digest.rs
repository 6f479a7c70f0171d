//! SHA-256 of files, and beside it the chunks of large ones, over all cores, with an index that spares what did not change.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use sha2::{Digest as _, Sha256};

use super::chunk::{self, Chunk, LARGE};

/// The first bytes of the index, with the version of its format.
const MAGIC: &[u8; 16] = b"ship index 1\n\0\0\0";

/// Bytes of one record: seven numbers and a digest.
const RECORD: usize = 7 * 8 + 32;

/// Bytes that a thread reads at a time.
const CHUNK: usize = 128 * 1024;

/// What says that a file is the one that was hashed: as in git's index, any write changes its ctime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of a file.
    pub fn new(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// A file to hash.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where it is.
    pub path: PathBuf,
    /// What it was when it was found.
    pub stamp: Stamp,
}

/// What was found out about a file.
#[derive(Clone, Debug)]
pub struct Digest {
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// Its chunks, where it is large and had to be read.
    pub chunks: Option<Vec<Chunk>>,
}

/// The digests of `files`, in their order. `index` is read and written where given; it may be missing or
/// damaged, and failing to write it only costs time later. Once `stop` is set, what is not hashed yet is an error.
pub fn digests(files: &[Wanted], index: Option<&Path>, stop: &AtomicBool) -> Vec<io::Result<Digest>> {
    let fresh = index.and_then(Index::create);
    let known = index.map(read_index).unwrap_or_default();
    let lookup = |file: &Wanted| {
        let (stamp, sha256) = known.get(&(file.stamp.device, file.stamp.inode))?;
        (*stamp == file.stamp).then_some(Digest { sha256: *sha256, chunks: None })
    };
    let mut found: Vec<Option<io::Result<Digest>>> = files.iter().map(|file| lookup(file).map(Ok)).collect();
    let missing: Vec<usize> =
        found.iter().enumerate().filter(|(_, known)| known.is_none()).map(|(index, _)| index).collect();
    let read = read_all(files, &missing, stop);
    for (index, result) in read.hashed {
        if let Some(place) = found.get_mut(index) {
            *place = Some(result.map(|sha256| Digest { sha256, chunks: None }));
        }
    }
    for (index, chunks) in read.cut {
        if let Some(Some(Ok(digest))) = found.get_mut(index) {
            digest.chunks = Some(chunks);
        }
    }
    let results: Vec<_> =
        found.into_iter().map(|result| result.unwrap_or_else(|| Err(io::Error::other("it was not hashed")))).collect();
    if let (Some(fresh), false) = (fresh, missing.is_empty() && known.len() == files.len()) {
        // An index that cannot be written is not worth failing a deploy for.
        let _ = fresh.write(files, &results);
    }
    results
}

/// What one thread does with one file.
enum Job {
    Hash(usize),
    /// Whoever hashes a large file has one core busy with it; that another finds its chunks meanwhile costs no time.
    Cut(usize),
}

/// What came of it, by the index of the file.
#[derive(Default)]
struct Read {
    hashed: Vec<(usize, io::Result<[u8; 32]>)>,
    cut: Vec<(usize, Vec<Chunk>)>,
}

fn read_all(files: &[Wanted], missing: &[usize], stop: &AtomicBool) -> Read {
    let large = |index: usize| files.get(index).is_some_and(|file| file.stamp.size >= LARGE);
    let jobs = missing.iter().flat_map(|index| [Some(Job::Hash(*index)), large(*index).then_some(Job::Cut(*index))]);
    let jobs: Vec<Job> = jobs.flatten().collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut buffer = vec![0; CHUNK];
        let mut read = Read::default();
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (Job::Hash(index) | Job::Cut(index)) = job;
            let Some(file) = files.get(*index) else { break };
            match job {
                Job::Hash(_) => read.hashed.push((*index, hash(file, &mut buffer, stop))),
                // That it cannot be read, or changes, is seen by whoever hashes it.
                Job::Cut(_) => read.cut.extend(chunk::of_file(&file.path, stop).ok().map(|chunks| (*index, chunks))),
            }
        }
        read
    };
    let cores = thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    if cores < 2 {
        return work();
    }
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let mut all = Read::default();
        for read in threads.into_iter().map(|thread| thread.join().unwrap_or_default()) {
            all.hashed.extend(read.hashed);
            all.cut.extend(read.cut);
        }
        all
    })
}

fn hash(file: &Wanted, buffer: &mut [u8], stop: &AtomicBool) -> io::Result<[u8; 32]> {
    let changed = || io::Error::other("it changed while it was read");
    let mut open = File::open(&file.path)?;
    if Stamp::new(&open.metadata()?) != file.stamp {
        return Err(changed());
    }
    let mut hash = Sha256::new();
    let mut total = 0;
    loop {
        go_on(stop)?;
        let count = match open.read(buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(buffer.get(..count).unwrap_or_default());
        total += count as u64;
    }
    // Small files are re-checked too: two system calls each are a small price for a manifest that is true.
    if total != file.stamp.size || Stamp::new(&open.metadata()?) != file.stamp {
        return Err(changed());
    }
    Ok(hash.finalize().into())
}

/// An error once nobody waits for what is read.
pub(super) fn go_on(stop: &AtomicBool) -> io::Result<()> {
    if stop.load(Ordering::Relaxed) { Err(io::Error::other("nobody waits for it any more")) } else { Ok(()) }
}

/// A new index, and the file system's time before anything was hashed.
struct Index {
    file: tempfile::NamedTempFile,
    path: PathBuf,
    begun: (i64, i64),
}

impl Index {
    fn create(path: &Path) -> Option<Self> {
        let file = tempfile::NamedTempFile::new_in(path.parent()?).ok()?;
        let metadata = file.as_file().metadata().ok()?;
        Some(Self { file, path: path.to_owned(), begun: (metadata.mtime(), metadata.mtime_nsec()) })
    }

    /// Whether a later write must give the file another ctime. The file system's clock ticks: a file that
    /// changed in the tick in which we began could change again in it ("racy git").
    fn settled(&self, stamp: &Stamp) -> bool {
        let (seconds, nanoseconds) = stamp.changed.max(stamp.modified);
        if nanoseconds == 0 {
            // Perhaps a file system that counts whole seconds, or two.
            return seconds + 2 < self.begun.0;
        }
        (seconds, nanoseconds) < self.begun
    }

    fn write(self, files: &[Wanted], results: &[io::Result<Digest>]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(MAGIC.len() + files.len() * RECORD + 32);
        bytes.extend_from_slice(MAGIC);
        for (file, result) in files.iter().zip(results) {
            let (Ok(Digest { sha256, .. }), true) = (result, self.settled(&file.stamp)) else { continue };
            let stamp = &file.stamp;
            for number in [stamp.device, stamp.inode, stamp.size] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            for number in [stamp.modified.0, stamp.modified.1, stamp.changed.0, stamp.changed.1] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(sha256);
        }
        let check = Sha256::digest(&bytes);
        bytes.extend_from_slice(&check);
        self.file.as_file().write_all(&bytes)?;
        self.file.persist(&self.path)?;
        Ok(())
    }
}

/// What is known of a file, by its device and inode.
type Known = HashMap<(u64, u64), Digested>;

type Digested = (Stamp, [u8; 32]);

/// What the index at `path` says; nothing, where it is missing, damaged or of another version.
fn read_index(path: &Path) -> Known {
    let Ok(bytes) = std::fs::read(path) else { return Known::new() };
    let Some((body, check)) = bytes.split_last_chunk::<32>() else { return Known::new() };
    let Some(records) = body.strip_prefix(MAGIC) else { return Known::new() };
    if Sha256::digest(body).as_slice() != check {
        return Known::new();
    }
    records.chunks_exact(RECORD).filter_map(read_record).collect()
}

fn read_record(record: &[u8]) -> Option<((u64, u64), Digested)> {
    let (numbers, sha256) = record.split_last_chunk::<32>()?;
    let mut numbers = numbers.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok());
    let mut next = || numbers.next();
    let (device, inode, size) = (u64::from_le_bytes(next()?), u64::from_le_bytes(next()?), u64::from_le_bytes(next()?));
    let modified = (i64::from_le_bytes(next()?), i64::from_le_bytes(next()?));
    let changed = (i64::from_le_bytes(next()?), i64::from_le_bytes(next()?));
    Some(((device, inode), (Stamp { device, inode, size, modified, changed }, *sha256)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::{Duration, SystemTime};

    fn wanted(path: &Path) -> Wanted {
        Wanted { path: path.to_owned(), stamp: Stamp::new(&fs::symlink_metadata(path).unwrap()) }
    }

    fn sha(bytes: &[u8]) -> [u8; 32] {
        Sha256::digest(bytes).into()
    }

    /// Lets the file system's clock tick.
    fn tick() {
        thread::sleep(Duration::from_millis(30));
    }

    fn digests(files: &[Wanted], index: Option<&Path>) -> Vec<io::Result<Digest>> {
        super::digests(files, index, &AtomicBool::new(false))
    }

    #[test]
    fn what_nobody_waits_for_is_not_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "one").unwrap();
        let found = super::digests(&[wanted(&path)], None, &AtomicBool::new(true));
        assert_eq!(found[0].as_ref().unwrap_err().to_string(), "nobody waits for it any more");
        assert!(chunk::of_file(&path, &AtomicBool::new(true)).is_err());
    }

    #[test]
    fn the_index_spares_reading() {
        let folder = tempfile::tempdir().unwrap();
        let (path, index) = (folder.path().join("a"), folder.path().join("index"));
        fs::write(&path, "one").unwrap();
        tick();
        assert_eq!(digests(&[wanted(&path)], Some(&index))[0].as_ref().unwrap().sha256, sha(b"one"));
        // The record is believed: a false one shows.
        let mut known = read_index(&index);
        assert_eq!(known.len(), 1);
        let record = known.values_mut().next().unwrap();
        record.1 = [7; 32];
        let fresh = Index::create(&index).unwrap();
        let file = Wanted { path: path.clone(), stamp: record.0 };
        fresh.write(&[file], &[Ok(Digest { sha256: [7; 32], chunks: None })]).unwrap();
        assert_eq!(digests(&[wanted(&path)], Some(&index))[0].as_ref().unwrap().sha256, [7; 32]);
        // A damaged index is not.
        let mut bytes = fs::read(&index).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&index, bytes).unwrap();
        assert_eq!(digests(&[wanted(&path)], Some(&index))[0].as_ref().unwrap().sha256, sha(b"one"));
    }

    #[test]
    fn large_files_that_are_read_are_cut_beside() {
        let folder = tempfile::tempdir().unwrap();
        let (small, large, index) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("index"));
        fs::write(&small, "one").unwrap();
        fs::write(&large, chunk::tests::noise(1, LARGE as usize)).unwrap();
        let cut = |index: &Path| {
            let found = digests(&[wanted(&small), wanted(&large)], Some(index));
            found.into_iter().map(|digest| digest.unwrap().chunks).collect::<Vec<_>>()
        };
        tick();
        assert_eq!(cut(&index), [None, Some(chunk::of_file(&large, &AtomicBool::new(false)).unwrap())]);
        assert_eq!(cut(&index), [None, None]);
    }

    #[test]
    fn a_change_that_hides_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (path, index) = (folder.path().join("a"), folder.path().join("index"));
        fs::write(&path, "one").unwrap();
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        tick();
        digests(&[wanted(&path)], Some(&index));
        tick();
        // Same size, same inode, same mtime; only the ctime tells.
        fs::write(&path, "two").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
        assert_eq!(digests(&[wanted(&path)], Some(&index))[0].as_ref().unwrap().sha256, sha(b"two"));
    }

    #[test]
    fn a_change_in_the_same_tick_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (path, index) = (folder.path().join("a"), folder.path().join("index"));
        for round in 0..200_u32 {
            fs::write(&path, format!("{round:05}a")).unwrap();
            digests(&[wanted(&path)], Some(&index));
            let second = format!("{round:05}b");
            fs::write(&path, &second).unwrap();
            assert_eq!(digests(&[wanted(&path)], Some(&index))[0].as_ref().unwrap().sha256, sha(second.as_bytes()));
        }
    }

    #[test]
    fn a_file_that_changes_while_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "one").unwrap();
        let before = wanted(&path);
        fs::write(&path, "longer").unwrap();
        assert!(digests(&[before], None)[0].is_err());
        fs::remove_file(&path).unwrap();
        let gone = Wanted { path, stamp: Stamp::new(&fs::metadata(folder.path()).unwrap()) };
        assert!(digests(&[gone], None)[0].is_err());
    }

    #[test]
    fn a_far_future_mtime_is_never_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let (path, index) = (folder.path().join("a"), folder.path().join("index"));
        fs::write(&path, "one").unwrap();
        let future = SystemTime::now() + Duration::from_secs(86_400);
        File::options().write(true).open(&path).unwrap().set_modified(future).unwrap();
        tick();
        digests(&[wanted(&path)], Some(&index));
        assert!(read_index(&index).is_empty());
    }
}
