//! Decides whether a server is the one that was meant, from its key or certificate.
//!
//! Never more permissive than OpenSSH, and stricter where OpenSSH lets a person wave a warning through:
//! `StrictHostKeyChecking no` accepts unknown hosts, never changed ones.

use std::borrow::Cow;
use std::path::PathBuf;

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate, EcdsaCurve, HashAlg, PublicKeyOrCertificate};

use super::known_hosts::{self, Entry, Marker};
use super::pin::{Pin, fingerprint, kind};
use super::{ConnectError, certificate};

/// The host-key algorithms that are accepted, best first. RSA with SHA-1 is not.
const ALGORITHMS: [Algorithm; 6] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// What to do about a host of which nothing is recorded (ssh_config(5), `StrictHostKeyChecking`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Unknown {
    /// Refuse it.
    Refuse,
    /// Ask a person.
    #[default]
    Ask,
    /// Accept and record it.
    Accept,
}

/// What is known of a server before it is asked.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// The inventory's name for the host.
    host: String,
    /// The name that certificates must be for.
    principal: String,
    /// The name under which the key is recorded.
    name: String,
    entries: Vec<Entry>,
    /// Entries for the name without its port, which OpenSSH takes too where there are no others.
    portless: Vec<Entry>,
    pins: Vec<Pin>,
    unknown: Unknown,
    /// Where a new key would be recorded.
    file: Option<PathBuf>,
    hash: bool,
    /// Types that were tried and were not the pinned key's.
    excluded: Vec<Algorithm>,
    /// The key that a person, or the rules, accepted where nothing was known.
    accepted: Option<KeyData>,
}

/// What `config` knows of how a server's key is to be checked.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// `HostKeyAlias`.
    pub(super) alias: Option<String>,
    /// `UserKnownHostsFile`; the first is added to.
    pub(super) user_files: Vec<PathBuf>,
    /// `GlobalKnownHostsFile`.
    pub(super) global_files: Vec<PathBuf>,
    /// `StrictHostKeyChecking`.
    pub(super) unknown: Unknown,
    /// `HashKnownHosts`.
    pub(super) hash: bool,
    /// `RevokedHostKeys`, as plain public keys.
    pub(super) revoked_file: Option<PathBuf>,
}

/// What a server's key says of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the one that was meant.
    Trusted,
    /// Nothing is recorded of it: a person, or the rules, may accept its key.
    Unknown(Box<KeyData>),
    /// Its key is not the pinned one, of which only the fingerprint is known: it may have it as a key
    /// of another type.
    WrongType(Box<KeyData>),
    /// It must not be talked to.
    Refused(ConnectError),
}

impl Expected {
    /// Reads what is known of `host`, reached at `address` and `port`.
    pub(super) fn of(
        host: &str,
        address: &str,
        port: u16,
        pins: &[String],
        rules: &Rules,
    ) -> Result<Self, ConnectError> {
        let principal = rules.alias.as_deref().unwrap_or(address).to_ascii_lowercase();
        let name = match &rules.alias {
            Some(_) => principal.clone(),
            None => known_hosts::name(address, port),
        };
        let files: Vec<PathBuf> = rules.user_files.iter().chain(&rules.global_files).cloned().collect();
        let read = |name: &str| {
            known_hosts::read(&files, name).map_err(|error| ConnectError {
                message: format!("the host key of {host} cannot be checked: {error}"),
                advice: Some(
                    "A file that cannot be read may hold a revoked key, so ship does not go on without it.".to_owned(),
                ),
            })
        };
        let mut entries = read(&name)?;
        let portless = if name == principal { Vec::new() } else { read(&principal)? };
        if let Some(file) = &rules.revoked_file {
            let revoked = known_hosts::read_revoked(file).map_err(|reason| ConnectError {
                message: format!(
                    "the host key of {host} cannot be checked: RevokedHostKeys {} {reason}",
                    file.display()
                ),
                advice: Some("ship reads a list of public keys there, not a binary revocation list (KRL).".to_owned()),
            })?;
            entries.extend(revoked);
        }
        let pins = pins
            .iter()
            .map(|text| {
                Pin::read(text).ok_or_else(|| ConnectError {
                    message: format!("the host key that the inventory pins for {host} cannot be read: {text}"),
                    advice: Some("It is either `ssh-ed25519 AAAA…`, as in /etc/ssh/ssh_host_ed25519_key.pub on the host, or `SHA256:…`.".to_owned()),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            host: host.to_owned(),
            principal,
            name,
            entries,
            portless,
            pins,
            unknown: rules.unknown,
            file: rules.user_files.first().cloned(),
            hash: rules.hash,
            excluded: Vec::new(),
            accepted: None,
        })
    }

    /// What to do where the verdict is [`Verdict::Unknown`].
    pub(super) fn unknown(&self) -> Unknown {
        self.unknown
    }

    /// The name under which the key is recorded.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn recorded(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().chain(&self.portless)
    }

    /// The host-key algorithms to offer: recorded types first, or a server that also has another type
    /// would look unknown.
    pub(super) fn algorithms(&self) -> Cow<'static, [Algorithm]> {
        let pinned = self.pins.iter().filter_map(|pin| match pin {
            Pin::Key(key) => Some(key),
            Pin::Fingerprint(_) => None,
        });
        let recorded = self.recorded().filter(|entry| entry.marker == Marker::Host).map(|entry| &entry.key);
        let types: Vec<Algorithm> = if self.pins.is_empty() {
            recorded.map(KeyData::algorithm).collect()
        } else {
            pinned.map(KeyData::algorithm).collect()
        };
        let mut order: Vec<Algorithm> = ALGORITHMS.into_iter().filter(|algorithm| !self.excludes(algorithm)).collect();
        order.sort_by_key(|algorithm| types.iter().position(|known| same_type(known, algorithm)).unwrap_or(usize::MAX));
        order.into()
    }

