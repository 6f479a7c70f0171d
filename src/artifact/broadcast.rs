//! One stream for several hosts: made once, and kept while one of them may still need it.
//!
//! Whoever is ahead has the next chunk made, at its own pace; the others find it kept. So nobody waits for a slower
//! one. What a run keeps is bounded ([`MOST`]): a host that falls so far behind that its next chunk was let go of has
//! the stream made again for itself, and goes on in it where it was. That fits, as the chunks of a stream always have
//! the same bounds, and each is coded by itself. Deliberately absent: which hosts need the same bytes (`plan`).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::coding::Coding;
use super::stream::{Body, CHUNK, Tally};

/// The most bytes that the shared streams of a run keep.
const MOST: usize = 64 << 20;

/// What one of them may keep all the same, in chunks, where others have taken all.
const LEAST: usize = 8;

/// The memory of a run for streams that are kept.
#[derive(Clone, Debug)]
pub struct Room {
    most: usize,
    taken: Arc<AtomicUsize>,
}

impl Default for Room {
    fn default() -> Self {
        Self { most: MOST, taken: Arc::default() }
    }
}

impl Room {
    fn is_full(&self) -> bool {
        self.taken.load(Ordering::Relaxed) > self.most
    }
}

/// Makes the stream, from its beginning.
type Make = Arc<dyn Fn(&Tally) -> Body + Send + Sync>;

/// What several hosts are sent alike.
#[derive(Debug)]
pub struct Shared {
    room: Room,
    /// How many hosts have not begun yet.
    expected: AtomicUsize,
    /// What a host can read decides how the stream is written, so there may be one for each coding.
    streams: Mutex<Vec<(Coding, Arc<Stream>)>>,
}

impl Shared {
    /// What `hosts` hosts are sent alike, kept in `room`.
    pub fn new(hosts: usize, room: &Room) -> Self {
        Self { room: room.clone(), expected: AtomicUsize::new(hosts), streams: Mutex::default() }
    }

    /// The stream of `total` bytes, which `make` makes in this coding, for one of the hosts.
    ///
    /// Needs a tokio runtime.
    pub fn start(
        self: &Arc<Self>,
        coding: Coding,
        total: u64,
        tally: &Tally,
        make: impl Fn(&Tally) -> Body + Send + Sync + 'static,
    ) -> Body {
        let make: Make = Arc::new(make);
        let Some(reader) = self.join(coding, &make) else {
            // It was perhaps the last that the others were kept for.
            self.tidy();
            return make(tally);
        };
        let (sender, body) = mpsc::channel(1);
        tokio::spawn(reader.carry(total, tally.clone(), sender));
        body
    }

    /// A reader at the beginning of the stream; none where the host needs a stream of its own.
    fn join(self: &Arc<Self>, coding: Coding, make: &Make) -> Option<Reader> {
        let mut streams = lock(&self.streams);
        let expected = self.expected.load(Ordering::Relaxed).saturating_sub(1);
        self.expected.store(expected, Ordering::Relaxed);
        let known = streams.iter().find(|(known, _)| *known == coding).map(|(_, stream)| Arc::clone(stream));
        let stream = match known {
            Some(stream) => stream,
            // Nobody would share it.
            None if expected == 0 => return None,
            None => {
                let source = tokio::sync::Mutex::new(make(&Tally::default()));
                let stream = Arc::new(Stream { source, kept: Mutex::new(Kept::new(&self.room)) });
                streams.push((coding, Arc::clone(&stream)));
                stream
            }
        };
        let number = lock(&stream.kept).enter()?;
        Some(Reader { shared: Arc::clone(self), stream, number, at: 0, make: Arc::clone(make), own: None })
    }

    /// Forgets the streams that nobody reads and nobody will.
    fn tidy(&self) {
        if self.expected.load(Ordering::Relaxed) == 0 {
            lock(&self.streams).retain(|(_, stream)| !lock(&stream.kept).readers.is_empty());
        }
    }
}

/// One stream in the making.
#[derive(Debug)]
struct Stream {
    /// Where the chunks come from that nobody has had yet.
    source: tokio::sync::Mutex<Body>,
    kept: Mutex<Kept>,
}

/// The chunks that somebody may still need.
#[derive(Debug)]
struct Kept {
    room: Room,
    /// How many were let go of before those that are here.
    gone: usize,
    chunks: VecDeque<Bytes>,
    /// How it ended: an error in words.
    end: Option<Result<(), String>>,
    /// Which chunk each reader needs next, by the reader's number.
    readers: BTreeMap<usize, usize>,
    next_number: usize,
}

/// The place of a chunk in a stream.
enum At {
    /// It is to be made.
    Ahead,
    /// It was let go of.
    Gone,
    Here(Bytes),
    /// There is none, as the stream has ended.
    Ended(Result<(), String>),
}

impl Kept {
    fn new(room: &Room) -> Self {
        let (room, chunks, readers) = (room.clone(), VecDeque::new(), BTreeMap::new());
        Self { room, gone: 0, chunks, end: None, readers, next_number: 0 }
    }

