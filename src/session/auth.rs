//! Logs in: which keys are offered in which order, then passwords, and what is said when nothing helps.
//!
//! At most five keys, because servers hang up after six failures (sshd_config(5), `MaxAuthTries`).

use std::path::Path;
use std::sync::Arc;

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::PublicKey;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::{MethodKind, MethodSet};
use tokio::net::UnixStream;

use super::config::Route;
use super::deadline::{Deadline, Over};
use super::keys::{self, Found, Keyring};
use super::offers::{Holder, Offer, Offers, Signing, SigningError};
use super::pin::fingerprint;
use super::pipes::Meter;
use super::ssh::Client;
use super::{ConnectError, Prompt, Settings};
use crate::output::visible;
use crate::secret::Secret;
use crate::target::Target;

/// How many keys are offered.
const MOST_KEYS: usize = 5;

/// How many are, where the inventory has a password that is to have its turn.
const MOST_KEYS_BEFORE_PASSWORD: usize = 3;

/// How many rounds of questions a server may ask.
const MOST_ROUNDS: usize = 10;

/// Why there was no login.
pub(super) enum Failure {
    /// The server refused, or there is nothing to offer.
    Refused(ConnectError),
    /// The connection ended.
    Gone,
    /// The time was over.
    Over,
}

impl From<Over> for Failure {
    fn from(_: Over) -> Self {
        Self::Over
    }
}

/// Everything that a login needs.
pub(super) struct Login<'a> {
    pub(super) target: &'a Target,
    pub(super) route: &'a Route,
    pub(super) settings: &'a Settings,
    pub(super) keyring: &'a Keyring,
    pub(super) prompt: &'a Arc<dyn Prompt>,
    pub(super) deadline: &'a Deadline,
    pub(super) meter: &'a Meter,
}

/// What the server said last.
struct Progress {
    /// The methods that may go on; none as long as it was not asked.
    methods: Option<MethodSet>,
    /// The methods that are not ours.
    without: Vec<MethodKind>,
    /// What was tried and noticed, for the message.
    tried: Vec<String>,
    notes: Vec<String>,
}

impl Progress {
    fn allows(&self, method: MethodKind) -> bool {
        !self.without.contains(&method) && self.methods.as_ref().is_none_or(|methods| methods.contains(&method))
    }
}

