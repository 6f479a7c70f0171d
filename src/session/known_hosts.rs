//! Reads OpenSSH's `known_hosts` files (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT") and adds to them.
//!
//! Never more permissive than OpenSSH: a line that cannot be read is skipped as OpenSSH skips it, a file
//! that cannot be read is an error where OpenSSH carries on. Deliberately absent: what follows from the
//! entries (`host_key`).

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::PublicKey;
use russh::keys::ssh_encoding::base64::{Base64, Encoding};
use russh::keys::ssh_key::public::KeyData;
use sha1::Sha1;

/// What a line says of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    /// It is a key of the host.
    Host,
    /// `@cert-authority`: certificates that it signed are the host's.
    Authority,
    /// `@revoked`: it must never be accepted.
    Revoked,
}

/// A line whose pattern matches the host that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) marker: Marker,
    pub(super) key: KeyData,
    pub(super) file: PathBuf,
    /// Counted from 1, with comments and empty lines.
    pub(super) line: usize,
}

/// The name by which a server on `port` of `host` is recorded: `host`, or `[host]:port` where the port
/// is not 22. In lower case, as OpenSSH compares them.
pub(super) fn name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// The entries for `name` in `files`, in order. A file that does not exist has none.
pub(super) fn read(files: &[PathBuf], name: &str) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    for file in files {
        match std::fs::read(file) {
            Ok(text) => entries.extend(entries_for(&text, file, name)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{} cannot be read: {error}", file.display())),
        }
    }
    Ok(entries)
}

/// The entries for `name` in the `text` of `file`.
pub(super) fn entries_for(text: &[u8], file: &Path, name: &str) -> Vec<Entry> {
    let entry = |(at, line): (usize, &[u8])| {
        let (marker, key) = read_line(line, name)?;
        Some(Entry { marker, key, file: file.to_owned(), line: at + 1 })
    };
    text.split(|byte| *byte == b'\n').enumerate().filter_map(entry).collect()
}

/// What `line` says of `name`, if anything. Bytes, not text: a comment may be in any encoding.
fn read_line(line: &[u8], name: &str) -> Option<(Marker, KeyData)> {
    // OpenSSH reads C strings.
    let line = line.split(|byte| *byte == 0).next()?;
    let mut words = line
        .split(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
        .filter(|word| !word.is_empty())
        .map(|word| std::str::from_utf8(word).ok());
    let mut patterns = words.next()??;
    let marker = match patterns {
        "@cert-authority" => Marker::Authority,
        "@revoked" => Marker::Revoked,
        _ if patterns.starts_with(['@', '#']) => return None,
        _ => Marker::Host,
    };
    if marker != Marker::Host {
        patterns = words.next()??;
    }
    let matches = if patterns.starts_with('|') { hash_matches(patterns, name) } else { patterns_match(patterns, name) };
    if !matches {
        return None;
    }
    let (kind, key) = (words.next()??, words.next()??);
    read_key(kind, key).map(|key| (marker, key))
}

/// A public key from its type and its base64; none where they disagree, and for certificates, which
/// have no place in these files.
pub(super) fn read_key(kind: &str, key: &str) -> Option<KeyData> {
    if kind.contains("-cert-v01@") {
        return None;
    }
    let key = PublicKey::from_openssh(&format!("{kind} {key}")).ok()?;
    (key.algorithm().as_str() == kind).then(|| key.key_data().clone())
}

/// The keys in a list of revoked ones (ssh_config(5), `RevokedHostKeys`), one public key a line. Anything
/// else in it is an error: it may revoke a key.
pub(super) fn read_revoked(file: &Path) -> Result<Vec<Entry>, String> {
    let text = std::fs::read(file).map_err(|error| format!("cannot be read: {error}"))?;
    let text = std::str::from_utf8(&text).map_err(|_| "is not text".to_owned())?;
    let mut entries = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        let key = words.next().zip(words.next()).and_then(|(kind, key)| read_key(kind, key));
        let key = key.ok_or_else(|| format!("has no public key in line {}", at + 1))?;
        entries.push(Entry { marker: Marker::Revoked, key, file: file.to_owned(), line: at + 1 });
    }
    Ok(entries)
}

