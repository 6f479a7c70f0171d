//! Connects: through jump hosts, at a pace that servers take, asking about unknown host keys once.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{Handle, connect_stream};
use russh::keys::ssh_key::public::KeyData;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::auth::{Failure, Login};
use super::config::Route;
use super::deadline::Deadline;
use super::host_key::{Expected, Unknown, Verdict};
use super::keys::Keyring;
use super::pin::{fingerprint, kind};
use super::pipes::Meter;
use super::socket::{self, Duplex, Greeting, Wire};
use super::ssh::{self, Client, Seen, Ssh};
use super::sudo::{self, Refusal};
use super::{BoxFuture, ConnectError, Connected, Lost, Prompt, Session, Settings};
use crate::output::visible;
use crate::secret::Secret;
use crate::target::{SudoPassword, Target};

/// How many connections to one server may be on their way to a login. OpenSSH begins to drop some at
/// ten (sshd_config(5), `MaxStartups`).
const HALF_OPEN: usize = 8;

/// How many hosts look for their way at once.
const READING: usize = 16;

/// How often a server that is too busy is tried again, waiting 0.5, 1, 2 and 4 s.
const RETRIES: u32 = 4;

/// How many jump hosts may stand in a row.
const MOST_HOPS: usize = 8;

/// How long TCP connect, key exchange and login may take together, where neither the settings nor
/// `ConnectTimeout` say.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// A connection that is logged in.
struct Line {
    handle: Handle<Client>,
    seen: Arc<Seen>,
    meter: Arc<Meter>,
    address: String,
    /// The password that a person typed for the login.
    typed: Option<Secret>,
    /// Held until the server has surely heard of the login itself: its listener counts the connection until then.
    permit: Option<OwnedSemaphorePermit>,
}

/// A jump host's connection, made once for all the hosts behind it, or why there is none.
type Bastion = Arc<tokio::sync::Mutex<Option<Result<Arc<Line>, ConnectError>>>>;

/// Makes the connections of a run. Jump hosts, passphrases and answers about host keys are shared by all
/// of them.
pub struct Connector {
    settings: Settings,
    prompt: Arc<dyn Prompt>,
    keyring: Keyring,
    bastions: Mutex<HashMap<String, Bastion>>,
    paces: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// Servers that refused a login: they are not tried again, or they count us as an attacker.
    refused: Mutex<HashSet<String>>,
    /// Few at a time look for their way: each runs `ssh -G`, with open files for what it says.
    reading: Semaphore,
    /// One question at a time.
    asking: tokio::sync::Mutex<()>,
    /// The password for sudo that a person typed, for all the hosts of the run; none where nobody did.
    typed_for_sudo: tokio::sync::Mutex<Option<Option<Secret>>>,
}

impl Connector {
    /// A connector that knows this machine by `settings` and asks a person through `prompt`.
    pub fn new(settings: Settings, prompt: Arc<dyn Prompt>) -> Self {
        Self {
            keyring: Keyring::new(settings.passphrase.clone(), prompt.clone()),
            settings,
            prompt,
            bastions: Mutex::default(),
            paces: Mutex::default(),
            refused: Mutex::default(),
            reading: Semaphore::new(READING),
            asking: tokio::sync::Mutex::default(),
            typed_for_sudo: tokio::sync::Mutex::default(),
        }
    }

    /// Connects to `target`, logs in, and proves the password for sudo where the target has one. Needs a tokio
    /// runtime. The error says what to do.
    pub async fn connect(&self, target: &Target) -> Result<Connected, ConnectError> {
        let line = self.line(target, 0).await?;
        let session = Ssh::new(line.handle, line.seen, line.meter, target.forward_agent, line.permit);
        if let Some(source) = &target.sudo
            && let Err(error) = self.prepare_sudo(&session, &target.name, source, line.typed).await
        {
            session.close().await;
            return Err(error);
        }
        Ok(Connected { session: Arc::new(session), address: line.address })
    }