    /// The number of a new reader; none where the beginning is gone.
    fn enter(&mut self) -> Option<usize> {
        if self.gone > 0 {
            return None;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.readers.insert(number, 0);
        Some(number)
    }

    fn chunk(&self, at: usize) -> At {
        let Some(index) = at.checked_sub(self.gone) else { return At::Gone };
        match (self.chunks.get(index), &self.end) {
            (Some(chunk), _) => At::Here(chunk.clone()),
            (None, Some(end)) => At::Ended(end.clone()),
            (None, None) => At::Ahead,
        }
    }

    fn keep(&mut self, made: Option<io::Result<Bytes>>) {
        match made {
            Some(Ok(chunk)) => {
                self.room.taken.fetch_add(chunk.len(), Ordering::Relaxed);
                self.chunks.push_back(chunk);
                while self.chunks.len() > LEAST && self.room.is_full() {
                    self.let_go();
                }
            }
            Some(Err(error)) => self.end = Some(Err(error.to_string())),
            None => self.end = Some(Ok(())),
        }
    }

    fn let_go(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            self.room.taken.fetch_sub(chunk.len(), Ordering::Relaxed);
            self.gone += 1;
        }
    }

    /// A reader needs what comes before `at` no more, and so many others have not begun.
    fn advance(&mut self, number: usize, at: usize, expected: usize) {
        self.readers.insert(number, at);
        let needed = self.readers.values().min().copied().unwrap_or(0);
        while expected == 0 && self.gone < needed {
            self.let_go();
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        while !self.chunks.is_empty() {
            self.let_go();
        }
    }
}

/// One host's way through a stream.
struct Reader {
    shared: Arc<Shared>,
    stream: Arc<Stream>,
    number: usize,
    /// The chunk that it needs next.
    at: usize,
    make: Make,
    /// The rest of the stream, made for this reader alone.
    own: Option<Body>,
}

impl Reader {
    /// Hands on everything to the end, or until nobody takes it.
    async fn carry(mut self, total: u64, tally: Tally, to: mpsc::Sender<io::Result<Bytes>>) {
        let mut left = total;
        while let Some(next) = self.next().await.transpose() {
            let next = next.and_then(|chunk| tally.check().map(|()| chunk));
            let failed = next.is_err();
            if !failed {
                let made = left.min(CHUNK as u64);
                left -= made;
                // Before it is on its way, as in a stream of one host's own.
                tally.add(made);
            }
            if to.send(next).await.is_err() || failed {
                return;
            }
        }
    }

