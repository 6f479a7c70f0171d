//! The TCP connection under SSH, with the socket options without which it is slow or never ends.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::config::Family;

/// How long sent data may stay unacknowledged before the connection is given up.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// How much of what a server says first is kept.
const GREETING: usize = 256;

/// A stream in both directions, whatever it runs over.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// The first bytes that a server sent, to tell a server that is too busy from one that is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Greeting(Arc<Mutex<Vec<u8>>>);

impl Greeting {
    /// Whether the server hung up before it said who it is, as OpenSSH does beyond `MaxStartups` and
    /// towards sources it penalises (sshd_config(5), `MaxStartups`, `PerSourcePenalties`).
    pub(super) fn is_busy(&self) -> bool {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let says = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        bytes.is_empty() || says("Exceeded MaxStartups") || says("Not allowed at this time")
    }

    fn keep(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = GREETING.saturating_sub(kept.len());
        kept.extend(bytes.iter().take(room));
    }
}

/// Any stream, with its greeting kept.
pub(super) struct Wire {
    stream: Box<dyn Duplex>,
    greeting: Greeting,
}

impl Wire {
    /// A wire over `stream`.
    pub(super) fn new(stream: Box<dyn Duplex>) -> Self {
        Self { stream, greeting: Greeting::default() }
    }

    /// What the server says first.
    pub(super) fn greeting(&self) -> Greeting {
        self.greeting.clone()
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.greeting.keep(buffer.filled().get(before..).unwrap_or_default());
        poll
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A TCP connection whose acknowledgements are never delayed.
///
/// sshd leaves Nagle's algorithm on, and waits with its window adjustments for an acknowledgement that
/// Linux holds back for 40 ms; the kernel forgets the option, so it is set again after each read.
struct Quick(TcpStream);

impl AsyncRead for Quick {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.0).poll_read(cx, buffer);
        #[cfg(target_os = "linux")]
        if poll.is_ready() {
            let _ = SockRef::from(&self.0).set_tcp_quickack(true);
        }
        poll
    }
}

impl AsyncWrite for Quick {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Connects to `host`, trying its addresses one after the other; each gets a fair part of `time`.
pub(super) async fn connect(host: &str, port: u16, family: Family, time: Duration) -> io::Result<Box<dyn Duplex>> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
        .await?
        .filter(|address| match family {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        })
        .collect();
    let until = tokio::time::Instant::now() + time;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (at, address) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        let others = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        match tokio::time::timeout(left / others, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                #[cfg(target_os = "linux")]
                SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
                return Ok(Box::new(Quick(stream)));
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer")),
        }
    }
    Err(last)
}