/// Whether the hashed name `|1|salt|hash` is that of `name`: HMAC-SHA1 with the salt as the key.
fn hash_matches(hashed: &str, name: &str) -> bool {
    let mut parts = hashed.split('|');
    let (Some(""), Some("1"), Some(salt), Some(hash), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let (Ok(salt), Ok(hash)) = (Base64::decode_vec(salt), Base64::decode_vec(hash)) else { return false };
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(&salt) else { return false };
    mac.update(name.as_bytes());
    mac.verify_slice(&hash).is_ok()
}

/// Whether `name`, in lower case, is in a list of patterns separated by commas (ssh_config(5),
/// "PATTERNS"). A pattern that begins with `!` and matches wins over all others.
pub(super) fn patterns_match(patterns: &str, name: &str) -> bool {
    let mut found = false;
    for pattern in patterns.split(',') {
        let pattern = pattern.to_ascii_lowercase();
        match pattern.strip_prefix('!') {
            Some(pattern) if wildcard_matches(pattern.as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => found |= wildcard_matches(pattern.as_bytes(), name.as_bytes()),
        }
    }
    found
}

/// `*` is any number of characters, `?` exactly one. In time proportional to the lengths' product.
pub(super) fn wildcard_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || Some(wanted) == text.get(seen) => {
                at += 1;
                seen += 1;
            }
            _ => match &mut star {
                Some((position, taken)) => {
                    *taken += 1;
                    (at, seen) = (*position + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|byte| *byte == b'*')
}

/// The line that records `key` for `name`, without its end. `salt` hashes the name (`HashKnownHosts`).
pub(super) fn line(name: &str, key: &KeyData, salt: Option<[u8; 20]>) -> String {
    let key = PublicKey::new(key.clone(), "").to_openssh().unwrap_or_default();
    let hash = salt.and_then(|salt| {
        let mut mac = Hmac::<Sha1>::new_from_slice(&salt).ok()?;
        mac.update(name.as_bytes());
        let hash: [u8; 20] = mac.finalize().into_bytes().into();
        Some(format!("|1|{}|{}", Base64::encode_string(&salt), Base64::encode_string(&hash)))
    });
    format!("{} {}", hash.as_deref().unwrap_or(name), key.trim())
}

/// Records `key` for `name` in `file`, which is made (0600, its folder 0700) where it does not exist.
/// Under a lock, so that hosts that are met at the same time do not write into each other's lines.
pub(super) fn learn(file: &Path, name: &str, key: &KeyData, hash: bool) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut opened: File = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(file)?;
    opened.lock()?;
    let mut text = Vec::new();
    opened.seek(SeekFrom::Start(0))?;
    opened.read_to_end(&mut text)?;
    let known = |entry: &Entry| entry.marker == Marker::Host && entry.key == *key;
    if entries_for(&text, file, name).iter().any(known) {
        return Ok(());
    }
    let mut salt = [0; 20];
    let salt = (hash && getrandom::fill(&mut salt).is_ok()).then_some(salt);
    let end = if text.last().is_some_and(|byte| *byte != b'\n') { "\n" } else { "" };
    opened.write_all(format!("{end}{}\n", line(name, key, salt)).as_bytes())?;
    opened.sync_data()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn markers(text: &str, name: &str) -> Vec<Marker> {
        entries_for(text.as_bytes(), Path::new("known_hosts"), name).into_iter().map(|entry| entry.marker).collect()
    }

    #[test]
    fn patterns_as_in_ssh_config() {
        for (patterns, name, matches) in [
            ("web.example.org", "web.example.org", true),
            ("WEB.Example.org", "web.example.org", true),
            ("*.example.org", "web.example.org", true),
            ("*.example.org", "example.org", false),
            ("web?", "web1", true),
            ("web?", "web", false),
            ("*,!web2", "web1", true),
            ("*,!web2", "web2", false),
            ("!web2", "web1", false),
            ("a,b,web1", "web1", true),
            ("[web1]:2222", "[web1]:2222", true),
            ("[web1]:2222", "web1", false),
            ("web1", "[web1]:2222", false),
            ("*", "", true),
            ("", "web1", false),
        ] {
            assert_eq!(patterns_match(patterns, name), matches, "{patterns} {name}");
        }
    }

    #[test]
    fn lines_in_every_shape() {
        for (line, expected) in [
            (format!("web1 {KEY}"), vec![Marker::Host]),
            (format!("web1 {KEY} comment with words\r"), vec![Marker::Host]),
            (format!("  \tweb1\t\t{KEY}\t"), vec![Marker::Host]),
            (format!("@revoked * {KEY}"), vec![Marker::Revoked]),
            (format!("@cert-authority\tweb1 {KEY}"), vec![Marker::Authority]),
            (format!("@other web1 {KEY}"), vec![]),
            (format!("# web1 {KEY}"), vec![]),
            (format!("\u{feff}web1 {KEY}"), vec![]),
            (format!("web1 {KEY}\0junk"), vec![Marker::Host]),
            (format!("web1\0 {KEY}"), vec![]),
            (KEY.replace("ssh-ed25519", "web1 ssh-rsa"), vec![]),
            (format!("web1 {}", KEY.replace("AAAAC3", "####")), vec![]),
            ("web1 ssh-ed25519".to_owned(), vec![]),
            ("web1 1024 35 123456789".to_owned(), vec![]),
            (format!("{} {KEY}", "x,".repeat(500_000)), vec![]),
            (String::new(), vec![]),
        ] {
            assert_eq!(markers(&line, "web1"), expected, "{line:.80}");
        }
    }

    #[test]
    fn a_bad_line_does_not_hide_the_next_and_lines_are_counted() {
        let mut text = format!("# one\n\nweb1 garbage\n@revoked * {KEY} caf").into_bytes();
        text.extend(b"\xe9\nweb1 ");
        text.extend(KEY.as_bytes());
        let entries = entries_for(&text, Path::new("known_hosts"), "web1");
        let found: Vec<(Marker, usize)> = entries.iter().map(|entry| (entry.marker, entry.line)).collect();
        assert_eq!(found, [(Marker::Revoked, 4), (Marker::Host, 5)]);
    }

    #[test]
    fn hashed_names() {
        let hashed = line("web.example.org", &read_key("ssh-ed25519", &KEY[12..]).unwrap(), Some([7; 20]));
        assert!(hashed.starts_with("|1|BwcHBwcHBwcHBwcHBwcHBwcHBwc=|"), "{hashed}");
        assert_eq!(markers(&hashed, "web.example.org"), [Marker::Host]);
        assert_eq!(markers(&hashed, "other.example.org"), []);
        for broken in ["|1|", "|1|x|y", "|2|BwcH|BwcH", "|1|BwcH|BwcH|BwcH"] {
            assert_eq!(markers(&format!("{broken} {KEY}"), "web.example.org"), [], "{broken}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(&[folder.path().join("absent")], "web1"), Ok(Vec::new()));
        assert!(read(&[folder.path().to_owned()], "web1").is_err());
    }

    #[test]
    fn learning_appends_whole_lines_once() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(".ssh/known_hosts");
        let key = read_key("ssh-ed25519", &KEY[12..]).unwrap();
        learn(&file, "web1", &key, false).unwrap();
        learn(&file, "web1", &key, false).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("web1 {KEY}\n"));
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        std::fs::write(&file, "# no line end").unwrap();
        let hosts: Vec<String> = (0..8).map(|number| format!("[h]:{number}")).collect();
        std::thread::scope(|scope| {
            for host in &hosts {
                scope.spawn(|| learn(&file, host, &key, true).unwrap());
            }
        });
        for host in &hosts {
            assert_eq!(read(std::slice::from_ref(&file), host).unwrap().len(), 1, "{host}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn no_file_makes_the_reader_stumble(bytes in any::<Vec<u8>>(), name in "[a-z.:\\[\\]]{0,12}") {
            entries_for(&bytes, Path::new("known_hosts"), &name);
        }
    }
}
