//! One SSH session channel as the streams of a program: fed while it is drained, never waiting for a dead one.

use std::sync::Arc;

use bytes::Bytes;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Lost;
use super::flow::Flow;
use super::pipes::{Chunk, Exit, Meter, Pipes, WAITING_CHUNKS};
use crate::event::Stream;

/// How much is handed on at once: what fits into one packet of most servers (`CHAN_SES_PACKET_DEFAULT` of OpenSSH's
/// channels.h).
const PACKET: usize = 32 << 10;

/// Runs the command line `program` in `channel`, after `now` round trips; `flow` says how much is on its way to it.
///
/// The server's consent is not waited for: what is sent goes out as soon as the server opens its window,
/// which OpenSSH does when it has started the program.
pub(super) async fn start(
    channel: Channel<Msg>,
    program: &str,
    forward_agent: bool,
    meter: Arc<Meter>,
    flow: Flow,
    now: u64,
) -> Result<Pipes, russh::Error> {
    let (reader, writer) = channel.split();
    if forward_agent {
        writer.agent_forward(false).await?;
    }
    writer.exec(true, program).await?;
    let (input, fed) = mpsc::channel(1);
    let (printed, output) = mpsc::channel(WAITING_CHUNKS);
    let life = Arc::new(Life {
        exited: CancellationToken::new(),
        given_up: CancellationToken::new(),
        gone: CancellationToken::new(),
        flow,
    });
    tokio::spawn(drain(reader, printed, life.clone(), meter.clone()));
    tokio::spawn(fill(writer, fed, life, meter));
    // OpenSSH opens the window once the program runs.
    Ok(Pipes { input, output, ready: now + 1 })
}

/// What the two halves of a channel tell each other.
struct Life {
    /// The program has ended: it reads nothing any more.
    exited: CancellationToken,
    /// Nobody listens any more.
    given_up: CancellationToken,
    /// The channel, or its connection, is gone.
    gone: CancellationToken,
    /// What is on its way to the program.
    flow: Flow,
}

/// Feeds the channel until the input ends or the program has ended; closes it where nobody listens.
///
/// A writer that waits for the server's window is never told that the channel is gone, so it is never
/// waited for alone.
async fn fill(writer: ChannelWriteHalf<Msg>, mut fed: mpsc::Receiver<Bytes>, life: Arc<Life>, meter: Arc<Meter>) {
    let feed = async {
        while let Some(mut bytes) = fed.recv().await {
            while !bytes.is_empty() {
                let packet = bytes.split_to(PACKET.min(bytes.len()));
                let count = packet.len();
                life.flow.room(count).await;
                if writer.data_bytes(packet).await.is_err() {
                    return;
                }
                life.flow.sent(count);
                meter.sent(count);
            }
        }
        let _ = writer.eof().await;
    };
    tokio::select! {
        biased;
        () = life.gone.cancelled() => {}
        () = life.given_up.cancelled() => {}
        () = life.exited.cancelled() => {}
        () = feed => {}
    }
    drop(fed);
    // What the program printed last may still be on its way: the server closes the channel.
    tokio::select! {
        biased;
        () = life.gone.cancelled() => {}
        () = life.given_up.cancelled() => {
            let _ = writer.close().await;
        }
    }
}

/// Reads everything there is to read, for the whole life of the channel: one that is not read holds up
/// all others of its connection.
async fn drain(mut reader: ChannelReadHalf, printed: mpsc::Sender<Chunk>, life: Arc<Life>, meter: Arc<Meter>) {
    loop {
        let message = tokio::select! {
            message = reader.wait() => message,
            () = printed.closed(), if !life.given_up.is_cancelled() => {
                life.given_up.cancel();
                continue;
            }
        };
        let chunk = match message {
            Some(ChannelMsg::Data { data }) => output(Stream::Stdout, data, &meter),
            Some(ChannelMsg::ExtendedData { data, ext: 1 }) => output(Stream::Stderr, data, &meter),
            Some(ChannelMsg::ExitStatus { exit_status }) => Chunk::Exited(Exit::Status(exit_status.cast_signed())),
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => Chunk::Exited(Exit::Signal(name(&signal_name))),
            Some(ChannelMsg::WindowAdjusted { new_size }) => {
                life.flow.opened(new_size);
                continue;
            }
            Some(ChannelMsg::Failure) => {
                Chunk::Refused(Lost { reason: "the server does not run commands for this user".to_owned() })
            }
            Some(_) => continue,
            None => break,
        };
        // The end may be told before the last output.
        if !matches!(chunk, Chunk::Output(..)) {
            life.exited.cancel();
        }
        let _ = printed.send(chunk).await;
    }
    life.gone.cancel();
}

fn output(stream: Stream, data: Bytes, meter: &Meter) -> Chunk {
    meter.received(data.len());
    Chunk::Output(stream, data)
}

/// A signal's name without `SIG` (RFC 4254, 6.10), made safe to show.
fn name(signal: &Sig) -> String {
    match signal {
        Sig::Custom(name) => crate::output::visible(name.as_bytes()),
        known => format!("{known:?}"),
    }
}