    /// Finds the password for sudo on a host and proves it. One that was typed for the login is tried first.
    async fn prepare_sudo(
        &self,
        session: &Ssh,
        name: &str,
        source: &SudoPassword,
        typed_for_login: Option<Secret>,
    ) -> Result<(), ConnectError> {
        let lost = |lost: Lost| ConnectError { message: format!("{name}: {lost}"), advice: None };
        let prove = async |password: Secret| {
            let (status, said) = session.ask_sudo(sudo::proof(&password)).await.map_err(|e| Refusal::Other(lost(e)))?;
            session.use_sudo(sudo::judge(name, password, &status, &said)?);
            Ok(())
        };
        let told = |refusal: Refusal| match refusal {
            Refusal::Wrong(error) | Refusal::Other(error) => error,
        };
        if let SudoPassword::Known(password) = source {
            return prove(password.clone()).await.map_err(told);
        }
        let (status, _) = session.ask_sudo(sudo::question()).await.map_err(lost)?;
        if !sudo::is_wanted(&status) {
            return Ok(());
        }
        if let Some(password) = typed_for_login {
            match prove(password).await {
                Err(Refusal::Wrong(_)) => {}
                other => return other.map_err(told),
            }
        }
        match self.ask_for_sudo().await {
            Some(password) => prove(password).await.map_err(told),
            None => Err(ConnectError {
                message: format!("sudo on {name} wants a password, and there is no terminal to ask on"),
                advice: Some(
                    "Let `sudo_password` of the host name a secret: `sudo_password = { secret = \"NAME\" }`, with NAME in \
                     `[secrets]`."
                        .to_owned(),
                ),
            }),
        }
    }

    /// The password for sudo, asked once.
    async fn ask_for_sudo(&self) -> Option<Secret> {
        let mut typed = self.typed_for_sudo.lock().await;
        if let Some(answer) = typed.as_ref() {
            return answer.clone();
        }
        let one_at_a_time = self.asking.lock().await;
        let prompt = self.prompt.clone();
        let asking = tokio::task::spawn_blocking(move || prompt.secret("Password for sudo on the hosts"));
        let answer = asking.await.ok().flatten().filter(|password| !password.expose().is_empty());
        drop(one_at_a_time);
        *typed = Some(answer.clone());
        answer
    }

    /// A logged-in connection to `target`, which is `depth` jump hosts away from where we started.
    fn line<'a>(&'a self, target: &'a Target, depth: usize) -> BoxFuture<'a, Result<Line, ConnectError>> {
        Box::pin(async move {
            if depth > MOST_HOPS {
                return Err(ConnectError {
                    message: format!("{} is more than {MOST_HOPS} jump hosts away", target.name),
                    advice: Some("Is there a circle of jump hosts?".to_owned()),
                });
            }
            let route = {
                let _one_of_few = self.reading.acquire().await;
                Route::to(target, &self.settings).await?
            };
            let bastion = match &route.jump {
                Some(jump) => Some(self.bastion(jump, depth + 1).await?),
                None => None,
            };
            let expected = Expected::of(&target.name, &route.host, route.port, &target.host_keys, &route.rules)?;
            let mut attempt = Attempt { connector: self, target, route: &route, bastion, expected, mismatched: None };
            attempt.run().await
        })
    }

    /// The connection to a jump host, made where there is none that lives. One that could not be made is
    /// not tried again for each host behind it.
    async fn bastion(&self, jump: &Target, depth: usize) -> Result<Arc<Line>, ConnectError> {
        let key = key(jump);
        let place = self.bastions.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone();
        let mut line = place.lock().await;
        match line.as_ref() {
            Some(Ok(line)) if line.handle.is_closed() => {}
            Some(made) => return made.clone(),
            None => {}
        }
        let made = self.line(jump, depth).await.map(|line| Arc::new(Line { permit: None, ..line }));
        *line = Some(made.clone());
        made
    }

    /// Waits until another connection to `server` may be begun.
    async fn pace(&self, server: &str) -> Option<OwnedSemaphorePermit> {
        let pace = self
            .paces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(server.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(HALF_OPEN)))
            .clone();
        pace.acquire_owned().await.ok()
    }

    fn has_refused(&self, server: &str) -> bool {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).contains(server)
    }

    fn refuses(&self, server: String) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(server);
    }
}

/// Why one try to connect failed.
enum Trouble {
    /// For good.
    Final(ConnectError),
    /// The server hung up before it said who it is.
    Busy(ConnectError),
    /// The host key is not known, or not of the pinned type.
    Key(Verdict),
}