    /// The algorithms whose certificates to ask for: none, unless an authority is recorded for the host,
    /// because a certificate would be presented in place of the key.
    pub(super) fn certificate_algorithms(&self) -> Cow<'static, [Algorithm]> {
        let authority = self.recorded().any(|entry| entry.marker == Marker::Authority);
        if authority && self.pins.is_empty() { ALGORITHMS.to_vec().into() } else { Cow::Borrowed(&[]) }
    }

    fn excludes(&self, algorithm: &Algorithm) -> bool {
        self.excluded.iter().any(|excluded| same_type(excluded, algorithm))
    }

    /// Does not ask for a key like `key` again; false where there is no other type left.
    pub(super) fn exclude(&mut self, key: &KeyData) -> bool {
        self.excluded.push(key.algorithm());
        !self.algorithms().is_empty()
    }

    /// The verdict on what the server showed and proved to own.
    pub(super) fn judge(&self, shown: &PublicKeyOrCertificate) -> Verdict {
        let public = shown.public_key();
        let key = public.key_data();
        let shown_certificate = shown.certificate();
        let revoked = self.recorded().find(|entry| {
            let authority = shown_certificate.is_some_and(|certificate| *certificate.signature_key() == entry.key);
            entry.marker == Marker::Revoked && (entry.key == *key || authority)
        });
        if let Some(entry) = revoked {
            return Verdict::Refused(self.revoked(key, entry));
        }
        if !self.pins.is_empty() {
            return self.judge_pins(key);
        }
        let hosts = |entries: &[Entry]| entries.iter().any(|entry| entry.marker == Marker::Host && entry.key == *key);
        if hosts(&self.entries) {
            return Verdict::Trusted;
        }
        let changed = self.entries.iter().find(|entry| entry.marker == Marker::Host);
        if let Some(shown_certificate) = shown_certificate {
            let authority =
                |entry: &&Entry| entry.marker == Marker::Authority && entry.key == *shown_certificate.signature_key();
            if self.recorded().any(|entry| authority(&entry)) {
                return match certificate::check(shown_certificate, &self.principal) {
                    Ok(()) => Verdict::Trusted,
                    Err(_) if changed.is_none() && hosts(&self.portless) => Verdict::Trusted,
                    Err(reason) => Verdict::Refused(self.bad_certificate(shown_certificate, reason)),
                };
            }
        }
        match changed {
            Some(entry) => Verdict::Refused(self.changed(key, entry)),
            None if hosts(&self.portless) => Verdict::Trusted,
            None if self.accepted.as_ref() == Some(key) => Verdict::Trusted,
            None => Verdict::Unknown(Box::new(key.clone())),
        }
    }

    fn judge_pins(&self, key: &KeyData) -> Verdict {
        if self.pins.iter().any(|pin| pin.is(key)) {
            return Verdict::Trusted;
        }
        if self.pins.iter().any(|pin| matches!(pin, Pin::Fingerprint(_))) {
            return Verdict::WrongType(Box::new(key.clone()));
        }
        Verdict::Refused(self.not_pinned(key))
    }

    /// Takes `key` for the host's in this run, whether or not it could be recorded.
    pub(super) fn accept(&mut self, key: &KeyData) {
        self.accepted = Some(key.clone());
    }

    /// Records `key` for the host, so that it is known from now on. Where that fails, as OpenSSH does it,
    /// the key is accepted all the same, and asked about again next time.
    pub(super) fn learn(&self, key: &KeyData) {
        if let Some(file) = &self.file {
            let _ = known_hosts::learn(file, &self.name, key, self.hash);
        }
    }

    /// Why an unknown host is not talked to.
    pub(super) fn refuse_unknown(&self, key: &KeyData) -> ConnectError {
        ConnectError {
            message: format!(
                "the host key of {} ({}) is not known: {} {}",
                self.host,
                self.name,
                kind(key),
                fingerprint(key)
            ),
            advice: Some(self.how_to_add(key)),
        }
    }

    /// Why a server without the pinned key is not talked to.
    pub(super) fn not_pinned(&self, key: &KeyData) -> ConnectError {
        let pins: Vec<String> = self
            .pins
            .iter()
            .map(|pin| match pin {
                Pin::Key(key) => format!("{} {}", kind(key), fingerprint(key)),
                Pin::Fingerprint(text) => text.clone(),
            })
            .collect();
        ConnectError {
            message: format!(
                "the host key of {} ({}) is not the one that the inventory pins: expected {}, got {} {}",
                self.host,
                self.name,
                pins.join(" or "),
                kind(key),
                fingerprint(key)
            ),
            advice: Some("Someone may be in between. If the server got a new key, check it with its administrator and change `host_key` in the inventory.".to_owned()),
        }
    }

    fn changed(&self, key: &KeyData, entry: &Entry) -> ConnectError {
        let place = format!("{}:{}", entry.file.display(), entry.line);
        let (message, advice) = if same_type(&entry.key.algorithm(), &key.algorithm()) {
            (
                "has changed",
                format!(
                    "Someone may be in between. If the server got a new key, check the fingerprint with its administrator, then remove the old one: ssh-keygen -f {} -R '{}'",
                    crate::command::quote(&entry.file.display().to_string()),
                    self.name
                ),
            )
        } else {
            ("is of a type that is not recorded, and another type is", self.how_to_add(key))
        };
        ConnectError {
            message: format!(
                "the host key of {} ({}) {message}: {place} says {} {}, the server shows {} {}",
                self.host,
                self.name,
                kind(&entry.key),
                fingerprint(&entry.key),
                kind(key),
                fingerprint(key)
            ),
            advice: Some(advice),
        }
    }

    fn revoked(&self, key: &KeyData, entry: &Entry) -> ConnectError {
        ConnectError {
            message: format!(
                "the host key of {} ({}) is revoked by {}:{}: {} {}",
                self.host,
                self.name,
                entry.file.display(),
                entry.line,
                kind(key),
                fingerprint(key)
            ),
            advice: Some("A revoked key is one that someone else may have. Give the server a new one.".to_owned()),
        }
    }

    fn bad_certificate(&self, certificate: &Certificate, reason: String) -> ConnectError {
        ConnectError {
            message: format!("the host certificate of {} ({}) is not valid: {reason}", self.host, self.name),
            advice: Some(format!(
                "It is `{}`, number {}; sign the host's key anew: ssh-keygen -s CA -I ID -h -n {} HOST_KEY.pub",
                crate::output::visible(certificate.key_id().as_bytes()),
                certificate.serial(),
                self.principal
            )),
        }
    }

    fn how_to_add(&self, key: &KeyData) -> String {
        let file = self.file.as_ref().map_or_else(|| "known_hosts".to_owned(), |file| file.display().to_string());
        format!(
            "Check the fingerprint {} with the server's administrator, then add this line to {file}:\n{}",
            fingerprint(key),
            known_hosts::line(&self.name, key, None)
        )
    }
}

/// RSA is one type, whatever hash its signatures use.
fn same_type(one: &Algorithm, other: &Algorithm) -> bool {
    one == other || matches!((one, other), (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }))
}