impl Login<'_> {
    /// Logs in over `handle`, and gives back the password that a person typed for it, if one did.
    pub(super) async fn run(&self, handle: &mut Handle<Client>) -> Result<Option<Secret>, Failure> {
        let mut progress =
            Progress { methods: None, without: self.route.without.clone(), tried: Vec::new(), notes: Vec::new() };
        let mut agent = self.agent(handle, &mut progress).await?;
        let held = match &mut agent {
            Some(agent) => self.held(agent, &mut progress).await?,
            None => Vec::new(),
        };
        let most = if self.target.password.is_some() { MOST_KEYS_BEFORE_PASSWORD } else { MOST_KEYS };
        for offer in self.offers(&held, &mut progress)?.into_iter().take(most) {
            if !progress.allows(MethodKind::PublicKey) {
                break;
            }
            if self.offer(handle, offer, agent.as_mut(), &mut progress).await? {
                return Ok(None);
            }
        }
        if progress.methods.is_none() {
            self.meter.round_trips(1);
            let result = self.deadline.bound(handle.authenticate_none(&self.route.user)).await?;
            if self.take(handle, result.ok(), &mut progress)? {
                return Ok(None);
            }
        }
        let mut password = self.target.password.clone();
        if progress.allows(MethodKind::Password)
            && password.is_some()
            && self.password(handle, &password, &mut progress).await?
        {
            return Ok(None);
        }
        if progress.allows(MethodKind::KeyboardInteractive)
            && self.interactive(handle, &mut password, &mut progress).await?
        {
            return Ok(password.filter(|typed| self.target.password.as_ref() != Some(typed)));
        }
        if progress.allows(MethodKind::Password) && password.is_none() {
            password = self.ask(format!("Password of {}: ", self.login())).await;
            if password.is_some() && self.password(handle, &password, &mut progress).await? {
                return Ok(password);
            }
        }
        Err(self.refused(&progress))
    }

    fn login(&self) -> String {
        format!("{}@{}:{}", self.route.user, self.route.host, self.route.port)
    }

    async fn ask(&self, question: String) -> Option<Secret> {
        let prompt = self.prompt.clone();
        self.deadline.ask(move || prompt.secret(&question)).await.flatten()
    }

    /// Notes what the server answered; true when it let us in.
    fn take(
        &self,
        handle: &Handle<Client>,
        result: Option<AuthResult>,
        progress: &mut Progress,
    ) -> Result<bool, Failure> {
        match result {
            Some(AuthResult::Success) => Ok(true),
            // russh reports a connection that ended as a refusal that leaves no method.
            Some(AuthResult::Failure { remaining_methods, .. })
                if remaining_methods.is_empty() && handle.is_closed() =>
            {
                Err(Failure::Gone)
            }
            Some(AuthResult::Failure { remaining_methods, .. }) => {
                progress.methods = Some(remaining_methods);
                Ok(false)
            }
            None => Err(Failure::Gone),
        }
    }

    async fn agent(
        &self,
        handle: &Handle<Client>,
        progress: &mut Progress,
    ) -> Result<Option<AgentClient<UnixStream>>, Failure> {
        let Some(socket) = &self.route.agent else { return Ok(None) };
        match self.deadline.bound(AgentClient::connect_uds(socket)).await? {
            Ok(mut agent) => {
                if let Some(binding) = handle.agent_session_binding() {
                    // Older agents know nothing of it; those that need it say no to the keys themselves.
                    let _ = self.deadline.bound(agent.bind_session(binding, false)).await?;
                }
                Ok(Some(agent))
            }
            Err(error) => {
                progress.notes.push(format!("no agent at {}: {error}", socket.display()));
                Ok(None)
            }
        }
    }

    async fn held(
        &self,
        agent: &mut AgentClient<UnixStream>,
        progress: &mut Progress,
    ) -> Result<Vec<AgentIdentity>, Failure> {
        match self.deadline.bound(agent.request_identities()).await? {
            Ok(identities) => Ok(identities),
            Err(error) => {
                progress.notes.push(format!("the agent does not list its keys: {error}"));
                Ok(Vec::new())
            }
        }
    }

    /// The keys to offer, in order: the inventory's, the one given as text, those of `ssh_config` that the
    /// agent holds, the agent's others, those of `ssh_config` in files. Each with its certificate first.
    fn offers(&self, held: &[AgentIdentity], progress: &mut Progress) -> Result<Vec<Offer>, Failure> {
        let mut offers = Offers { held, certificates: Vec::new(), list: Vec::new() };
        for file in &self.route.certificates {
            match keys::certificate(file) {
                Ok(certificate) => offers.certificates.push(certificate),
                Err(note) => progress.notes.push(note),
            }
        }
        if let Some(file) = &self.route.first_identity {
            offers.file(self.inventory_key(file)?);
        }
        if let Some(text) = &self.settings.key {
            let found = Found::text("SHIP_SSH_KEY", text).map_err(|message| {
                Failure::Refused(ConnectError {
                    message,
                    advice: Some(
                        "It holds the whole private key, from `-----BEGIN` to `-----END`, not its file name."
                            .to_owned(),
                    ),
                })
            })?;
            offers.file(found);
        }
        let mut files = Vec::new();
        for file in self.route.identities.iter().filter(|file| Some(*file) != self.route.first_identity.as_ref()) {
            match Found::file(file) {
                Ok(found) => files.extend(found),
                Err(note) => progress.notes.push(note),
            }
        }
        let (agents, alone): (Vec<Found>, Vec<Found>) = files.into_iter().partition(|found| offers.holds(found));
        agents.into_iter().for_each(|found| offers.file(found));
        if !self.route.identities_only {
            held.iter().for_each(|identity| offers.agent(identity));
        }
        alone.into_iter().for_each(|found| offers.file(found));
        Ok(offers.list)
    }

    fn inventory_key(&self, file: &Path) -> Result<Found, Failure> {
        let message = match Found::file(file) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => format!("{} does not exist", file.display()),
            Err(message) => message,
        };
        Err(Failure::Refused(ConnectError {
            message: format!("the identity_file of {} cannot be used: {message}", self.target.name),
            advice: None,
        }))
    }

    async fn offer(
        &self,
        handle: &mut Handle<Client>,
        offer: Offer,
        agent: Option<&mut AgentClient<UnixStream>>,
        progress: &mut Progress,
    ) -> Result<bool, Failure> {
        let mut key = offer.key;
        let mut signer = Signing { holder: offer.holder, agent, keyring: self.keyring, deadline: self.deadline };
        if let Holder::File(found) = &signer.holder
            && found.public.is_none()
        {
            // Only opening it tells its public half.
            match self.keyring.open(found, self.deadline).await {
                Ok(opened) => key = opened.public_key().key_data().clone(),
                Err(note) => {
                    progress.notes.push(note);
                    return Ok(false);
                }
            }
        }
        let kind = if offer.certificate.is_some() { "certificate " } else { "" };
        progress.tried.push(format!("{kind}{} ({})", offer.name, fingerprint(&key)));
        self.meter.round_trips(2);
        let hash = keys::hash_of(&key);
        let user = &self.route.user;
        let result = match offer.certificate {
            Some(certificate) => {
                self.deadline.bound(handle.authenticate_certificate_with(user, certificate, hash, &mut signer)).await?
            }
            None => {
                let key = PublicKey::new(key, "");
                self.deadline.bound(handle.authenticate_publickey_with(user, key, hash, &mut signer)).await?
            }
        };
        match result {
            Ok(result) => self.take(handle, Some(result), progress),
            Err(SigningError::Gone) => Err(Failure::Gone),
            Err(SigningError::Failed(note)) => {
                progress.notes.push(note);
                Ok(false)
            }
        }
    }

    async fn password(
        &self,
        handle: &mut Handle<Client>,
        password: &Option<Secret>,
        progress: &mut Progress,
    ) -> Result<bool, Failure> {
        let Some(password) = password else { return Ok(false) };
        progress.tried.push("password".to_owned());
        self.meter.round_trips(1);
        let result = self.deadline.bound(handle.authenticate_password(&self.route.user, password.expose())).await?;
        self.take(handle, result.ok(), progress)
    }

    /// Keyboard-interactive (RFC 4256): `password` answers the first question that hides its answer.
    async fn interactive(
        &self,
        handle: &mut Handle<Client>,
        password: &mut Option<Secret>,
        progress: &mut Progress,
    ) -> Result<bool, Failure> {
        self.meter.round_trips(1);
        let start = handle.authenticate_keyboard_interactive_start(&self.route.user, None);
        let mut response = self.deadline.bound(start).await?;
        let mut unused = password.clone();
        for _ in 0..MOST_ROUNDS {
            let prompts = match response.map_err(|_| Failure::Gone)? {
                KeyboardInteractiveAuthResponse::Success => return Ok(true),
                KeyboardInteractiveAuthResponse::Failure { remaining_methods, .. } => {
                    progress.methods = Some(remaining_methods);
                    return Ok(false);
                }
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
            };
            let mut answers = Vec::new();
            for question in prompts {
                let shown = visible(question.prompt.trim().as_bytes());
                let answer = match (question.echo, unused.take()) {
                    (false, Some(password)) => Some(password),
                    (_, still_unused) => {
                        unused = still_unused;
                        self.ask(format!("{}: {shown} ", self.login())).await
                    }
                };
                let Some(answer) = answer else {
                    progress.notes.push(format!("nobody answers its question `{shown}`"));
                    progress.methods = Some(MethodSet::empty());
                    return Ok(false);
                };
                // Not asked for again by the method `password`.
                *password = Some(answer.clone());
                answers.push(answer.expose().to_owned());
            }
            progress.tried.push("keyboard-interactive".to_owned());
            self.meter.round_trips(1);
            response = self.deadline.bound(handle.authenticate_keyboard_interactive_respond(answers)).await?;
        }
        progress.notes.push("it asks question after question".to_owned());
        Ok(false)
    }

    fn refused(&self, progress: &Progress) -> Failure {
        let accepts: Vec<&str> = progress.methods.iter().flat_map(|methods| methods.iter()).map(Into::into).collect();
        let mut message = format!("login refused for {}", self.login());
        if !accepts.is_empty() {
            message.push_str(&format!(": the server accepts {}", accepts.join(", ")));
        }
        let tried = if progress.tried.is_empty() { "nothing".to_owned() } else { progress.tried.join(", ") };
        message.push_str(&format!("; tried {tried}"));
        for note in &progress.notes {
            message.push_str(&format!("; {note}"));
        }
        let advice = if progress.tried.is_empty() {
            how_to_begin(&accepts)
        } else {
            format!(
                "Add the public key to ~/.ssh/authorized_keys of {user} on the host: ssh-copy-id -p {} {user}@{}",
                self.route.port,
                self.route.host,
                user = self.route.user
            )
        };
        Failure::Refused(ConnectError { message, advice: Some(advice) })
    }
}

/// What to do where there was nothing to try.
fn how_to_begin(accepts: &[&str]) -> String {
    let by_password = accepts.iter().any(|method| ["password", "keyboard-interactive"].contains(method));
    let password = if by_password { ", or a `password` where it cannot be a key" } else { "" };
    format!("Start an agent (ssh-add), or give the host an `identity_file` in the inventory{password}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_named_where_the_server_takes_one() {
        assert!(how_to_begin(&["publickey", "password"]).contains("`password`"));
        assert!(!how_to_begin(&["publickey"]).contains("`password`"));
    }
}
