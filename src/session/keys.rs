//! Private keys: found on disk or given as text, opened with a passphrase that is asked for once.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::agent::AgentIdentity;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{self, Signature};
use russh::keys::{Certificate, HashAlg, PrivateKey, PublicKey, decode_secret_key};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::Prompt;
use super::deadline::Deadline;
use crate::secret::Secret;

/// How often a passphrase is asked for.
const ATTEMPTS: usize = 3;

/// A private key that was found and perhaps not opened yet.
pub(super) struct Found {
    /// Where it is, for messages and for asking once.
    pub(super) name: String,
    /// Its public half, where that can be told without opening it.
    pub(super) public: Option<KeyData>,
    /// The certificate beside it.
    pub(super) certificate: Option<Certificate>,
    text: Zeroizing<String>,
}

/// The keys of a run and what is needed to open them.
pub(super) struct Keyring {
    passphrase: Option<Secret>,
    prompt: Arc<dyn Prompt>,
    /// By name; none where it cannot be opened, so that nobody is asked again.
    opened: Mutex<HashMap<String, Option<Arc<PrivateKey>>>>,
}

impl Found {
    /// The key in `file`, with the certificate beside it (`-cert.pub`); none where there is no such file.
    pub(super) fn file(file: &Path) -> Result<Option<Self>, String> {
        let name = file.display().to_string();
        let text = match std::fs::read_to_string(file) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{name} cannot be read: {error}")),
        };
        let mode = std::fs::metadata(file).map(|metadata| metadata.mode()).unwrap_or_default();
        if mode & 0o077 != 0 {
            return Err(format!("{name} is not used, because others may read it: chmod 600 {name}"));
        }
        let beside = |suffix: &str| {
            let mut path = file.as_os_str().to_owned();
            path.push(suffix);
            std::fs::read_to_string(PathBuf::from(path)).ok()
        };
        let certificate = beside("-cert.pub").and_then(|text| Certificate::from_openssh(text.trim()).ok());
        let public = public_half(&text).or_else(|| {
            let text = beside(".pub")?;
            PublicKey::from_openssh(text.trim()).ok().map(|key| key.key_data().clone())
        });
        if public.is_none() && !is_encrypted(&text) {
            return Err(format!("{name} is not a private key that can be read"));
        }
        Ok(Some(Self { name, public, certificate, text }))
    }

    /// The key in `text`, which came from the environment as `name`.
    pub(super) fn text(name: &str, text: &Secret) -> Result<Self, String> {
        let text = Zeroizing::new(normalise(text.expose()));
        if text.trim().is_empty() {
            return Err(format!("{name} is empty"));
        }
        let public = public_half(&text);
        if public.is_none() && !is_encrypted(&text) {
            let begins =
                if text.starts_with("-----BEGIN ") { "it is damaged" } else { "it does not begin with `-----BEGIN `" };
            return Err(format!("{name} is not a private key: {begins}"));
        }
        Ok(Self { name: name.to_owned(), public, certificate: None, text })
    }
}

impl Keyring {
    /// A ring without keys.
    pub(super) fn new(passphrase: Option<Secret>, prompt: Arc<dyn Prompt>) -> Self {
        Self { passphrase, prompt, opened: Mutex::default() }
    }

    /// The private key itself. The passphrase comes from the settings or a person, who is asked once for
    /// each key and run, however many hosts want it.
    pub(super) async fn open(&self, found: &Found, deadline: &Deadline) -> Result<Arc<PrivateKey>, String> {
        let mut opened = self.opened.lock().await;
        let key = match opened.get(&found.name) {
            Some(key) => key.clone(),
            None => {
                let key = self.decrypt(found, deadline).await.map(Arc::new);
                opened.insert(found.name.clone(), key.clone());
                key
            }
        };
        key.ok_or_else(|| format!("{} needs a passphrase", found.name))
    }

    async fn decrypt(&self, found: &Found, deadline: &Deadline) -> Option<PrivateKey> {
        if !is_encrypted(&found.text) {
            return decode_secret_key(&found.text, None).ok();
        }
        if let Some(passphrase) = &self.passphrase
            && let Some(key) = unlock(found.text.clone(), passphrase.clone()).await
        {
            return Some(key);
        }
        for attempt in 0..ATTEMPTS {
            let prompt = self.prompt.clone();
            let again = if attempt > 0 { "Wrong. " } else { "" };
            let question = format!("{again}Passphrase of {}: ", found.name);
            let passphrase = deadline.ask(move || prompt.secret(&question)).await??;
            if let Some(key) = unlock(found.text.clone(), passphrase).await {
                return Some(key);
            }
        }
        None
    }
}

/// Tries a passphrase; the key's derivation takes a tenth of a second of work on purpose.
async fn unlock(text: Zeroizing<String>, passphrase: Secret) -> Option<PrivateKey> {
    tokio::task::spawn_blocking(move || decode_secret_key(&text, Some(passphrase.expose())).ok()).await.ok()?
}

fn is_encrypted(text: &str) -> bool {
    text.contains("ENCRYPTED") || PrivateKey::from_openssh(text).is_ok_and(|key| key.is_encrypted())
}

