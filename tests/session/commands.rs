//! Commands, batches and bodies over a real server.

use bytes::Bytes;
use ship::command::Command;
use ship::event::Stream;
use ship::session::{Body, Reply, Status};
use tokio::sync::mpsc;

use crate::session::sshd::{Options, Sshd};

/// The replies, with the output of each stream of each command joined.
pub async fn replies(mut receiver: mpsc::Receiver<Reply>) -> Vec<Reply> {
    let mut all: Vec<Reply> = Vec::new();
    while let Some(reply) = receiver.recv().await {
        if let Reply::Output { index, stream, bytes } = &reply
            && let Some(Reply::Output { bytes: last, .. }) = all
                .iter_mut()
                .rev()
                .find(|seen| matches!(seen, Reply::Output { index: i, stream: s, .. } if i == index && s == stream))
        {
            *last = [last.as_ref(), bytes.as_ref()].concat().into();
            continue;
        }
        if !matches!(reply, Reply::Sent { .. }) {
            all.push(reply);
        }
    }
    all
}

/// The standard output of the only command, which must have succeeded.
pub async fn output(receiver: mpsc::Receiver<Reply>) -> String {
    let replies = replies(receiver).await;
    assert_eq!(replies.last(), Some(&ended(0, 0)), "{replies:?}");
    replies
        .iter()
        .filter_map(|reply| match reply {
            Reply::Output { stream: Stream::Stdout, bytes, .. } => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        })
        .collect()
}

pub fn ended(index: usize, status: i32) -> Reply {
    Reply::Ended { index, status: Status::Exited(status) }
}

pub fn printed(index: usize, stream: Stream, text: &str) -> Reply {
    Reply::Output { index, stream, bytes: Bytes::copy_from_slice(text.as_bytes()) }
}

/// A body of `count` chunks of `size` bytes that no chunk shares with another.
pub fn body(count: u64, size: usize) -> Body {
    let (sender, body) = mpsc::channel(2);
    tokio::spawn(async move {
        for number in 0..count {
            let chunk: Vec<u8> = number.to_le_bytes().iter().copied().cycle().take(size).collect();
            if sender.send(Ok(chunk.into())).await.is_err() {
                return;
            }
        }
    });
    body
}

#[tokio::test]
async fn a_batch_travels_together_and_comes_back_apart() {
    let sshd = Sshd::start(Options::default());
    let session = sshd.session().await;
    let batch = vec![
        Command::shell("pwd; echo oops >&2"),
        Command::argv(["printf", "%s|", "it's", "$HOME", "a\nb"]),
        Command::argv(["sh", "-c", "exit 3"]),
        Command::shell("echo never"),
    ];
    let replies = replies(session.run(batch)).await;
    let mut sorted = replies.clone();
    sorted.retain(|reply| !matches!(reply, Reply::Output { .. }));
    assert_eq!(
        sorted,
        [
            Reply::Started { index: 0 },
            ended(0, 0),
            Reply::Started { index: 1 },
            ended(1, 0),
            Reply::Started { index: 2 },
            ended(2, 3)
        ]
    );
    assert!(replies.contains(&printed(0, Stream::Stdout, &format!("{}\n", sshd.home.display()))), "{replies:?}");
    assert!(replies.contains(&printed(0, Stream::Stderr, "oops\n")), "{replies:?}");
    assert!(replies.contains(&printed(1, Stream::Stdout, "it's|$HOME|a\nb|")), "{replies:?}");
    // Key exchange 3, key 2, channel 1, batch 1.
    assert_eq!((session.usage().channels, session.usage().round_trips), (1, 7));
    session.close().await;
}

#[tokio::test]
async fn what_ended_a_command_is_told() {
    let sshd = Sshd::start(Options::default());
    let session = sshd.session().await;
    assert_eq!(replies(session.run(vec![Command::shell("kill -9 $$")])).await.last(), Some(&ended(0, 137)));
    assert_eq!(replies(session.run(vec![Command::argv(["no-such-program"])])).await.last(), Some(&ended(0, 127)));
    let limit = std::time::Duration::from_secs(1);
    let slow = replies(session.run(vec![Command::argv(["sleep", "30"]).timeout(limit)])).await;
    assert_eq!(slow.last(), Some(&Reply::Ended { index: 0, status: Status::TimedOut(limit) }));
}

