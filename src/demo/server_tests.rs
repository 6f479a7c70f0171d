//! The server, as OpenSSH's own client sees it.
#![expect(clippy::disallowed_methods, reason = "the client is a program")]

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use russh::{ChannelMsg, Sig};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::Server;

const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

struct Host {
    folder: tempfile::TempDir,
    server: Server,
}

impl Host {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&folder.path().join("home"), PATH).await.unwrap();
        let mut options = std::fs::OpenOptions::new();
        let mut key = options.create_new(true).write(true).mode(0o600).open(folder.path().join("key")).unwrap();
        std::io::Write::write_all(&mut key, server.client_key().expose().as_bytes()).unwrap();
        let known = format!("[127.0.0.1]:{} {}\n", server.port(), server.host_key());
        std::fs::write(folder.path().join("known_hosts"), known).unwrap();
        Self { folder, server }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ssh(&self) -> Command {
        let mut ssh = Command::new("ssh");
        let file = |name: &str| self.path().join(name).display().to_string();
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"])
            .args(["-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=/dev/null"])
            .args(["-o", &format!("UserKnownHostsFile={}", file("known_hosts"))])
            .args(["-i", &file("key"), "-l", "somebody", "-p", &self.server.port().to_string(), "127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        ssh
    }

    async fn run(&self, command: &str) -> Output {
        timeout(Duration::from_secs(30), self.ssh().arg(command).output()).await.unwrap().unwrap()
    }
}

/// Whether a process with exactly this command line runs.
async fn runs(command: &str) -> bool {
    let list = Command::new("ps").args(["-eo", "args"]).output().await.unwrap();
    String::from_utf8_lossy(&list.stdout).lines().any(|line| line == command)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap().trim_end()
}

async fn started(child: &mut Child) {
    let mut line = [0; 6];
    let stdout = child.stdout.as_mut().unwrap();
    timeout(Duration::from_secs(20), stdout.read_exact(&mut line)).await.unwrap().unwrap();
    assert_eq!(&line, b"ready\n");
}

#[tokio::test]
async fn a_command_runs_in_its_home_with_little_around_it() {
    let host = Host::start().await;
    let home = host.path().join("home");
    let bin = home.join("bin");
    std::fs::write(bin.join("greet"), "#!/bin/sh\necho hello from \"$USER\"; echo beside >&2\n").unwrap();
    std::fs::set_permissions(bin.join("greet"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = host.run("greet; pwd; echo \"$HOME $PATH\"; env | cut -d= -f1 | sort | tr '\\n' ' '; exit 7").await;
    let home = home.display();
    assert_eq!(
        text(&output.stdout),
        format!(
            "hello from somebody\n{home}\n{home} {home}/bin:{PATH}\nHOME LANG LOGNAME PATH PWD SHELL SHIP_DEMO USER"
        )
    );
    assert_eq!(text(&output.stderr), "beside");
    assert_eq!(output.status.code(), Some(7));
    for code in [0, 1, 255] {
        assert_eq!(host.run(&format!("exit {code}")).await.status.code(), Some(code));
    }
}

#[tokio::test]
async fn a_command_that_a_signal_ended_says_so() {
    let host = Host::start().await;
    let output = timeout(Duration::from_secs(20), host.ssh().args(["-v", "kill -s KILL $$"]).output());
    let output = output.await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(255));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("rtype exit-signal"), "{said}");
    assert!(!said.contains("rtype exit-status"), "{said}");
}

struct Trusting;

impl russh::client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &russh::keys::PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// What a channel says from the command to its close, output as its length.
async fn said(connection: &russh::client::Handle<Trusting>, command: &str, signal: Option<Sig>) -> Vec<String> {
    let mut channel = connection.channel_open_session().await.unwrap();
    channel.exec(true, command).await.unwrap();
    let mut said = Vec::new();
    while let Some(message) = timeout(Duration::from_secs(20), channel.wait()).await.unwrap() {
        said.push(match message {
            ChannelMsg::Data { data } => {
                if let Some(signal) = signal.clone() {
                    channel.signal(signal).await.unwrap();
                }
                format!("out {}", data.len())
            }
            ChannelMsg::ExtendedData { data, ext } => format!("ext{ext} {}", data.len()),
            ChannelMsg::ExitStatus { exit_status } => format!("status {exit_status}"),
            ChannelMsg::ExitSignal { signal_name, .. } => format!("signal {signal_name:?}"),
            ChannelMsg::WindowAdjusted { .. } => continue,
            other => format!("{other:?}").to_lowercase(),
        });
    }
    said
}

#[tokio::test]
async fn a_channel_ends_in_the_order_of_the_rfc() {
    let host = Host::start().await;
    let address = ("127.0.0.1", host.server.port());
    let mut connection = russh::client::connect(Arc::default(), address, Trusting).await.unwrap();
    let key = russh::keys::PrivateKey::from_openssh(host.server.client_key().expose()).unwrap();
    let key = russh::keys::PrivateKeyWithHashAlg::new(Arc::new(key), None);
    assert!(connection.authenticate_publickey("somebody", key).await.unwrap().success());
    let ended = |how: &str| vec!["success".to_owned(), how.to_owned(), "eof".to_owned(), "close".to_owned()];
    assert_eq!(said(&connection, "exit 3", None).await, ended("status 3"));
    for (signal, name) in
        [("KILL", "KILL"), ("TERM", "TERM"), ("SEGV", "SEGV"), ("USR2", "Custom(\"SIG@openssh.com\")")]
    {
        let command = format!("ulimit -c 0; kill -s {signal} $$");
        assert_eq!(said(&connection, &command, None).await, ended(&format!("signal {name}")));
    }
    let told = said(&connection, "echo ready; sleep 30; echo never", Some(Sig::TERM)).await;
    assert_eq!(told, ["success", "out 6", "signal TERM", "eof", "close"]);
    let told = said(&connection, "echo out; sleep 0.1; echo aside >&2", None).await;
    assert_eq!(told.iter().filter(|line| line.starts_with("ext1 6") || line.starts_with("out 4")).count(), 2);
    // A second command in the same channel is refused, and the first goes on.
    let mut channel = connection.channel_open_session().await.unwrap();
    channel.exec(true, "sleep 0.2; exit 5").await.unwrap();
    channel.exec(true, "exit 6").await.unwrap();
    let mut told = Vec::new();
    while let Some(message) = timeout(Duration::from_secs(20), channel.wait()).await.unwrap() {
        told.push(format!("{message:?}"));
    }
    assert_eq!(told, ["Success", "Failure", "ExitStatus { exit_status: 5 }", "Eof", "Close"]);
}

#[tokio::test]
async fn a_body_of_64_mib_arrives_whole_and_comes_back_whole() {
    let host = Host::start().await;
    let block: Vec<u8> = (0..1 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut sum = Sha256::new();
    for _ in 0..64 {
        sum.update(&block);
    }
    let sum = sum.finalize();
    for command in ["sha256sum", "cat"] {
        let mut child = host.ssh().arg(command).stdin(Stdio::piped()).spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let body = block.clone();
        tokio::spawn(async move {
            for _ in 0..64 {
                stdin.write_all(&body).await.unwrap();
            }
        });
        // In parts: another test looks at this process's memory.
        let (mut back, mut said, mut buffer) = (Sha256::new(), Vec::new(), vec![0; 1 << 16]);
        loop {
            let count = timeout(Duration::from_secs(30), stdout.read(&mut buffer)).await.unwrap().unwrap();
            if count == 0 {
                break;
            }
            back.update(&buffer[..count]);
            said.extend_from_slice(&buffer[..count.min(128)]);
        }
        assert!(child.wait().await.unwrap().success());
        if command == "cat" {
            assert_eq!(back.finalize(), sum);
        } else {
            let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(text(&said), format!("{hex}  -"));
        }
    }
}

#[tokio::test]
async fn a_command_may_end_before_it_has_read_everything() {
    let host = Host::start().await;
    let mut child = host.ssh().arg("head -c 3; exit 4").stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    tokio::spawn(async move { while stdin.write_all(&[b'x'; 65536]).await.is_ok() {} });
    let output = timeout(Duration::from_secs(20), child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!((text(&output.stdout), output.status.code()), ("xxx", Some(4)));
}

/// The memory of this process in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn readers_that_stop_reading_cost_no_memory_and_do_not_stop_the_others() {
    let host = Host::start().await;
    let socket = host.path().join("master");
    let shared = |command: &str| {
        let mut ssh = host.ssh();
        ssh.args(["-o", "ControlMaster=auto", "-o", &format!("ControlPath={}", socket.display())]).arg(command);
        ssh
    };
    // All on one connection: a client that does not read what comes without end, and a command that does
    // not read what it is sent.
    let mut endless = shared("echo ready; exec cat /dev/zero").spawn().unwrap();
    started(&mut endless).await;
    let mut deaf = shared("echo ready; exec sleep 61.5").stdin(Stdio::piped()).spawn().unwrap();
    started(&mut deaf).await;
    let before = memory();
    let mut stdin = deaf.stdin.take().unwrap();
    for _ in 0..128 {
        timeout(Duration::from_secs(20), stdin.write_all(&vec![b'x'; 1 << 20])).await.unwrap().unwrap();
    }
    for round in 0..5 {
        let mut next = shared(&format!("cat; exit {round}")).stdin(Stdio::null()).spawn().unwrap();
        assert_eq!(timeout(Duration::from_secs(20), next.wait()).await.unwrap().unwrap().code(), Some(round));
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < 48 * 1024, "{grown} KiB more");
    drop((endless, deaf));
    host.server.stop().await;
}

#[tokio::test]
async fn a_connection_has_ten_sessions_and_no_more() {
    let host = Host::start().await;
    let socket = host.path().join("master");
    let shared = |command: &str| {
        let mut ssh = host.ssh();
        ssh.args(["-o", "ControlMaster=auto", "-o", &format!("ControlPath={}", socket.display())]);
        ssh.arg(command).stdin(Stdio::piped());
        ssh
    };
    let mut open = Vec::new();
    for _ in 0..10 {
        let mut child = shared("echo ready; cat").spawn().unwrap();
        started(&mut child).await;
        open.push(child);
    }
    // The client falls back to a connection of its own, and says why.
    let mut eleventh = shared("exit 0").spawn().unwrap();
    drop(eleventh.stdin.take());
    let said = timeout(Duration::from_secs(20), eleventh.wait_with_output()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&said.stderr).contains("refused by peer"), "{said:?}");
    for child in open.iter_mut().rev() {
        drop(child.stdin.take());
        assert!(timeout(Duration::from_secs(20), child.wait()).await.unwrap().unwrap().success());
    }
}

#[tokio::test]
async fn what_is_not_offered_is_refused_at_once() {
    let host = Host::start().await;
    let asked = |arguments: &[&str]| {
        let mut ssh = host.ssh();
        ssh.args(arguments);
        async move { timeout(Duration::from_secs(20), ssh.output()).await.unwrap().unwrap() }
    };
    let shell = asked(&[]).await;
    assert!(String::from_utf8_lossy(&shell.stderr).contains("shell request failed"), "{shell:?}");
    let subsystem = asked(&["-s", "sftp"]).await;
    assert!(String::from_utf8_lossy(&subsystem.stderr).contains("subsystem request failed"), "{subsystem:?}");
    let terminal = asked(&["-tt", "true"]).await;
    assert!(String::from_utf8_lossy(&terminal.stderr).contains("PTY allocation request failed"), "{terminal:?}");
    let mut forward = host.ssh();
    forward.args(["-W", &format!("127.0.0.1:{}", host.server.port())]);
    let forward = timeout(Duration::from_secs(20), forward.output()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&forward.stderr).contains("open failed"), "{forward:?}");
    let backward = asked(&["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9", "true"]).await;
    assert_eq!(backward.status.code(), Some(255));
}

