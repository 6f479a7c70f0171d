//! One SSH connection: its settings, what the server may do on it, and the session that runs over it.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use russh::client::{self, ChannelOpenHandle, DisconnectReason, Handle, Msg};
use russh::keys::PublicKeyOrCertificate;
use russh::keys::agent::AgentSessionBinding;
use russh::keys::agent::client::AgentClient;
use russh::{Channel, ChannelOpenFailure, Disconnect, Names, Preferred, cipher, compression, kex, mac};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::config::Patience;
use super::feed::feed;
use super::flow::Flow;
use super::host_key::{Expected, Verdict};
use super::pipes::{Host, Meter, Pipes};
use super::shell::Shell;
use super::spare::Spares;
use super::sudo::Sudo;
use super::{Body, BoxFuture, Lost, Reply, Session, Status, Usage, channel};
use crate::command::Command;
use crate::event::Stream;
use crate::output::visible;

/// How long the server may take to open a channel.
const CHANNEL_LIMIT: Duration = Duration::from_secs(30);

/// How long a farewell may wait for earlier data.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);

/// How much of sudo's complaints is kept.
const MOST_SAID: usize = 2000;

/// What becomes known while the connection lives.
#[derive(Debug, Default)]
pub(super) struct Seen {
    verdict: Mutex<Option<Verdict>>,
    loss: Mutex<Option<String>>,
    binding: OnceLock<AgentSessionBinding>,
    openssh: OnceLock<bool>,
}

impl Seen {
    /// Whether the server says that it is OpenSSH's (RFC 4253, 4.2).
    fn is_openssh(&self) -> bool {
        self.openssh.get().copied().unwrap_or_default()
    }

    /// The verdict on the server's key.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the connection ended.
    pub(super) fn loss(&self) -> Option<String> {
        self.loss.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What binds an agent to this connection, known after the key exchange.
    pub(super) fn bind(&self, binding: Option<&AgentSessionBinding>) {
        if let Some(binding) = binding {
            let _ = self.binding.set(binding.clone());
        }
    }

    fn lose(&self, reason: String) {
        self.loss.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }
}

/// Our side of a connection.
pub(super) struct Client {
    pub(super) expected: Expected,
    pub(super) seen: Arc<Seen>,
    /// The agent that the server may use, where it may use any.
    pub(super) agent: Option<PathBuf>,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let verdict = self.expected.judge(shown);
        let trusted = verdict == Verdict::Trusted;
        *self.seen.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
        Ok(trusted)
    }

    async fn kex_done(
        &mut self,
        _: Option<&[u8]>,
        names: &Names,
        session: &mut client::Session,
    ) -> Result<(), russh::Error> {
        let _ = self.seen.openssh.set(session.remote_sshid().starts_with(b"SSH-2.0-OpenSSH_"));
        // CVE-2023-48795 (Terrapin): without strict key exchange these two kinds can be cut short.
        let gcm = [cipher::AES_256_GCM, cipher::AES_128_GCM].contains(&names.cipher);
        if !names.strict_kex() && !gcm {
            self.seen.lose(
                "the server has no strict key exchange, without which its ciphers are not safe (CVE-2023-48795)"
                    .to_owned(),
            );
            return Err(russh::Error::Kex);
        }
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                self.seen.lose(format!("the server hung up: {}", visible(info.message.as_bytes())));
                Ok(())
            }
            DisconnectReason::Error(error) => {
                self.seen.lose(describe(&error));
                Err(error)
            }
        }
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        match self.agent.clone() {
            Some(socket) => {
                reply.accept().await;
                tokio::spawn(relay(channel, socket, self.seen.clone()));
            }
            None => reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await,
        }
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), russh::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }
}

/// Joins the server's request to the agent on this machine, told that it is a forwarded one.
async fn relay(channel: Channel<Msg>, socket: PathBuf, seen: Arc<Seen>) {
    let Ok(mut agent) = AgentClient::connect_uds(&socket).await else { return };
    if let Some(binding) = seen.binding.get() {
        let _ = agent.bind_session(binding, true).await;
    }
    let _ = relay_streams(channel, agent).await;
}

async fn relay_streams(channel: Channel<Msg>, agent: AgentClient<UnixStream>) -> std::io::Result<(u64, u64)> {
    tokio::io::copy_bidirectional(&mut channel.into_stream(), &mut agent.into_inner()).await
}