/// sshd takes new memory for all that waits with every packet (`sshbuf_allocate` in OpenSSH's sshbuf.c), so what it is
/// sent faster than a program reads costs it page faults by the square.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn little_waits_in_a_near_server() {
    let sshd = Sshd::start(Options::default());
    let session = sshd.session().await;
    let near = || session.usage().round_trip.is_some_and(|time| time < std::time::Duration::from_millis(2));
    for _ in (0..100).take_while(|_| !near()) {
        session.warm(0);
        assert_eq!(output(session.run(vec![Command::argv(["true"])])).await, "");
    }
    // The minor faults of the process above the shell (proc_pid_stat(5)), after a program that reads late.
    let late = Command::subshell("sleep 0.05; cat >/dev/null; cut -d ' ' -f 10 \"/proc/$PPID/stat\"");
    let faults = output(session.feed(vec![late], body(32, 256 * 1024))).await;
    assert!(faults.trim().parse().is_ok_and(|faults: u32| faults < 5_000), "{faults}");
}

#[tokio::test]
async fn sixty_four_mebibytes_arrive_whole() {
    let sshd = Sshd::start(Options::default());
    let session = sshd.session().await;
    let mut receiver = session.feed(vec![Command::shell("sha256sum | cut -c1-64")], body(256, 256 * 1024));
    let (mut sent, mut sum) = (0, Vec::new());
    while let Some(reply) = receiver.recv().await {
        match reply {
            Reply::Sent { bytes } => {
                assert!(bytes > sent);
                sent = bytes;
            }
            Reply::Output { bytes, .. } => sum.extend_from_slice(&bytes),
            Reply::Ended { status, .. } => assert!(status.success()),
            Reply::Started { .. } => {}
            Reply::Lost(lost) => panic!("{lost}"),
        }
    }
    let mut here = Vec::new();
    let mut chunks = body(256, 256 * 1024);
    while let Some(Ok(chunk)) = chunks.recv().await {
        here.extend_from_slice(&chunk);
    }
    use sha2::Digest as _;
    let expected: String = sha2::Sha256::digest(&here).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((sent, String::from_utf8_lossy(&sum).trim()), (64 * 1024 * 1024, expected.as_str()));
}

#[tokio::test]
async fn a_command_that_ends_early_does_not_hold_the_feeding() {
    let sshd = Sshd::start(Options::default());
    let session = sshd.session().await;
    let replies = replies(session.feed(vec![Command::shell("exit 7")], body(4096, 256 * 1024))).await;
    assert_eq!(replies.last(), Some(&ended(0, 7)));
}

#[tokio::test]
async fn a_lost_connection_is_no_status() {
    let sshd = Sshd::start(Options::default());
    let session = sshd.session().await;
    let server = output(session.run(vec![Command::session("echo $PPID")])).await;
    let mut running = session.run(vec![Command::shell("echo here; sleep 5"), Command::shell("echo never")]);
    while let Some(reply) = running.recv().await {
        if matches!(reply, Reply::Output { .. }) {
            break;
        }
    }
    let mut feeding = session.feed(vec![Command::shell("sleep 5")], body(4096, 256 * 1024));
    while let Some(reply) = feeding.recv().await {
        // Until the server takes no more.
        if matches!(reply, Reply::Sent { bytes } if bytes >= 2 * 1024 * 1024) {
            break;
        }
    }
    assert!(std::process::Command::new("kill").args(["-9", server.trim()]).status().unwrap().success());
    for receiver in [running, feeding] {
        let replies = replies(receiver).await;
        assert!(matches!(replies.last(), Some(Reply::Lost(_))), "{replies:?}");
    }
    let after = replies(session.run(vec![Command::shell("true")])).await;
    assert!(matches!(after.as_slice(), [Reply::Lost(_)]), "{after:?}");
}
