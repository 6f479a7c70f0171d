//! One command in one channel: its input, its output, and how it ended.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;

use bytes::BytesMut;
use russh::server::{Handle, Msg};
use russh::{Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::children::Children;
use super::spool::Spool;

/// How much output is taken at once: what a packet holds.
const CHUNK: usize = 32 * 1024;

/// The code of standard error (RFC 4254, 5.2).
const STDERR: u32 = 1;

/// Serves `channel` until it is closed: hands input to the command that `started` brings, and output, end
/// of output and exit back, in the order of `sshd`. `gone` ends it early; the command is left alone then
/// and finds its pipes closed.
pub(super) async fn serve(
    channel: Channel<Msg>,
    session: Handle,
    started: oneshot::Receiver<Child>,
    children: Arc<Children>,
    gone: CancellationToken,
) {
    let id = channel.id();
    let (read, write) = channel.split();
    let write = Arc::new(write);
    let (give, stdin) = oneshot::channel();
    // Read from the first moment on: an inbox that nobody empties stops the connection.
    tokio::spawn(feed(read, stdin, Spool::new(children.home()), gone.clone()));
    let mut child = tokio::select! {
        child = started => match child {
            Ok(child) => child,
            Err(_) => return,
        },
        () = gone.cancelled() => return,
    };
    let _ = give.send(child.stdin.take());
    let outputs = (
        tokio::spawn(pump(child.stdout.take(), Arc::clone(&write), None, gone.clone())),
        tokio::spawn(pump(child.stderr.take(), Arc::clone(&write), Some(STDERR), gone.clone())),
    );
    let process = child.id();
    let status = child.wait().await;
    if let Some(process) = process {
        children.ended(process);
    }
    if let (Ok(status), false) = (status, gone.is_cancelled()) {
        report(status, id, &write, &session).await;
    }
    // What it left behind may hold the output open; until they are done too, the channel stays open.
    let _ = outputs.0.await;
    let _ = outputs.1.await;
    if !gone.is_cancelled() {
        let _ = write.eof().await;
        let _ = write.close().await;
    }
    gone.cancel();
}

/// Tells how the command ended (RFC 4254, 6.10).
async fn report(status: ExitStatus, id: ChannelId, write: &ChannelWriteHalf<Msg>, session: &Handle) {
    if let Some(code) = status.code() {
        let _ = write.exit_status(u32::try_from(code).unwrap_or(255)).await;
    } else {
        let name = status.signal().map_or_else(|| Sig::Custom("SIG@openssh.com".to_owned()), named);
        let _ = session.exit_signal_request(id, name, status.core_dumped(), String::new(), String::new()).await;
    }
}

/// The name of a signal; RFC 4254 has these, and `sshd` calls the others `SIG@openssh.com`.
fn named(signal: i32) -> Sig {
    match signal {
        1 => Sig::HUP,
        2 => Sig::INT,
        3 => Sig::QUIT,
        4 => Sig::ILL,
        6 => Sig::ABRT,
        8 => Sig::FPE,
        9 => Sig::KILL,
        11 => Sig::SEGV,
        13 => Sig::PIPE,
        14 => Sig::ALRM,
        15 => Sig::TERM,
        _ => Sig::Custom("SIG@openssh.com".to_owned()),
    }
}

/// Sends what the command prints to one stream. `write` waits for the window, so a client that does not
/// read makes the command wait, not us remember.
async fn pump<R: AsyncRead + Unpin>(
    output: Option<R>,
    write: Arc<ChannelWriteHalf<Msg>>,
    extended: Option<u32>,
    gone: CancellationToken,
) {
    let Some(mut output) = output else { return };
    let send = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            match output.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let bytes = buffer.split().freeze();
            let sent = match extended {
                None => write.data_bytes(bytes).await,
                Some(code) => write.extended_data_bytes(code, bytes).await,
            };
            if sent.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = send => {}
        () = gone.cancelled() => {}
    }
}

/// Hands the client's data to the command that `stdin` brings, and its end. Cancels `gone` when the client
/// closes the channel or the connection ends.
async fn feed(
    mut read: ChannelReadHalf,
    stdin: oneshot::Receiver<Option<ChildStdin>>,
    mut spool: Spool,
    gone: CancellationToken,
) {
    let mut waiting = Some(stdin);
    let mut stdin: Option<ChildStdin> = None;
    let mut ended = false;
    loop {
        if waiting.is_none() && (stdin.is_none() || (ended && spool.is_empty())) {
            // The command has had everything, or reads no more; the rest is thrown away.
            stdin = None;
            spool.clear();
        }
        tokio::select! {
            message = read.wait(), if !spool.is_full() => match message {
                Some(ChannelMsg::Data { data }) if waiting.is_some() || stdin.is_some() => {
                    if spool.push(data).is_err() {
                        // Without a place for it the input would have a hole: better that it ends here.
                        gone.cancel();
                    }
                }
                Some(ChannelMsg::Eof) => ended = true,
                Some(ChannelMsg::Close) | None => gone.cancel(),
                Some(_) => {}
            },
            child = opened(&mut waiting), if waiting.is_some() => {
                waiting = None;
                stdin = child;
            }
            written = write(&mut stdin, spool.front()), if stdin.is_some() && !spool.is_empty() => match written {
                Ok(count) if spool.consume(count).is_ok() => {}
                _ => stdin = None,
            },
            () = gone.cancelled() => return,
        }
    }
}

async fn opened(waiting: &mut Option<oneshot::Receiver<Option<ChildStdin>>>) -> Option<ChildStdin> {
    match waiting {
        Some(waiting) => waiting.await.ok().flatten(),
        None => None,
    }
}

async fn write(stdin: &mut Option<ChildStdin>, bytes: &[u8]) -> std::io::Result<usize> {
    match stdin {
        Some(stdin) => stdin.write(bytes).await,
        None => Ok(0),
    }
}