/// What an error of russh means, for a person.
pub(super) fn describe(error: &russh::Error) -> String {
    match error {
        russh::Error::HUP => "the server closed the connection".to_owned(),
        russh::Error::KeepaliveTimeout | russh::Error::InactivityTimeout => {
            "the server has not answered for too long (ssh_config: ServerAliveInterval)".to_owned()
        }
        russh::Error::NoCommonAlgo { kind, theirs, .. } => {
            format!(
                "the server offers no {kind:?} algorithm that is safe, only {}",
                visible(theirs.join(", ").as_bytes())
            )
        }
        error => visible(error.to_string().as_bytes()),
    }
}

/// The settings of a connection to the server that is `expected`.
pub(super) fn settings(expected: &Expected, patience: Patience) -> client::Config {
    let silence = u32::try_from(patience.count).ok().filter(|count| *count > 0);
    client::Config {
        client_id: russh::SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-ship_", env!("CARGO_PKG_VERSION")))),
        nodelay: true,
        keepalive_interval: Some(patience.interval),
        keepalive_max: patience.count,
        // Keepalive does not fire while a write is blocked; this covers it.
        inactivity_timeout: silence.map(|count| patience.interval.saturating_mul(count.saturating_add(1))),
        preferred: Preferred {
            kex: Cow::Borrowed(&[
                kex::MLKEM768X25519_SHA256,
                kex::CURVE25519,
                kex::CURVE25519_PRE_RFC_8731,
                kex::DH_G16_SHA512,
                kex::EXTENSION_SUPPORT_AS_CLIENT,
                kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
            ]),
            cipher: Cow::Borrowed(&[
                cipher::AES_256_GCM,
                cipher::AES_128_GCM,
                cipher::CHACHA20_POLY1305,
                cipher::AES_256_CTR,
            ]),
            mac: Cow::Borrowed(&[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM]),
            compression: Cow::Borrowed(&[compression::NONE]),
            key: expected.algorithms(),
            host_key_certificates: expected.certificate_algorithms(),
        },
        ..client::Config::default()
    }
}

/// A [`Session`] over SSH.
pub(super) struct Ssh {
    server: Arc<Server>,
    spares: Arc<Spares>,
    shell: Shell,
    /// How commands call sudo, where it wants a password.
    sudo: OnceLock<Sudo>,
}

/// A server that we are logged in to.
struct Server {
    handle: Handle<Client>,
    seen: Arc<Seen>,
    meter: Arc<Meter>,
    forward_agent: bool,
    /// The channel of the long-lived shell: every command needs it, so it is asked for at once.
    first: Mutex<Option<JoinHandle<Result<Opened, Lost>>>>,
}

impl Ssh {
    /// A session over `handle`, which is logged in. Another connection to the same server may be begun in place of
    /// this one once `permit` is dropped: whoever answers in a channel has told the server's listener of the login.
    pub(super) fn new(
        handle: Handle<Client>,
        seen: Arc<Seen>,
        meter: Arc<Meter>,
        forward_agent: bool,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let server = Arc::new(Server { handle, seen, meter, forward_agent, first: Mutex::default() });
        let opener = Arc::clone(&server);
        let opening = tokio::spawn(async move {
            let opened = opener.open().await;
            drop(permit);
            opened
        });
        *server.first.lock().unwrap_or_else(PoisonError::into_inner) = Some(opening);
        let spares = Arc::new(Spares::new(server.clone()));
        Self { shell: Shell::new(Arc::clone(&spares)), spares, server, sudo: OnceLock::new() }
    }

    /// Runs a question about sudo in the long-lived shell: how it ended, and the last line of what it complained.
    pub(super) async fn ask_sudo(&self, command: Command) -> Result<(Status, String), Lost> {
        let mut replies = self.shell.run(vec![command]);
        let (mut said, mut end) = (Vec::new(), None);
        while let Some(reply) = replies.recv().await {
            match reply {
                Reply::Output { stream: Stream::Stderr, bytes, .. } => {
                    said.extend_from_slice(&bytes);
                    let surplus = said.len().saturating_sub(MOST_SAID);
                    said.drain(..surplus);
                }
                Reply::Ended { status, .. } => end = Some(status),
                Reply::Lost(lost) => return Err(lost),
                Reply::Output { .. } | Reply::Started { .. } | Reply::Sent { .. } => {}
            }
        }
        let last = said.split(|byte| *byte == b'\n').rfind(|line| !line.trim_ascii().is_empty());
        end.map(|end| (end, last.map(visible).unwrap_or_default())).ok_or_else(|| self.server.loss())
    }

