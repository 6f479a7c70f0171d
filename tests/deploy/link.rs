//! A link to a server that can be far, slow, stalled, or cut, and counts what goes over it.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What is special about a link.
#[derive(Clone, Copy, Default)]
pub struct Kind {
    /// How long everything takes in each direction.
    pub delay: Duration,
    /// Bytes in a second towards the server; 0 is no limit.
    pub rate: u64,
    /// The first connection is cut once so many bytes went to the server; 0 is never.
    pub cut: u64,
}

/// A link to a server on 127.0.0.1.
pub struct Link {
    /// Where it begins.
    pub port: u16,
    sent: Arc<AtomicU64>,
    will: Arc<Will>,
}

/// What the test has decided about a link.
#[derive(Default)]
struct Will {
    /// It is cut as soon as more goes to the server.
    broken: AtomicBool,
    /// After how many bytes those towards the server wait; 0 is never.
    stall: u64,
    released: Mutex<bool>,
    news: Condvar,
}

impl Link {
    /// A link to `server`. It is there until the test process ends.
    pub fn to(server: u16, kind: Kind) -> Self {
        Self::open(server, kind, Will::default())
    }

    /// A link over which nothing more goes to `server` once `stall` bytes did, until it is released.
    pub fn stalling(server: u16, stall: u64) -> Self {
        Self::open(server, Kind::default(), Will { stall, ..Will::default() })
    }

    fn open(server: u16, kind: Kind, will: Will) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let will = Arc::new(will);
        let known = Arc::clone(&will);
        let connections = AtomicUsize::new(0);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let first = connections.fetch_add(1, Ordering::Relaxed) == 0;
                let kind = if first { kind } else { Kind { cut: 0, ..kind } };
                let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
                for stream in [&client, &server] {
                    stream.set_nodelay(true).unwrap();
                }
                let back = Kind { rate: 0, cut: 0, ..kind };
                let (client2, server2) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (counter, will) = (Arc::clone(&counter), Arc::clone(&known));
                thread::spawn(move || carry(client, server, kind, &counter, &will));
                thread::spawn(move || carry(server2, client2, back, &AtomicU64::new(0), &Will::default()));
            }
        });
        Self { port, sent, will }
    }

    /// Returns once so many bytes went to the server.
    pub fn reaches(&self, bytes: u64) {
        let began = Instant::now();
        while self.sent() < bytes {
            assert!(began.elapsed() < Duration::from_secs(60), "{} bytes went to the server", self.sent());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Cuts the connection as soon as more goes to the server. There is one.
    pub fn breaks(&self) {
        self.will.broken.store(true, Ordering::SeqCst);
    }

    /// What stalled goes on.
    pub fn release(&self) {
        *self.will.released.lock().unwrap() = true;
        self.will.news.notify_all();
    }

    /// How many bytes went to the server.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

type Late = Arc<(Mutex<VecDeque<(Instant, Vec<u8>)>>, Condvar)>;

/// Carries what comes `from` one end to the other.
fn carry(mut from: TcpStream, to: TcpStream, kind: Kind, counter: &AtomicU64, will: &Will) {
    let late: Late = Arc::default();
    let writer = {
        let (late, to) = (Arc::clone(&late), to.try_clone().unwrap());
        thread::spawn(move || deliver(to, &late, kind.delay))
    };
    let mut buffer = vec![0; 64 * 1024];
    let (mut total, mut cut) = (0, false);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let count = if kind.cut == 0 { count } else { count.min(usize::try_from(kind.cut - total).unwrap()) };
        total += count as u64;
        counter.fetch_add(count as u64, Ordering::SeqCst);
        if will.stall > 0 && total > will.stall {
            drop(will.news.wait_while(will.released.lock().unwrap(), |released| !*released).unwrap());
        }
        if kind.rate > 0 {
            thread::sleep(Duration::from_secs_f64(count as f64 / kind.rate as f64));
        }
        late.0.lock().unwrap().push_back((Instant::now(), buffer[..count].to_vec()));
        late.1.notify_all();
        cut = will.broken.swap(false, Ordering::SeqCst) || (kind.cut > 0 && total == kind.cut);
        if cut {
            let _ = from.shutdown(Shutdown::Both);
            break;
        }
    }
    // An empty one is the end.
    late.0.lock().unwrap().push_back((Instant::now(), Vec::new()));
    late.1.notify_all();
    let _ = writer.join();
    let _ = to.shutdown(if cut || kind.cut > 0 { Shutdown::Both } else { Shutdown::Write });
}

fn deliver(mut to: TcpStream, late: &Late, delay: Duration) {
    loop {
        let mut waiting = late.0.lock().unwrap();
        let (since, bytes) = loop {
            match waiting.pop_front() {
                Some(next) => break next,
                None => waiting = late.1.wait(waiting).unwrap(),
            }
        };
        drop(waiting);
        thread::sleep((since + delay).saturating_duration_since(Instant::now()));
        if bytes.is_empty() || to.write_all(&bytes).is_err() {
            return;
        }
    }
}
