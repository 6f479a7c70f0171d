//! Runs commands in a channel of their own, the last with a body as its standard input: uploads, secrets.
//!
//! The body is fed while the output is read, so neither waits for the other, and a command that ends
//! early ends the feeding. Deliberately absent: judging whether enough was read (the command's status
//! says so).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::clock::Clock;
use super::marker::Nonce;
use super::order::Streams;
use super::pipes::{Chunk, Exit, Host, Pipes, WAITING_CHUNKS};
use super::spare::Spares;
use super::sudo::Sudo;
use super::{Body, Lost, Reply, Status, script};
use crate::command::Command;

/// How long a command whose body failed has to end after it was told to.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How long a channel may outlive its command: something that was left running may hold it.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// See [`super::Session::feed`].
pub(super) fn feed(
    spares: Arc<Spares>,
    commands: Vec<Command>,
    body: Body,
    sudo: Option<Sudo>,
) -> mpsc::Receiver<Reply> {
    let (replies, receiver) = mpsc::channel(WAITING_CHUNKS);
    tokio::spawn(async move {
        if let Err(lost) = converse(&spares, &commands, body, sudo.as_ref(), &replies).await {
            let _ = replies.send(Reply::Lost(lost)).await;
        }
    });
    receiver
}

async fn converse(
    spares: &Spares,
    commands: &[Command],
    mut body: Body,
    sudo: Option<&Sudo>,
    replies: &mpsc::Sender<Reply>,
) -> Result<(), Lost> {
    let nonce = Nonce::new()?;
    let mut streams = Streams::new(&nonce);
    let host = spares.host();
    let Pipes { input, mut output, ready } = spares.take().await?;
    let sent_at = host.meter().now().max(ready);
    let _ = input.send(script::told(&script::fed(commands, &nonce, sudo)).into()).await;

    let mut input = Some(input);
    let mut sent: u64 = 0;
    let mut exit = None;
    let mut clock = Clock::waiting(0, commands.first());
    loop {
        tokio::select! {
            chunk = output.recv() => {
                let news = match chunk {
                    Some(Chunk::Output(stream, bytes)) => streams.push(stream, bytes)?,
                    Some(Chunk::Exited(how)) => {
                        exit = Some(how);
                        clock.hurry();
                        continue;
                    }
                    Some(Chunk::Refused(lost)) => return Err(lost),
                    None => return end(exit, clock.index, &mut streams, host.as_ref(), replies).await,
                };
                for reply in news {
                    host.meter().answered(sent_at);
                    if let Reply::Started { index } = &reply {
                        clock = Clock::running(*index, commands.get(*index));
                    }
                    let reply = clock.judge(reply);
                    let over = match &reply {
                        Reply::Ended { index, status } => !status.success() || index + 1 >= commands.len(),
                        _ => false,
                    };
                    if let Reply::Ended { index, .. } = &reply {
                        clock = Clock::waiting(index + 1, commands.get(index + 1));
                    }
                    let _ = replies.send(reply).await;
                    if over {
                        // Then the server has freed the channel: one that allows few has room for another.
                        drop(input);
                        let ended = async { while output.recv().await.is_some() {} };
                        let _ = tokio::time::timeout(CLOSE_LIMIT, ended).await;
                        return Ok(());
                    }
                }
            }
            fed = feed_more(&input, &mut body) => match fed {
                Fed::Bytes(count) => {
                    sent += count as u64;
                    let _ = replies.send(Reply::Sent { bytes: sent }).await;
                }
                Fed::End => input = None,
                // The command ended early; how it ended is on its way.
                Fed::Unwanted => {
                    input = None;
                    body.close();
                }
                Fed::Failed(error) => {
                    stop(host.as_ref(), streams.process(), &mut output).await;
                    return Err(Lost { reason: format!("the data to send could not be read: {error}") });
                }
            },
            () = tokio::time::sleep_until(clock.deadline) => {
                if exit.is_some() {
                    return end(exit, clock.index, &mut streams, host.as_ref(), replies).await;
                }
                if !clock.running {
                    return Err(Lost { reason: "the host's shell does not answer".to_owned() });
                }
                let status = Status::TimedOut(clock.limit);
                let _ = replies.send(Reply::Ended { index: clock.index, status }).await;
                return Ok(());
            }
        }
    }
}

/// The streams have ended without the command's last marker.
async fn end(
    exit: Option<Exit>,
    index: usize,
    streams: &mut Streams,
    host: &dyn Host,
    replies: &mpsc::Sender<Reply>,
) -> Result<(), Lost> {
    for reply in streams.finish() {
        let _ = replies.send(reply).await;
    }
    match exit {
        Some(Exit::Signal(name)) => {
            let _ = replies.send(Reply::Ended { index, status: Status::Signalled(name) }).await;
            Ok(())
        }
        Some(Exit::Status(status)) => {
            Err(Lost { reason: format!("the command's shell ended with status {status}, without a word") })
        }
        None => Err(host.loss()),
    }
}

/// What became of an attempt to send more of the body.
enum Fed {
    Bytes(usize),
    End,
    Unwanted,
    Failed(std::io::Error),
}

/// Waits for room in `input`, then for more of `body`, and sends it. Nothing is lost where this is
/// dropped while it waits.
async fn feed_more(input: &Option<mpsc::Sender<Bytes>>, body: &mut Body) -> Fed {
    let Some(input) = input else { return std::future::pending().await };
    let Ok(permit) = input.reserve().await else { return Fed::Unwanted };
    match body.recv().await {
        Some(Ok(bytes)) => {
            let count = bytes.len();
            permit.send(bytes);
            Fed::Bytes(count)
        }
        Some(Err(error)) => Fed::Failed(error),
        None => Fed::End,
    }
}

/// Ends the command while its input is still open, so that it cannot take a part for the whole. A user
/// may not end root's processes, so sudo's commands see the end of their input after all, as they do
/// when a connection breaks.
async fn stop(host: &dyn Host, process: Option<u32>, output: &mut mpsc::Receiver<Chunk>) {
    let Some(process) = process else { return };
    let Ok(mut killer) = host.start(&format!("exec /bin/sh -c 'exec kill -TERM {process}'")).await else { return };
    let ended = async {
        while killer.output.recv().await.is_some() {}
        while output.recv().await.is_some() {}
    };
    let _ = tokio::time::timeout(STOP_LIMIT, ended).await;
}
