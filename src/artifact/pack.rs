//! The tar stream that carries a tree to a host.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{MemoryFile, Tree};

/// A stream of chunks, the same as `session::Body`: its end is the end of the archive; an error means that
/// what was sent so far must not be used.
pub type Body = mpsc::Receiver<io::Result<Bytes>>;

/// What goes into one stream.
#[derive(Clone, Debug)]
pub struct Packing {
    /// The tree; shared, so that it is in memory once for all hosts.
    pub tree: Arc<Tree>,
    /// Which entries of its manifest, for example [`super::Difference::send_list`].
    pub entries: Vec<usize>,
    /// The folder they go into, relative to where the stream is unpacked: `releases/<id>`. It and its
    /// parents are not in the stream, so that their modes stay as they are.
    pub prefix: String,
    /// More files, at their own paths relative to where the stream is unpacked, sent last.
    pub extra: Vec<MemoryFile>,
    /// The modification time of what has none on this machine (directories, symlinks, memory files), in
    /// seconds since 1970: the release's own time.
    pub time: i64,
}

impl Packing {
    /// The exact length of the stream.
    pub fn total(&self) -> u64 {
        todo!()
    }

    /// Starts a thread that makes the stream; it ends when the stream is done or dropped.
    pub fn start(self) -> Body {
        todo!()
    }
}
