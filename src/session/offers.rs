//! Which keys are offered in which order, and who signs with them: the agent, or a key from a file.

use std::sync::Arc;

use russh::Signer;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::{Ed25519PublicKey, KeyData};
use russh::keys::{Certificate, HashAlg};
use tokio::net::UnixStream;

use super::deadline::Deadline;
use super::keys::{self, Found, Keyring};
use crate::output::visible;

/// A key to offer.
pub(super) struct Offer {
    pub(super) name: String,
    /// Zero where only opening the file tells it, see [`Found::public`].
    pub(super) key: KeyData,
    pub(super) certificate: Option<Certificate>,
    pub(super) holder: Holder,
}

/// Who signs.
pub(super) enum Holder {
    /// The agent, which holds the key as this.
    Agent(Box<AgentIdentity>),
    File(Arc<Found>),
}

/// The offers so far.
pub(super) struct Offers<'a> {
    /// What the agent holds.
    pub(super) held: &'a [AgentIdentity],
    /// Certificates that `ssh_config` names.
    pub(super) certificates: Vec<Certificate>,
    pub(super) list: Vec<Offer>,
}

impl Offers<'_> {
    fn held_as(&self, key: &KeyData) -> Option<&AgentIdentity> {
        let plain = |identity: &&AgentIdentity| matches!(identity, AgentIdentity::PublicKey { .. });
        self.held.iter().filter(plain).find(|identity| keys::key_of(identity) == *key)
    }

    /// Whether the agent holds the key in `found`.
    pub(super) fn holds(&self, found: &Found) -> bool {
        found.public.as_ref().is_some_and(|key| self.held_as(key).is_some())
    }

    fn push(&mut self, offer: Offer) {
        let same =
            |seen: &Offer| seen.key == offer.key && seen.certificate == offer.certificate && seen.name == offer.name;
        let known = |seen: &Offer| seen.key == offer.key && seen.certificate == offer.certificate;
        let opaque = matches!(&offer.holder, Holder::File(found) if found.public.is_none());
        if !self.list.iter().any(|seen| if opaque { same(seen) } else { known(seen) }) {
            self.list.push(offer);
        }
    }

    /// Offers a key from a file, signed by the agent where it holds the key, which saves the passphrase.
    pub(super) fn file(&mut self, mut found: Found) {
        let Some(key) = found.public.clone() else {
            // A placeholder: its public half is known once it is opened.
            let key = KeyData::Ed25519(Ed25519PublicKey([0; 32]));
            let name = found.name.clone();
            return self.push(Offer { name, key, certificate: None, holder: Holder::File(Arc::new(found)) });
        };
        let beside = found.certificate.take();
        let listed = self.certificates.iter().filter(|certificate| *certificate.public_key() == key).cloned();
        let certificates: Vec<Certificate> =
            beside.into_iter().chain(listed).filter(|certificate| certificate.cert_type() == CertType::User).collect();
        let name = found.name.clone();
        let agent = self.held_as(&key).cloned();
        let found = Arc::new(found);
        for certificate in certificates.into_iter().map(Some).chain([None]) {
            let holder = match &agent {
                Some(identity) => Holder::Agent(Box::new(identity.clone())),
                None => Holder::File(found.clone()),
            };
            self.push(Offer { name: name.clone(), key: key.clone(), certificate, holder });
        }
    }

    /// Offers what the agent holds.
    pub(super) fn agent(&mut self, identity: &AgentIdentity) {
        let certificate = match identity {
            AgentIdentity::Certificate { certificate, .. } => Some(certificate.clone()),
            AgentIdentity::PublicKey { .. } => None,
        };
        self.push(Offer {
            name: format!("agent's {}", visible(identity.comment().as_bytes())),
            key: keys::key_of(identity),
            certificate,
            holder: Holder::Agent(Box::new(identity.clone())),
        });
    }
}

/// Signs for russh.
pub(super) struct Signing<'a> {
    pub(super) holder: Holder,
    pub(super) agent: Option<&'a mut AgentClient<UnixStream>>,
    pub(super) keyring: &'a Keyring,
    pub(super) deadline: &'a Deadline,
}

/// Why nothing was signed.
pub(super) enum SigningError {
    /// The connection ended.
    Gone,
    /// There is no signature, and why.
    Failed(String),
}

impl From<russh::SendError> for SigningError {
    fn from(_: russh::SendError) -> Self {
        Self::Gone
    }
}

impl Signer for Signing<'_> {
    type Error = SigningError;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, SigningError> {
        match (&self.holder, &mut self.agent) {
            (Holder::File(found), _) => {
                let key = self.keyring.open(found, self.deadline).await.map_err(SigningError::Failed)?;
                keys::sign(&key, data).map_err(SigningError::Failed)
            }
            (Holder::Agent(identity), Some(agent)) => agent
                .sign_request(identity, hash, data)
                .await
                .map_err(|error| SigningError::Failed(format!("the agent did not sign: {error}"))),
            (Holder::Agent(_), None) => Err(SigningError::Failed("the agent is gone".to_owned())),
        }
    }
}
