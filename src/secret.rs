//! Values that must never be shown, and the mask that keeps them out of every byte of output.
//!
//! Deliberately absent: where secrets come from (`config`) and where they go (`command`, `step`).

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};
use zeroize::Zeroizing;

/// What stands where a secret was.
pub const MASK: &str = "[secret]";

/// A value that `Display` and `Debug` mask and that is wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Takes ownership of `value`.
    pub fn new(value: String) -> Self {
        Self(Arc::new(Zeroizing::new(value)))
    }

    /// The value itself; the name is long so that every use stands out in a review.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// The shortest value that is masked: shorter ones occur by chance in ordinary output.
pub const SHORTEST_MASKED: usize = 4;

/// Replaces every known secret, in the forms in which programs commonly print it. Its copies share what it
/// knows, so that a password that is typed later is masked everywhere from then on.
#[derive(Clone, Default)]
pub struct Masker {
    known: Arc<RwLock<Known>>,
}

#[derive(Default)]
struct Known {
    forms: Vec<Vec<u8>>,
    search: Option<AhoCorasick>,
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker").finish_non_exhaustive()
    }
}

impl Masker {
    /// A mask for `secrets`: raw, each line of a multi-line value, JSON-escaped, shell-quoted,
    /// URL-encoded and base64 (RFC 4648).
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let masker = Self::default();
        masker.learn(secrets);
        masker
    }

    /// Masks `secrets` too, from now on.
    pub fn learn<'a>(&self, secrets: impl IntoIterator<Item = &'a Secret>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.forms.extend(secrets.into_iter().flat_map(forms));
        known.forms.sort();
        known.forms.dedup();
        known.search = if known.forms.is_empty() {
            None
        } else {
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&known.forms).ok()
        };
    }

    /// `text` with every secret replaced by [`MASK`].
    pub fn mask(&self, text: &str) -> String {
        match &self.known.read().unwrap_or_else(PoisonError::into_inner).search {
            Some(search) => {
                let mut masked = String::with_capacity(text.len());
                search.replace_all_with(text, &mut masked, |_, _, out| {
                    out.push_str(MASK);
                    true
                });
                masked
            }
            None => text.to_owned(),
        }
    }
}

/// What is looked for to mask `secret`.
fn forms(secret: &Secret) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    let value = secret.expose();
    for part in std::iter::once(value).chain(value.lines()) {
        let part = part.trim();
        if part.len() >= SHORTEST_MASKED {
            forms.push(part.as_bytes().to_vec());
            forms.push(part.replace('\'', r"'\''").into_bytes());
            forms.push(url_encoded(part).into_bytes());
            if let Ok(json) = serde_json::to_string(part) {
                let inner = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'));
                forms.extend(inner.map(|inner| inner.as_bytes().to_vec()));
            }
            forms.push(base64(part.as_bytes()).into_bytes());
        }
    }
    forms
}

/// Percent-encoding of everything but RFC 3986's unreserved characters.
fn url_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Base64 without padding, so that a value is also found where more text follows it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    let mut emit = |bits: u32, count: usize| {
        for position in 0..count {
            let index = (bits >> (18 - 6 * position)) & 63;
            if let Some(letter) = ALPHABET.get(index as usize) {
                out.push(char::from(*letter));
            }
        }
    };
    let mut chunks = bytes.chunks_exact(3);
    for chunk in &mut chunks {
        if let [a, b, c] = chunk {
            emit(u32::from(*a) << 16 | u32::from(*b) << 8 | u32::from(*c), 4);
        }
    }
    // A partial last group would change with what follows it, so only its certain letters count.
    match chunks.remainder() {
        [a] => emit(u32::from(*a) << 16, 1),
        [a, b] => emit(u32::from(*a) << 16 | u32::from(*b) << 8, 2),
        _ => {}
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_in_every_form_it_is_printed_in() {
        let masker = Masker::new([&Secret::new("p'ss \"word\"\nline two".to_owned())]);
        for shown in ["p'ss \"word\"", r#"p'ss \"word\""#, r#"p'\''ss "word""#, "line two", "p%27ss%20%22word%22"] {
            assert_eq!(masker.mask(&format!("a {shown} b")), "a [secret] b", "{shown}");
        }
        assert_eq!(masker.mask("base64: bGluZSB0d28="), "base64: [secret]8=");
    }

    #[test]
    fn short_values_and_other_text_stay() {
        let masker = Masker::new([&Secret::new("abc".to_owned())]);
        assert_eq!(masker.mask("abc"), "abc");
    }

    #[test]
    fn what_is_learned_later_is_masked_by_every_copy() {
        let masker = Masker::default();
        let copy = masker.clone();
        masker.learn([&Secret::new("hunter22".to_owned())]);
        assert_eq!(copy.mask("it is hunter22"), "it is [secret]");
    }

    #[test]
    fn secrets_never_show_themselves() {
        let secret = Secret::new("hunter22".to_owned());
        assert_eq!(format!("{secret} {secret:?}"), "[secret] [secret]");
    }
}
