//! A client that is gone: its lock frees itself, and nothing more of its batch is started.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ship::command::Command;
use ship::session::{Reply, Session, Status};
use ship::target::Target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::session::commands::{ended, output, replies};
use crate::session::sshd::{Options, Sshd};

fn lock(sshd: &Sshd) -> Command {
    Command::session(format!("exec 8>>{}; flock -n 8", sshd.home.join("lock").display()))
}

/// Waits, for the server's sake, until the lock can be had.
async fn lock_is_free(sshd: &Sshd, session: &Arc<dyn Session>) {
    let file = sshd.home.join("lock");
    let wait = Command::argv(["flock", "-w", "20", file.to_str().unwrap(), "true"]);
    assert_eq!(output(session.run(vec![wait])).await, "");
}

#[tokio::test]
async fn a_lock_dies_with_its_client_and_the_rest_of_the_batch_with_it() {
    let sshd = Sshd::start(Options::default());
    let other = sshd.session().await;
    let (started, is_started) = std::sync::mpsc::channel();
    let (target, connector, first) = (sshd.target(), sshd.connector(), lock(&sshd));
    // A runtime that ends like a process that is killed: its sockets close, and that is all.
    let client = tokio::runtime::Runtime::new().unwrap();
    client.spawn(async move {
        let session = connector.connect(&target).await.unwrap().session;
        session.guard().await.unwrap();
        let batch = vec![
            first,
            Command::shell("echo running; sleep 2; echo still > finished"),
            Command::shell("echo never > next"),
        ];
        let mut running = session.run(batch);
        while let Some(reply) = running.recv().await {
            if matches!(reply, Reply::Output { .. }) {
                started.send(()).unwrap();
            }
        }
    });
    tokio::task::spawn_blocking(move || {
        is_started.recv().unwrap();
        client.shutdown_background();
    })
    .await
    .unwrap();
    let held = replies(other.run(vec![lock(&sshd)])).await;
    assert_eq!(held.last(), Some(&ended(0, 1)), "the running command still holds it");
    lock_is_free(&sshd, &other).await;
    let seen = output(other.run(vec![Command::shell("cat finished; test -e next || echo no")])).await;
    assert_eq!(seen, "still\nno\n");
}

#[tokio::test]
async fn a_closed_session_has_freed_its_lock() {
    let sshd = Sshd::start(Options::default());
    let other = sshd.session().await;
    for _ in 0..5 {
        let session = sshd.session().await;
        let leave = Command::shell("sleep 20 >/dev/null 2>&1 &");
        assert_eq!(output(session.run(vec![lock(&sshd)])).await, "");
        session.guard().await.unwrap();
        assert_eq!(output(session.run(vec![leave])).await, "");
        session.close().await;
        assert_eq!(replies(other.run(vec![lock(&sshd)])).await.last(), Some(&ended(0, 0)));
        assert_eq!(output(other.run(vec![Command::session("exec 8>&-")])).await, "");
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_stopped_is_given_up_and_nothing_follows_it() {
    let sshd = Sshd::start(Options::default());
    // Like root's process, it cannot be bounded by `timeout`.
    sshd.program("sudo", "#!/bin/sh\nshift 2\nexec \"$@\"\n");
    let session = sshd.session().await;
    let limit = Duration::from_secs(1);
    let stuck = Command::argv(["sleep", "18"]).sudo().timeout(limit);
    let seen = replies(session.run(vec![stuck, Command::shell("echo never > next")])).await;
    assert_eq!(seen, [Reply::Started { index: 0 }, Reply::Ended { index: 0, status: Status::TimedOut(limit) }]);
    // The next batch has a shell of its own, at once.
    let seen = output(session.run(vec![Command::shell("sleep 4; test -e next || echo no")])).await;
    assert_eq!(seen, "no\n");
}

/// Passes bytes on until it is told to swallow them.
async fn proxy(port: u16, swallow: Arc<AtomicBool>) -> io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let here = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let ((client_read, client_write), (server_read, server_write)) = (client.into_split(), server.into_split());
            tokio::spawn(pass(client_read, server_write, swallow.clone()));
            tokio::spawn(pass(server_read, client_write, swallow.clone()));
        }
    });
    Ok(here)
}

async fn pass(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, swallow: Arc<AtomicBool>) {
    let mut buffer = vec![0; 65536];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if !swallow.load(Ordering::SeqCst) && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    // Neither side hears that the other is gone.
    std::future::pending::<()>().await;
}

#[tokio::test]
#[ignore = "takes two minutes: the host's patience with silence"]
async fn a_client_in_a_black_hole_does_not_keep_its_lock() {
    let sshd = Sshd::start(Options::default());
    let other = sshd.session().await;
    let swallow = Arc::new(AtomicBool::new(false));
    let port = proxy(sshd.port, swallow.clone()).await.unwrap();
    let target = Target { port: Some(port), host_keys: vec![sshd.host_key.clone()], ..sshd.target() };
    let session = sshd.connector().connect(&target).await.unwrap().session;
    assert_eq!(output(session.run(vec![lock(&sshd)])).await, "");
    session.guard().await.unwrap();
    // A minute in which both sides hear each other changes nothing.
    tokio::time::sleep(Duration::from_secs(65)).await;
    assert_eq!(replies(other.run(vec![lock(&sshd)])).await.last(), Some(&ended(0, 1)));
    swallow.store(true, Ordering::SeqCst);
    let file = sshd.home.join("lock");
    let wait = Command::argv(["flock", "-w", "70", file.to_str().unwrap(), "true"]).timeout(Duration::from_secs(80));
    assert_eq!(output(other.run(vec![wait])).await, "");
    // And here the connection is given up.
    let lost = replies(session.run(vec![Command::shell("true")])).await;
    assert!(matches!(lost.as_slice(), [Reply::Lost(_)]), "{lost:?}");
}
