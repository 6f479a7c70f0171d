//! A web server for one host of the demo: files below `current/public`, looked up anew for each request, so
//! that a visitor sees the switch when it happens. GET alone, on loopback alone.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// The longest head of a request.
const LONGEST_HEAD: usize = 8 * 1024;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running web server; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Web {
    port: u16,
    serving: JoinHandle<()>,
}

impl Web {
    /// Serves `root` on 127.0.0.1.
    pub(super) async fn start(root: PathBuf) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let root = Arc::new(root);
        let serving = tokio::spawn(async move {
            let mut visits = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                        let root = Arc::clone(&root);
                        visits.spawn(async move {
                            let _ = timeout(PATIENCE, serve(stream, &root)).await;
                        });
                    },
                    Some(_) = visits.join_next(), if !visits.is_empty() => {}
                }
            }
        });
        Ok(Self { port, serving })
    }

    /// Its port on 127.0.0.1.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Answers one request.
async fn serve(mut stream: TcpStream, root: &Path) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > LONGEST_HEAD || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let (status, kind, body) = answer(&head, root).await;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body].concat()).await?;
    stream.shutdown().await
}

async fn answer(head: &[u8], root: &Path) -> (&'static str, &'static str, Vec<u8>) {
    const TEXT: &str = "text/plain; charset=utf-8";
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ').map(|word| std::str::from_utf8(word).unwrap_or_default());
    let (method, target) = (words.next(), words.next().unwrap_or_default());
    if method != Some("GET") {
        return ("405 Method Not Allowed", TEXT, b"only GET\n".to_vec());
    }
    let Some(path) = below(target) else { return ("400 Bad Request", TEXT, b"no such address\n".to_vec()) };
    let kind = if path.extension().is_some_and(|name| name == "html") { "text/html; charset=utf-8" } else { TEXT };
    match tokio::fs::read(root.join(path)).await {
        Ok(body) => ("200 OK", kind, body),
        Err(_) => ("404 Not Found", TEXT, b"not found\n".to_vec()),
    }
}

/// The file that `target` means, relative to the root; none where it could lead out of it or to something
/// hidden.
fn below(target: &str) -> Option<PathBuf> {
    let path = target.split(['?', '#']).next().unwrap_or_default().strip_prefix('/')?;
    let harmless = |part: &str| {
        !part.starts_with('.') && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    if !path.split('/').all(harmless) {
        return None;
    }
    let index = path.is_empty() || path.ends_with('/');
    Some(PathBuf::from(if index { format!("{path}index.html") } else { path.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_leads_out_of_the_root() {
        assert_eq!(below("/"), Some(PathBuf::from("index.html")));
        assert_eq!(below("/de/?a=../b"), Some(PathBuf::from("de/index.html")));
        assert_eq!(below("/de/health.txt"), Some(PathBuf::from("de/health.txt")));
        for wrong in ["", "x", "/../etc/passwd", "/a/../../b", "/.git/config", "/%2e%2e/x", "/a\\b", "http://x/"] {
            assert_eq!(below(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn each_request_is_answered_from_what_is_there_now() {
        let root = tempfile::tempdir().unwrap();
        let (current, page) = (root.path().join("current"), |name: &str| root.path().join(name));
        for name in ["one", "two"] {
            std::fs::create_dir(page(name)).unwrap();
            std::fs::write(page(name).join("index.html"), name).unwrap();
        }
        std::os::unix::fs::symlink("one", &current).unwrap();
        let web = Web::start(current.clone()).await.unwrap();
        let get = |path: &'static str| super::super::visitor::get(web.port(), path);
        assert_eq!(get("/").await.unwrap(), (200, "one".to_owned()));
        std::fs::remove_file(&current).unwrap();
        std::os::unix::fs::symlink("two", &current).unwrap();
        assert_eq!(get("/index.html").await.unwrap(), (200, "two".to_owned()));
        assert_eq!(get("/none.html").await.unwrap().0, 404);
        assert_eq!(get("/../x").await.unwrap().0, 400);
    }
}
