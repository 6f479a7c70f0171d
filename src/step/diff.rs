//! How a file on a host differs from what is wanted, as a unified diff in which no secret shows.

use std::collections::BTreeSet;

use similar::TextDiff;

use crate::output::visible;
use crate::secret::{MASK, Masker, Secret};

/// The text of a file that is to be on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The text.
    pub text: Secret,
    /// The secrets that went into it.
    pub secrets: Vec<Secret>,
}

impl Contents {
    /// A text without secrets.
    pub fn plain(text: String) -> Self {
        Self { text: Secret::new(text), secrets: Vec::new() }
    }

    /// The text as bytes.
    pub fn bytes(&self) -> &[u8] {
        self.text.expose().as_bytes()
    }
}

/// Lines around a change that are shown with it.
const CONTEXT: usize = 3;

/// The difference between what is at `path` (`None` where nothing is) and what is wanted there.
///
/// Of a `private` file only those words are shown that the template itself says: what stands there now may
/// hold secrets that nobody told ship about.
pub fn unified(path: &str, old: Option<&[u8]>, new: &Contents, private: bool) -> String {
    let masker = Masker::new(&new.secrets);
    let Ok(before) = std::str::from_utf8(old.unwrap_or_default()) else {
        return format!("--- {path}\n+++ {path}\n(it is no text now)\n");
    };
    let after = new.text.expose();
    let known = if private { Some(Known::of(&masker.mask(after))) } else { None };
    let from = if old.is_some() { path } else { "/dev/null" };
    let diff = TextDiff::from_lines(before, after);
    let mut out = format!("--- {from}\n+++ {path}\n");
    for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
        out.push_str(&format!("{}\n", hunk.header()));
        for change in hunk.iter_changes() {
            let line = change.value().trim_end_matches('\n');
            let shown = match (&known, change.tag()) {
                (Some(known), similar::ChangeTag::Delete) => known.line(line),
                _ => masker.mask(line),
            };
            out.push_str(&format!("{}{}\n", change.tag(), visible(shown.as_bytes())));
        }
    }
    out
}

/// What may be shown of lines that are on a host now: the words before `=` or `:` that the new text has too.
struct Known {
    keys: BTreeSet<String>,
}

impl Known {
    fn of(masked: &str) -> Self {
        Self { keys: masked.lines().filter_map(key).map(str::to_owned).collect() }
    }

    fn line(&self, line: &str) -> String {
        match key(line).filter(|key| self.keys.contains(*key)) {
            Some(key) => format!("{key}{MASK}"),
            None if line.trim().is_empty() => line.to_owned(),
            None => MASK.to_owned(),
        }
    }
}

/// The part of `line` up to its first `=` or `:`, with it.
fn key(line: &str) -> Option<&str> {
    let end = line.find(['=', ':'])?;
    line.get(..=end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_with_what_is_around_it() {
        let new = Contents::plain("a\nb\nC\nd\n".to_owned());
        insta::assert_snapshot!(unified("/etc/x", Some(b"a\nb\nc\x1b[2J\nd\n"), &new, false), @r"
        --- /etc/x
        +++ /etc/x
        @@ -1,4 +1,4 @@
         a
         b
        -c\x1b[2J
        +C
         d
        ");
        insta::assert_snapshot!(unified("/etc/x", None, &Contents::plain("a\n".to_owned()), true), @r"
        --- /dev/null
        +++ /etc/x
        @@ -0,0 +1 @@
        +a
        ");
    }

    #[test]
    fn neither_the_new_secret_nor_the_one_that_stood_there_shows() {
        let new = Contents {
            text: Secret::new("USER=shop\nPASSWORD=new-secret-1\nKEY=line-one-of-it\nline-two==\n".to_owned()),
            secrets: vec![Secret::new("new-secret-1".to_owned()), Secret::new("line-one-of-it\nline-two==".to_owned())],
        };
        let old = b"USER=shop\nPASSWORD=old-secret-2\nKEY=other-line\nline-2==\nTOKEN=forgotten\n";
        let shown = unified("/srv/.env", Some(old), &new, true);
        for secret in ["new-secret-1", "old-secret-2", "line-one", "line-two", "other-line", "line-2", "forgotten"] {
            assert!(!shown.contains(secret), "{secret} is in\n{shown}");
        }
        insta::assert_snapshot!(shown, @r"
        --- /srv/.env
        +++ /srv/.env
        @@ -1,5 +1,4 @@
         USER=shop
        -PASSWORD=[secret]
        -KEY=[secret]
        -[secret]
        -[secret]
        +PASSWORD=[secret]
        +KEY=[secret]
        +[secret]
        ");
    }
}