/// The public half, which OpenSSH's format shows without the passphrase.
fn public_half(text: &str) -> Option<KeyData> {
    PrivateKey::from_openssh(text)
        .ok()
        .or_else(|| if is_encrypted(text) { None } else { decode_secret_key(text, None).ok() })
        .map(|key| key.public_key().key_data().clone())
}

/// Undoes what copying a key into a variable does to it: Windows line ends, line ends written as `\n`,
/// quotes around it, indentation, blanks at line ends, a missing last line end.
fn normalise(text: &str) -> String {
    let text = text.trim().trim_matches(['"', '\'']).replace("\\r", "").replace("\\n", "\n");
    let mut clean = String::with_capacity(text.len() + 1);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        clean.push_str(line);
        clean.push('\n');
    }
    clean
}

/// `data` followed by its signature with `key`, as russh wants it. RSA signs with SHA-512, never SHA-1.
pub(super) fn sign(key: &PrivateKey, mut data: Vec<u8>) -> Result<Vec<u8>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("the key cannot sign: {error}");
    let signature: Signature = match key.key_data() {
        KeypairData::Rsa(pair) => (pair, Some(HashAlg::Sha512)).try_sign(&data),
        pair => pair.try_sign(&data),
    }
    .map_err(|error| failed(&error))?;
    let mut encoded = Vec::new();
    signature.encode(&mut encoded).map_err(|error| failed(&error))?;
    encoded.encode(&mut data).map_err(|error| failed(&error))?;
    Ok(data)
}

/// The certificate in `file`.
pub(super) fn certificate(file: &Path) -> Result<Certificate, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    Certificate::from_openssh(text.trim()).map_err(|error| format!("{} is not a certificate: {error}", file.display()))
}

/// What an agent holds, without its comment: the same key again is the same.
pub(super) fn key_of(identity: &AgentIdentity) -> KeyData {
    identity.public_key().key_data().clone()
}

/// The hash for signatures with `key`: SHA-512 for RSA, none for the others, which have their own.
pub(super) fn hash_of(key: &KeyData) -> Option<HashAlg> {
    matches!(key.algorithm(), ssh_key::Algorithm::Rsa { .. }).then_some(HashAlg::Sha512)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::NoPrompt;

    const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jYmMAAAAGYmNyeXB0AAAAGAAAABDLGyfA39
J2FcJygtYqi5ISAAAAEAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIN+Wjn4+4Fcvl2Jl
KpggT+wCRxpSvtqqpVrQrKN1/A22AAAAkOHDLnYZvYS6H9Q3S3Nk4ri3R2jAZlQlBbUos5
FkHpYgNw65KCWCTXtP7ye2czMC3zjn2r98pJLobsLYQgRiHIv/CUdAdsqbvMPECB+wl/UQ
e+JpiSq66Z6GIt0801skPh20jxOO3F52SoX1IeO5D5PXfZrfSZlw6S8c7bwyp2FHxDewRx
7/wNsnDM0T7nLv/Q==
-----END OPENSSH PRIVATE KEY-----
";

    #[test]
    fn a_key_survives_what_copying_does_to_it() {
        let indented: String = KEY.lines().map(|line| format!("    {line}  \r\n")).collect();
        for damaged in [
            KEY.trim_end(),
            &KEY.replace('\n', "\r\n"),
            &KEY.replace('\n', "\\n"),
            &indented,
            &format!("\"{KEY}\"\n\n"),
        ] {
            let found = Found::text("SHIP_SSH_KEY", &Secret::new(damaged.to_owned())).unwrap();
            assert!(found.public.is_some(), "{damaged}");
        }
        let error = |text: &str| Found::text("SHIP_SSH_KEY", &Secret::new(text.to_owned())).err().unwrap();
        assert_eq!(error(" \n"), "SHIP_SSH_KEY is empty");
        assert_eq!(error("~/.ssh/id"), "SHIP_SSH_KEY is not a private key: it does not begin with `-----BEGIN `");
        assert_eq!(error(&KEY[..200]), "SHIP_SSH_KEY is not a private key: it is damaged");
    }

    struct Counting(std::sync::atomic::AtomicUsize);

    impl Prompt for Counting {
        fn trust_host_key(&self, _: &str, _: &str, _: &str) -> bool {
            false
        }

        fn secret(&self, _: &str) -> Option<Secret> {
            let asked = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Some(Secret::new(if asked == 0 { "wrong" } else { "blabla" }.to_owned()))
        }
    }

    #[tokio::test]
    async fn a_passphrase_is_asked_for_once() {
        let found = Found::text("key", &Secret::new(KEY.to_owned())).unwrap();
        let deadline = Deadline::after(std::time::Duration::from_secs(60));
        let prompt = Arc::new(Counting(0.into()));
        let ring = Keyring::new(None, prompt.clone());
        let opened = ring.open(&found, &deadline).await.unwrap();
        assert_eq!(Some(opened.public_key().key_data()), found.public.as_ref());
        ring.open(&found, &deadline).await.unwrap();
        assert_eq!(prompt.0.load(std::sync::atomic::Ordering::Relaxed), 2);

        let silent = Keyring::new(Some(Secret::new("blabla".to_owned())), Arc::new(NoPrompt));
        assert!(silent.open(&found, &deadline).await.is_ok());
        let refused = Keyring::new(None, Arc::new(NoPrompt));
        assert_eq!(refused.open(&found, &deadline).await.unwrap_err(), "key needs a passphrase");
    }
}
