//! How a public key is named: its type, its fingerprint, and the two forms in which an inventory pins one.

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{HashAlg, PublicKey};

use super::known_hosts;

/// A key that the inventory pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pin {
    /// The key itself.
    Key(KeyData),
    /// `SHA256:…`, of a key of any type.
    Fingerprint(String),
}

impl Pin {
    /// Reads `ssh-ed25519 AAAA…` or `SHA256:…`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.starts_with("SHA256:") {
            return Some(Self::Fingerprint(text.trim_end_matches('=').to_owned()));
        }
        let mut words = text.split_ascii_whitespace();
        known_hosts::read_key(words.next()?, words.next()?).map(Self::Key)
    }

    /// Whether `key` is the pinned one.
    pub(super) fn is(&self, key: &KeyData) -> bool {
        match self {
            Self::Key(pinned) => pinned == key,
            Self::Fingerprint(pinned) => *pinned == fingerprint(key),
        }
    }
}

/// The name of the type of `key`, as in `known_hosts`.
pub(super) fn kind(key: &KeyData) -> String {
    key.algorithm().as_str().to_owned()
}

/// `SHA256:…`, as `ssh-keygen -l` shows it.
pub(super) fn fingerprint(key: &KeyData) -> String {
    PublicKey::new(key.clone(), "").fingerprint(HashAlg::Sha256).to_string()
}