    /// The next chunk; none at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if let Some(own) = &mut self.own {
            return own.recv().await.transpose();
        }
        let mut next = lock(&self.stream.kept).chunk(self.at);
        if matches!(next, At::Ahead) {
            let mut source = self.stream.source.lock().await;
            // Somebody else may have had it made meanwhile.
            next = lock(&self.stream.kept).chunk(self.at);
            if matches!(next, At::Ahead) {
                let made = source.recv().await;
                let mut kept = lock(&self.stream.kept);
                kept.keep(made);
                next = kept.chunk(self.at);
            }
        }
        match next {
            At::Here(chunk) => {
                self.at += 1;
                let expected = self.shared.expected.load(Ordering::Relaxed);
                lock(&self.stream.kept).advance(self.number, self.at, expected);
                Ok(Some(chunk))
            }
            At::Ended(end) => end.map(|()| None).map_err(io::Error::other),
            At::Gone => self.part().await,
            At::Ahead => Err(io::Error::other("the archive was not made to its end")),
        }
    }

    /// Goes on in a stream of its own.
    async fn part(&mut self) -> io::Result<Option<Bytes>> {
        self.leave();
        let mut own = (self.make)(&Tally::default());
        for _ in 0..self.at {
            if own.recv().await.transpose()?.is_none() {
                return Err(io::Error::other("the archive is shorter than it was"));
            }
        }
        self.own.insert(own).recv().await.transpose()
    }

    fn leave(&self) {
        lock(&self.stream.kept).readers.remove(&self.number);
        self.shared.tidy();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.leave();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chunks of a stream.
    const MADE: usize = 30;

    /// How often the stream is made; it fails before the chunk `broken`.
    #[derive(Clone)]
    struct Maker {
        made: Arc<AtomicUsize>,
        broken: usize,
    }

    impl Maker {
        fn new() -> Self {
            Self { made: Arc::default(), broken: usize::MAX }
        }

        fn start(&self, shared: &Arc<Shared>, coding: Coding, tally: &Tally) -> Body {
            let maker = self.clone();
            shared.start(coding, TOTAL, tally, move |tally| maker.make(tally))
        }

        fn make(&self, tally: &Tally) -> Body {
            self.made.fetch_add(1, Ordering::SeqCst);
            let (sender, body) = mpsc::channel(1);
            let (broken, tally) = (self.broken, tally.clone());
            std::thread::spawn(move || {
                for number in 0..MADE {
                    let broken = number == broken;
                    let chunk =
                        if broken { Err(io::Error::other("broken")) } else { Ok(vec![number as u8; 10].into()) };
                    tally.add(CHUNK as u64);
                    if sender.blocking_send(chunk).is_err() || broken {
                        return;
                    }
                }
            });
            body
        }

        fn times(&self) -> usize {
            self.made.load(Ordering::SeqCst)
        }
    }

    const TOTAL: u64 = (MADE * CHUNK) as u64;

    async fn read(mut body: Body) -> Vec<Bytes> {
        let mut all = Vec::new();
        while let Some(chunk) = body.recv().await {
            all.push(chunk.unwrap());
        }
        all
    }

    fn whole() -> Vec<Bytes> {
        (0..MADE).map(|number| vec![number as u8; 10].into()).collect()
    }

    fn kept(shared: &Shared) -> usize {
        lock(&shared.streams).iter().map(|(_, stream)| lock(&stream.kept).chunks.len()).sum()
    }

    #[tokio::test]
    async fn it_is_made_once_and_nobody_waits_for_who_is_slow() {
        let (maker, room) = (Maker::new(), Room::default());
        let shared = Arc::new(Shared::new(4, &room));
        let start = |tally: &Tally| maker.start(&shared, Coding::Zstd, tally);
        let tally = Tally::default();
        let slow = start(&Tally::default());
        assert_eq!(read(start(&tally)).await, whole());
        assert_eq!(tally.made(), TOTAL);
        let mut gone = start(&Tally::default());
        gone.recv().await.unwrap().unwrap();
        drop(gone);
        assert_eq!(kept(&shared), MADE);
        assert_eq!(read(start(&Tally::default())).await, whole());
        assert_eq!(read(slow).await, whole());
        assert_eq!((maker.times(), kept(&shared), room.taken.load(Ordering::SeqCst)), (1, 0, 0));
        // For who comes again it is made again.
        assert_eq!(read(start(&Tally::default())).await, whole());
        assert_eq!(maker.times(), 2);
    }

    #[tokio::test]
    async fn what_everybody_has_had_is_let_go_of() {
        let maker = Maker::new();
        let shared = Arc::new(Shared::new(2, &Room::default()));
        let mut bodies = [(); 2].map(|()| maker.start(&shared, Coding::Plain, &Tally::default()));
        for chunk in whole() {
            for body in &mut bodies {
                assert_eq!(body.recv().await.unwrap().unwrap(), chunk);
            }
            // Each may have a chunk in its channel, and one in hand.
            assert!(kept(&shared) <= 3, "{}", kept(&shared));
        }
        assert_eq!(maker.times(), 1);
    }

    #[tokio::test]
    async fn who_falls_far_behind_goes_on_alone() {
        let (maker, room) = (Maker::new(), Room { most: 50, ..Room::default() });
        let shared = Arc::new(Shared::new(4, &room));
        let start = || maker.start(&shared, Coding::Plain, &Tally::default());
        let mut slow = start();
        let mut had = vec![slow.recv().await.unwrap().unwrap()];
        assert_eq!(read(start()).await, whole());
        assert_eq!((maker.times(), kept(&shared)), (1, LEAST));
        // Who begins late has all of it made, who is on the way the rest.
        assert_eq!(read(start()).await, whole());
        assert_eq!(maker.times(), 2);
        had.extend(read(slow).await);
        assert_eq!(had, whole());
        assert_eq!(maker.times(), 3);
        assert_eq!(read(start()).await, whole());
        assert_eq!((maker.times(), kept(&shared), room.taken.load(Ordering::SeqCst)), (4, 0, 0));
    }

    #[tokio::test]
    async fn each_coding_has_its_own_and_the_last_host_shares_with_nobody() {
        let maker = Maker::new();
        let shared = Arc::new(Shared::new(3, &Room::default()));
        for (coding, times) in [(Coding::Plain, 1), (Coding::Zstd, 2), (Coding::Gzip, 3)] {
            assert_eq!(read(maker.start(&shared, coding, &Tally::default())).await, whole());
            assert_eq!(maker.times(), times);
        }
        assert_eq!(kept(&shared), 0);
    }

    #[tokio::test]
    async fn an_error_is_everybodys_and_a_stop_is_ones_own() {
        let maker = Maker { broken: 7, ..Maker::new() };
        let shared = Arc::new(Shared::new(3, &Room::default()));
        let stopped = Tally::default();
        stopped.stop();
        let mut told = Vec::new();
        for tally in [Tally::default(), stopped, Tally::default()] {
            let mut body = maker.start(&shared, Coding::Plain, &tally);
            let mut count = 0;
            while let Some(chunk) = body.recv().await {
                match chunk {
                    Ok(_) => count += 1,
                    Err(error) => told.push((count, error.to_string())),
                }
            }
        }
        let broken = (7, "broken".to_owned());
        assert_eq!(told, [broken.clone(), (0, "another part of it could not be sent".to_owned()), broken]);
        assert_eq!(maker.times(), 1);
    }
}
