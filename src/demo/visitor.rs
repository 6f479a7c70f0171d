//! A visitor of the site who asks again and again, and remembers what was answered.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// The pause between two visits.
const PAUSE: Duration = Duration::from_millis(5);

/// How long the visitor waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a visitor has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// How often each title was seen, on all hosts together.
    pub(super) titles: BTreeMap<String, u64>,
    /// How often there was no page, or not the right answer.
    pub(super) failures: u64,
    /// Why, the first time.
    pub(super) first_failure: Option<String>,
}

impl Seen {
    /// How often was asked.
    pub(super) fn requests(&self) -> u64 {
        self.titles.values().sum::<u64>() + self.failures
    }

    /// How often `title` was seen.
    pub(super) fn count(&self, title: &str) -> u64 {
        self.titles.get(title).copied().unwrap_or_default()
    }

    fn note(&mut self, answer: Result<String, String>) {
        match answer {
            Ok(title) => *self.titles.entry(title).or_default() += 1,
            Err(why) => {
                self.failures += 1;
                self.first_failure.get_or_insert(why);
            }
        }
    }
}

/// A visitor at work, until this is dropped.
#[derive(Debug)]
pub(super) struct Visitor {
    seen: Arc<Mutex<Seen>>,
    walking: JoinHandle<()>,
}

impl Visitor {
    /// Sends a visitor to the sites at `ports`, in turn.
    pub(super) fn start(ports: Vec<u16>) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let notebook = Arc::clone(&seen);
        let walking = tokio::spawn(async move {
            for port in ports.into_iter().cycle() {
                let answer = title(port).await;
                notebook.lock().unwrap_or_else(PoisonError::into_inner).note(answer);
                sleep(PAUSE).await;
            }
        });
        Self { seen, walking }
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.walking.abort();
    }
}

/// The title of the first page of the site at `port`, or why there is none.
pub(super) async fn title(port: u16) -> Result<String, String> {
    match timeout(PATIENCE, get(port, "/")).await {
        Ok(Ok((200, body))) => body
            .split_once("<title>")
            .and_then(|(_, rest)| rest.split_once("</title>"))
            .map(|(title, _)| title.to_owned())
            .ok_or_else(|| format!("port {port} answered with a page without a title")),
        Ok(Ok((status, _))) => Err(format!("port {port} answered {status}")),
        Ok(Err(error)) => Err(format!("port {port} did not answer: {error}")),
        Err(_) => Err(format!("port {port} did not answer within {} s", PATIENCE.as_secs())),
    }
}

/// Asks 127.0.0.1 for `path`; gives back the status and the body.
pub(super) async fn get(port: u16, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let text = String::from_utf8(answer).map_err(io::Error::other)?;
    let wrong = || io::Error::other("that is no HTTP");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(wrong)?;
    let length: Option<usize> =
        head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).and_then(|length| length.parse().ok());
    if length != Some(body.len()) {
        return Err(io::Error::other("the answer was cut off"));
    }
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(wrong)?;
    Ok((status, body.to_owned()))
}
