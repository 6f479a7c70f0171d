//! A visitor who asks a site fifty times a second, and remembers every request that was not answered.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The pause between two requests: fifty a second.
const PACE: Duration = Duration::from_millis(20);

/// How long an answer may take. A restart makes requests wait in the socket's queue; it must not refuse them.
const PATIENCE: Duration = Duration::from_secs(30);

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// Asks for `path` once.
pub fn get(port: u16, path: &str) -> Result<Answer, String> {
    get_from("localhost", port, path)
}

/// Asks for `path` of the site `host` once.
pub fn get_from(host: &str, port: u16, path: &str) -> Result<Answer, String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes())
        .map_err(|error| error.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|error| error.to_string())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no answer")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no status")?;
    Ok(Answer { status, body: body.to_owned() })
}

/// What the visitor saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub requests: usize,
    pub failures: Vec<String>,
    pub slowest: Duration,
}

type Outcome = (Result<(), String>, Duration);

fn ask(host: &str, port: u16, path: &str) -> Outcome {
    let began = Instant::now();
    let answer = match get_from(host, port, path) {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(format!("{port}: status {}", answer.status)),
        Err(error) => Err(format!("{port}: {error}")),
    };
    (answer, began.elapsed())
}

impl Seen {
    fn take(&mut self, request: JoinHandle<Outcome>) {
        let (answer, time) = request.join().expect("a request");
        self.slowest = self.slowest.max(time);
        self.failures.extend(answer.err());
    }
}

/// A visitor at work.
pub struct Visitor {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Visitor {
    /// Begins to ask `path`, at one of `ports` after the other. Each request has a thread of its own, so that a
    /// slow answer does not slow the visitor down.
    pub fn begin(ports: Vec<u16>, path: &'static str) -> Self {
        Self::begin_at("localhost", ports, path)
    }

    /// Begins to ask for `path` of the site `host`.
    pub fn begin_at(host: &'static str, ports: Vec<u16>, path: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            let mut asked: Vec<JoinHandle<Outcome>> = Vec::new();
            let mut next = Instant::now();
            for port in ports.into_iter().cycle() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                seen.requests += 1;
                asked.push(std::thread::spawn(move || ask(host, port, path)));
                let (ended, waiting): (Vec<_>, Vec<_>) = asked.into_iter().partition(JoinHandle::is_finished);
                asked = waiting;
                ended.into_iter().for_each(|request| seen.take(request));
                next += PACE;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            asked.into_iter().for_each(|request| seen.take(request));
            seen
        });
        Self { stop, thread }
    }

    /// Stops and says what was seen.
    pub fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the visitor")
    }
}