    /// From now on, commands call sudo in this way.
    pub(super) fn use_sudo(&self, sudo: Sudo) {
        self.shell.sudo(sudo.clone());
        let _ = self.sudo.set(sudo);
    }
}

impl Session for Ssh {
    fn run(&self, batch: Vec<Command>) -> mpsc::Receiver<Reply> {
        self.shell.run(batch)
    }

    fn feed(&self, batch: Vec<Command>, body: Body) -> mpsc::Receiver<Reply> {
        feed(Arc::clone(&self.spares), batch, body, self.sudo.get().cloned())
    }

    fn warm(&self, shells: usize) {
        self.spares.start(shells);
        tokio::spawn(measure(Arc::downgrade(&self.server)));
    }

    fn guard(&self) -> BoxFuture<'_, Result<(), Lost>> {
        Box::pin(self.shell.guard())
    }

    fn unguard(&self) {
        self.shell.unguard();
    }

    fn interrupt(&self) -> BoxFuture<'_, ()> {
        self.shell.interrupt();
        Box::pin(async {})
    }

    fn usage(&self) -> Usage {
        self.server.meter.usage()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.spares.dismiss();
            self.shell.close().await;
            // A connection that is stuck takes no farewell.
            let farewell = self.server.handle.disconnect(Disconnect::ByApplication, "", "");
            let _ = tokio::time::timeout(FAREWELL_LIMIT, farewell).await;
        })
    }
}

/// Asks the server for a sign of life a few times, beside everything else, to see how far away it is. What it answers in
/// a channel takes its processor too: a near one that is busy would count as far.
async fn measure(server: Weak<Server>) {
    for _ in 0..PINGS {
        let Some(server) = server.upgrade() else { return };
        let began = Instant::now();
        // A server that is gone answers at once.
        if server.handle.send_ping().await.is_err() || server.handle.is_closed() {
            return;
        }
        server.meter.took(began.elapsed());
    }
}

/// How many.
const PINGS: u32 = 8;

/// A channel, and after how many round trips it was open.
type Opened = (Channel<Msg>, u64);

impl Server {
    async fn open(&self) -> Result<Opened, Lost> {
        self.meter.channel();
        let asked = self.meter.now();
        let began = Instant::now();
        let opening = tokio::time::timeout(CHANNEL_LIMIT, self.handle.channel_open_session()).await;
        self.meter.took(began.elapsed());
        let channel = match opening {
            Ok(Ok(channel)) => channel,
            Ok(Err(russh::Error::ChannelOpenFailure(_))) => {
                return Err(Lost {
                    reason: "the server opens no more channels on this connection (sshd_config: MaxSessions)"
                        .to_owned(),
                });
            }
            Ok(Err(_)) => return Err(self.loss()),
            Err(_) => return Err(Lost { reason: "the server does not open a channel".to_owned() }),
        };
        Ok((channel, asked + 1))
    }

    async fn run(&self, (channel, now): Opened, program: &str) -> Result<Pipes, Lost> {
        let flow = Flow::new(Arc::clone(&self.meter), self.seen.is_openssh());
        let started = channel::start(channel, program, self.forward_agent, self.meter.clone(), flow, now);
        started.await.map_err(|_| self.loss())
    }
}

impl Host for Server {
    fn start<'a>(&'a self, program: &'a str) -> BoxFuture<'a, Result<Pipes, Lost>> {
        Box::pin(async move { self.run(self.open().await?, program).await })
    }

    fn start_shell<'a>(&'a self, program: &'a str) -> BoxFuture<'a, Result<Pipes, Lost>> {
        Box::pin(async move {
            let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let (channel, opened) = match first {
                Some(first) => first.await.map_err(|_| self.loss())??,
                None => self.open().await?,
            };
            self.run((channel, opened.max(self.meter.now())), program).await
        })
    }

    fn loss(&self) -> Lost {
        let unknown = || "the connection ended without a word".to_owned();
        Lost { reason: self.seen.loss().unwrap_or_else(unknown) }
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }
}