#[tokio::test]
async fn nobody_else_comes_in() {
    let (host, other) = (Host::start().await, Host::start().await);
    std::fs::copy(other.path().join("key"), host.path().join("key")).unwrap();
    let output = host.run("echo in").await;
    assert_eq!((text(&output.stdout), output.status.code()), ("", Some(255)));
    assert!(text(&output.stderr).contains("Permission denied (publickey)"), "{output:?}");
}

#[tokio::test]
async fn a_lost_client_is_the_end_of_input_and_not_of_the_command() {
    let host = Host::start().await;
    let proof = host.path().join("proof");
    let command = format!("echo ready; cat >/dev/null; echo done > {}", proof.display());
    let mut child = host.ssh().arg(command).stdin(Stdio::piped()).spawn().unwrap();
    started(&mut child).await;
    child.kill().await.unwrap();
    for _ in 0..200 {
        if proof.exists() {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("the command never saw the end of its input");
}

#[tokio::test]
async fn a_channel_stays_open_for_what_the_command_left_behind() {
    let host = Host::start().await;
    let output = host.run("(sleep 0.3; echo late) & echo early; exit 3").await;
    assert_eq!((text(&output.stdout), output.status.code()), ("early\nlate", Some(3)));
}

#[tokio::test]
async fn nothing_outlives_the_server() {
    let host = Host::start().await;
    let output = host
        .run(
            "setsid sleep 3601.25 >/dev/null 2>&1 </dev/null & nohup timeout 3602 sleep 3602.25 >/dev/null 2>&1 </dev/null &",
        )
        .await;
    assert!(output.status.success());
    let mut child = host.ssh().arg("echo ready; sleep 3603.25; true").spawn().unwrap();
    started(&mut child).await;
    let sleeps = ["3601.25", "3602.25", "3603.25"].map(|seconds| format!("sleep {seconds}"));
    for sleep in &sleeps {
        assert!(runs(sleep).await, "{sleep}");
    }
    host.server.stop().await;
    for sleep in &sleeps {
        assert!(!runs(sleep).await, "{sleep}");
    }
    assert_eq!(timeout(Duration::from_secs(20), child.wait()).await.unwrap().unwrap().code(), Some(255));
}
