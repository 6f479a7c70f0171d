//! An SSH server on loopback, for the demo and for tests: one key may log in, and run commands.
//!
//! It behaves as `sshd` does where ship can tell: a login shell per command, ten channels a connection, exit
//! statuses and signals, flow control, commands that outlive their connection. Deliberately absent:
//! terminals, forwarding, subsystems, other addresses than loopback, and any thought of being a server for
//! something that matters. Whoever has the key is the user who started it.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey, run_stream};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, MethodKind, MethodSet, Pty, Sig};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::children::Children;
use super::exec;
use crate::secret::Secret;

/// How many sessions a connection may have at once: OpenSSH's `MaxSessions`.
const SESSIONS: usize = 10;

/// How long connections have to end when the server is stopped.
const FAREWELL: Duration = Duration::from_secs(2);

/// A running server. It ends, and all that it started with it, when this is dropped.
#[derive(Debug)]
pub struct Server {
    port: u16,
    host_key: String,
    client_key: Secret,
    children: Arc<Children>,
    closing: CancellationToken,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Starts one on 127.0.0.1. Commands run in `home`, with the folder `bin` in it before `path` as their
    /// PATH.
    ///
    /// # Errors
    /// Where no port can be had, or `home` not be made.
    pub async fn start(home: &Path, path: &str) -> io::Result<Self> {
        let bin = home.join("bin");
        std::fs::create_dir_all(&bin)?;
        let (host_key, client_key) = (fresh_key()?, fresh_key()?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let mark: String = random()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let children = Arc::new(Children::new(home, format!("{}:{path}", bin.display()), mark));
        let door = Door {
            client: client_key.public_key().clone(),
            config: Arc::new(Config {
                methods: MethodSet::from(&[MethodKind::PublicKey][..]),
                auth_rejection_time: Duration::ZERO,
                inactivity_timeout: None,
                keys: vec![host_key.clone()],
                nodelay: true,
                ..Config::default()
            }),
            children: Arc::clone(&children),
            closing: CancellationToken::new(),
        };
        let closing = door.closing.clone();
        Ok(Self {
            port,
            host_key: host_key.public_key().to_openssh().map_err(io::Error::other)?,
            client_key: Secret::new(client_key.to_openssh(LineEnding::LF).map_err(io::Error::other)?.to_string()),
            children,
            closing,
            accepting: tokio::spawn(door.stand_open(listener)),
        })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host's public key, as one line of OpenSSH's format.
    pub fn host_key(&self) -> String {
        self.host_key.clone()
    }

    /// The private key that may log in, as any user, in OpenSSH's format.
    pub fn client_key(&self) -> Secret {
        self.client_key.clone()
    }

    /// Ends all connections, then all processes that are left.
    pub async fn stop(mut self) {
        self.closing.cancel();
        let _ = tokio::time::timeout(FAREWELL, &mut self.accepting).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.cancel();
        self.accepting.abort();
        self.children.kill();
    }
}

fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

fn fresh_key() -> io::Result<PrivateKey> {
    Ok(PrivateKey::from(Ed25519Keypair::from_seed(&random()?)))
}

/// Lets clients in.
struct Door {
    client: PublicKey,
    config: Arc<Config>,
    children: Arc<Children>,
    closing: CancellationToken,
}

impl Door {
    async fn stand_open(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    // A client that went away again is no reason to close the door.
                    let Ok((stream, _)) = accepted else { continue };
                    let gone = self.closing.child_token();
                    let client = Client {
                        key: self.client.clone(),
                        user: String::new(),
                        children: Arc::clone(&self.children),
                        places: Arc::new(Semaphore::new(SESSIONS)),
                        sessions: HashMap::new(),
                        gone: gone.clone(),
                    };
                    connections.spawn(converse(Arc::clone(&self.config), stream, client, gone));
                }
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                () = self.closing.cancelled() => break,
            }
        }
        while connections.join_next().await.is_some() {}
    }
}

/// Talks to one client until either side has enough.
async fn converse(config: Arc<Config>, stream: TcpStream, client: Client, gone: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let greeting = run_stream(config, stream, client);
    let session = tokio::select! {
        session = greeting => session,
        () = gone.cancelled() => return,
    };
    let Ok(mut session) = session else { return };
    let handle = session.handle();
    tokio::select! {
        _ = &mut session => {}
        () = gone.cancelled() => {
            let farewell = "the demo is over".to_owned();
            let _ = handle.disconnect(Disconnect::ByApplication, farewell, String::new()).await;
            let _ = tokio::time::timeout(FAREWELL, session).await;
        }
    }
    gone.cancel();
}

/// What a channel is.
enum Sessioned {
    /// Open, without a command.
    Waiting(oneshot::Sender<Child>),
    /// Running this process.
    Running(u32),
}

/// One connection.
struct Client {
    key: PublicKey,
    user: String,
    children: Arc<Children>,
    places: Arc<Semaphore>,
    sessions: HashMap<ChannelId, Sessioned>,
    gone: CancellationToken,
}

impl Client {
    fn is_known(&self, key: &PublicKey) -> bool {
        // Not the comment, which a key may bring along.
        self.key.key_data() == key.key_data()
    }

    fn open(&mut self, channel: Channel<Msg>, place: OwnedSemaphorePermit, session: &Session) {
        let (start, started) = oneshot::channel();
        self.sessions.insert(channel.id(), Sessioned::Waiting(start));
        let (handle, children, gone) = (session.handle(), Arc::clone(&self.children), self.gone.child_token());
        tokio::spawn(async move {
            exec::serve(channel, handle, started, children, gone).await;
            drop(place);
        });
    }
}

impl Handler for Client {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _: &str,
        offer: russh::server::PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(if self.is_known(offer.public_key) { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        if !self.is_known(key.public_key) {
            return Ok(Auth::reject());
        }
        user.clone_into(&mut self.user);
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => {
                self.open(channel, place, session);
                reply.accept().await;
            }
            // What OpenSSH says to the eleventh.
            Err(_) => reply.reject(ChannelOpenFailure::ConnectFailed).await,
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.sessions.remove(&channel);
        Ok(())
    }

    async fn exec_request(&mut self, id: ChannelId, command: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        // A channel runs one command (RFC 4254, 6.5).
        let Some(Sessioned::Waiting(start)) = self.sessions.remove(&id) else { return session.channel_failure(id) };
        let child = match self.children.start(command, &self.user) {
            Ok(child) => child,
            Err(_) => return session.channel_failure(id),
        };
        if let Some(process) = child.id() {
            self.sessions.insert(id, Sessioned::Running(process));
        }
        session.channel_success(id)?;
        let _ = start.send(child);
        Ok(())
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _: &mut Session) -> Result<(), Self::Error> {
        let name = match signal {
            Sig::HUP => "HUP",
            Sig::INT => "INT",
            Sig::KILL => "KILL",
            Sig::QUIT => "QUIT",
            Sig::TERM => "TERM",
            Sig::USR1 => "USR1",
            _ => return Ok(()),
        };
        if let Some(Sessioned::Running(process)) = self.sessions.get(&id) {
            self.children.signal(*process, name);
        }
        Ok(())
    }

    // What is not here is refused in words: a client that asks for a reply would wait for ever.

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn env_request(&mut self, id: ChannelId, _: &str, _: &str, session: &mut Session) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }

    async fn subsystem_request(&mut self, id: ChannelId, _: &str, session: &mut Session) -> Result<(), Self::Error> {
        session.channel_failure(id)
    }
}