/// One host's connection in the making.
struct Attempt<'a> {
    connector: &'a Connector,
    target: &'a Target,
    route: &'a Route,
    bastion: Option<Arc<Line>>,
    expected: Expected,
    /// A key that is not the pinned one, where one of another type may be.
    mismatched: Option<Box<KeyData>>,
}

impl Attempt<'_> {
    fn server(&self) -> String {
        format!("{}:{}", self.route.host, self.route.port)
    }

    fn address(&self) -> String {
        format!("{}@{}", self.route.user, self.server())
    }

    async fn run(&mut self) -> Result<Line, ConnectError> {
        let mut retries = 0;
        loop {
            let permit = self.connector.pace(&self.server()).await;
            let trouble = match self.once().await {
                Ok(line) => return Ok(Line { permit, ..line }),
                Err(trouble) => trouble,
            };
            drop(permit);
            match trouble {
                Trouble::Final(error) => return Err(error),
                Trouble::Busy(error) => {
                    if retries == RETRIES || self.connector.has_refused(&self.server()) {
                        return Err(error);
                    }
                    tokio::time::sleep(back_off(retries)).await;
                    retries += 1;
                }
                Trouble::Key(Verdict::Unknown(key)) => self.meet(&key).await?,
                Trouble::Key(Verdict::WrongType(key)) => {
                    if !self.expected.exclude(&key) {
                        return Err(self.expected.not_pinned(&key));
                    }
                    self.mismatched = Some(key);
                }
                Trouble::Key(Verdict::Refused(error)) => return Err(error),
                Trouble::Key(Verdict::Trusted) => {}
            }
        }
    }

    /// Decides about a host that nothing is known of, and looks again at what is known.
    async fn meet(&mut self, key: &KeyData) -> Result<(), ConnectError> {
        let one_at_a_time = self.connector.asking.lock().await;
        // Another host with the same name may have been asked about meanwhile.
        let again = self.look()?;
        let known = russh::keys::PublicKey::new(key.clone(), "").into();
        if matches!(again.judge(&known), Verdict::Unknown(_)) {
            let accepted = match self.expected.unknown() {
                Unknown::Refuse => false,
                Unknown::Accept => true,
                Unknown::Ask => {
                    let prompt = self.connector.prompt.clone();
                    let (name, kind, fingerprint) = (self.expected.name().to_owned(), kind(key), fingerprint(key));
                    tokio::task::spawn_blocking(move || prompt.trust_host_key(&name, &kind, &fingerprint))
                        .await
                        .unwrap_or(false)
                }
            };
            if !accepted {
                return Err(self.expected.refuse_unknown(key));
            }
            self.expected.learn(key);
        }
        drop(one_at_a_time);
        self.expected = self.look()?;
        self.expected.accept(key);
        Ok(())
    }

    fn look(&self) -> Result<Expected, ConnectError> {
        Expected::of(&self.target.name, &self.route.host, self.route.port, &self.target.host_keys, &self.route.rules)
    }

    /// One connection, from the first packet to the login.
    async fn once(&self) -> Result<Line, Trouble> {
        let configured = Some(self.connector.settings.connect_timeout).filter(|limit| !limit.is_zero());
        let limit = configured.or(self.route.timeout).unwrap_or(CONNECT_LIMIT);
        let deadline = Deadline::after(limit);
        let over = || {
            Trouble::Final(ConnectError {
                message: format!("{} did not answer within {} s", self.address(), limit.as_secs_f32()),
                advice: Some("Is the address right, and does a firewall let SSH through?".to_owned()),
            })
        };
        let wire = Wire::new(self.stream(&deadline).await?);
        let greeting = wire.greeting();
        let seen = Arc::new(Seen::default());
        let client = Client {
            expected: self.expected.clone(),
            seen: seen.clone(),
            agent: self.route.agent.clone().filter(|_| self.target.forward_agent),
        };
        let meter = Arc::new(Meter::default());
        // Who is there, the key exchange, and the service that logs in.
        meter.round_trips(3);
        let connecting = connect_stream(Arc::new(ssh::settings(&self.expected, self.route.patience)), wire, client);
        let mut handle = match deadline.bound(connecting).await {
            Ok(Ok(handle)) => handle,
            Ok(Err(error)) => return Err(self.trouble(&error, &seen, &greeting)),
            Err(_) => return Err(over()),
        };
        seen.bind(handle.agent_session_binding());
        let login = Login {
            target: self.target,
            route: self.route,
            settings: &self.connector.settings,
            keyring: &self.connector.keyring,
            prompt: &self.connector.prompt,
            deadline: &deadline,
            meter: &meter,
        };
        match login.run(&mut handle).await {
            Ok(typed) => Ok(Line { handle, seen, meter, address: self.address(), typed, permit: None }),
            Err(Failure::Refused(error)) => {
                self.connector.refuses(self.server());
                Err(Trouble::Final(error))
            }
            Err(Failure::Over) => Err(over()),
            Err(Failure::Gone) => {
                self.connector.refuses(self.server());
                let reason = seen.loss().unwrap_or_else(|| "it closed the connection".to_owned());
                Err(Trouble::Final(ConnectError {
                    message: format!("{} ended the connection during the login: {reason}", self.address()),
                    advice: Some("It may allow fewer attempts than there are keys: set `identity_file` for the host, or IdentitiesOnly in ssh_config.".to_owned()),
                }))
            }
        }
    }

    /// The stream that SSH is spoken over.
    async fn stream(&self, deadline: &Deadline) -> Result<Box<dyn Duplex>, Trouble> {
        let (host, port) = (self.route.host.as_str(), self.route.port);
        let failed = |through: String, reason: String| {
            Trouble::Final(ConnectError {
                message: format!("{} cannot be reached{through}: {reason}", self.address()),
                advice: None,
            })
        };
        match &self.bastion {
            None => match deadline.bound(socket::connect(host, port, self.route.family, deadline.left())).await {
                Ok(Ok(stream)) => Ok(stream),
                Err(_) => Err(failed(String::new(), "it does not answer".to_owned())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => Err(Trouble::Busy(ConnectError {
                    message: format!("{} cannot be reached: {error}", self.address()),
                    advice: None,
                })),
                Ok(Err(error)) => Err(failed(String::new(), error.to_string())),
            },
            Some(bastion) => {
                let through = || format!(" through {}", bastion.address);
                let opening = bastion.handle.channel_open_direct_tcpip(host, u32::from(port), "127.0.0.1", 0);
                match deadline.bound(opening).await {
                    Ok(Ok(channel)) => Ok(Box::new(channel.into_stream())),
                    Ok(Err(russh::Error::ChannelOpenFailure(reason))) => Err(failed(through(), format!("{reason:?}"))),
                    Ok(Err(error)) => {
                        Err(failed(through(), bastion.seen.loss().unwrap_or_else(|| ssh::describe(&error))))
                    }
                    Err(_) => Err(failed(through(), "it does not answer".to_owned())),
                }
            }
        }
    }

    /// What a connection that ended before the login means.
    fn trouble(&self, error: &russh::Error, seen: &Seen, greeting: &Greeting) -> Trouble {
        match seen.verdict() {
            None | Some(Verdict::Trusted) => {}
            Some(verdict) => return Trouble::Key(verdict),
        }
        if let (russh::Error::NoCommonAlgo { .. }, Some(key)) = (error, &self.mismatched) {
            return Trouble::Final(self.expected.not_pinned(key));
        }
        let reason = seen.loss().unwrap_or_else(|| ssh::describe(error));
        let message = format!("no SSH connection to {}: {}", self.address(), visible(reason.as_bytes()));
        if greeting.is_busy() {
            let advice = "The server is busy (MaxStartups) or has locked this address out for a while.".to_owned();
            return Trouble::Busy(ConnectError { message, advice: Some(advice) });
        }
        Trouble::Final(ConnectError { message, advice: None })
    }
}

/// What makes two jump hosts the same: not the host of the inventory that names them.
fn key(jump: &Target) -> String {
    let Target { address, port, user, identity_file, host_keys, jump, .. } = jump;
    let before = jump.as_deref().map(key);
    format!("{address} {port:?} {user:?} {identity_file:?} {host_keys:?} {before:?}")
}

/// How long to wait before the next try: twice as long each time, and not together with the others.
fn back_off(retries: u32) -> Duration {
    let mut chance = [0];
    let _ = getrandom::fill(&mut chance);
    let [chance] = chance;
    let base = Duration::from_millis(500) * 2_u32.pow(retries);
    base + base * u32::from(chance) / 512
}
