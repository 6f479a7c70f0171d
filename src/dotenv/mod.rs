//! Settings files (`.env`): read as Docker Compose reads them, changed without touching any other byte.
//!
//! Everything here is pure. Values are [`Secret`]s, and no message of this room contains one. Deliberately
//! absent: filling in references to other variables (`${NAME}`), which is the business of who reads the file.

mod others;
mod read;
mod write;

use std::ops::Range;

use crate::secret::Secret;

pub use write::Refused;

/// The longest `NAME=VALUE` that Linux gives to a program (MAX_ARG_STRLEN with its end).
const LONGEST: usize = 128 * 1024 - 1;

/// What is wrong with a file, without any of its values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {text}")]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What.
    pub text: String,
}

/// A variable as it stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub key: String,
    /// Its value; `None` where the line has only the name, and the reader's own environment is meant.
    pub value: Option<Secret>,
    /// The value refers to other variables, and is given here as it stands.
    pub refers: bool,
    /// The line of its name, from 1.
    pub line: usize,
    /// Its lines in the text, with the last line end.
    lines: Range<usize>,
    /// Its value in the text, with the quotes.
    written: Range<usize>,
}

/// A settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    text: Secret,
    entries: Vec<Entry>,
}

impl Default for File {
    fn default() -> Self {
        Self { text: Secret::new(String::new()), entries: Vec::new() }
    }
}

impl File {
    /// Reads the bytes of a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default()).into_owned();
            read::problem(&before, before.len(), "the file is not UTF-8 text from here on")
        })?;
        Self::of(text.to_owned())
    }

    fn of(text: String) -> Result<Self, Problem> {
        Ok(Self { entries: read::entries(&text)?, text: Secret::new(text) })
    }

    /// The variables, in the order of the file. Of two with one name the later one counts.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The variable of this name that counts.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.key == key)
    }

    /// The variables that count, each once, in the order of the file.
    pub fn effective(&self) -> Vec<&Entry> {
        self.entries.iter().filter(|entry| self.get(&entry.key) == Some(entry)).collect()
    }

    /// The text of the file.
    pub fn text(&self) -> &Secret {
        &self.text
    }

    /// The file with `key` set to `value`: where it stands already, else on a line of its own at the end.
    pub fn with(&self, key: &str, value: &str) -> Result<Self, Refused> {
        let written = write::written(key, value)?;
        let mut text = self.text.expose().to_owned();
        match self.get(key) {
            Some(entry) if entry.value.is_some() => {
                let behind = text.get(entry.written.end..entry.lines.end).unwrap_or_default();
                // Without quotes, a comment behind nothing would be taken for the value.
                let bare = written.is_empty() && !behind.trim().is_empty();
                text.replace_range(entry.written.clone(), if bare { "''" } else { &written });
            }
            Some(entry) => text.replace_range(entry.written.clone(), &format!("={written}")),
            None => {
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
                text.push_str(&format!("{key}={written}\n"));
            }
        }
        let changed = Self::of(text).map_err(|_| Refused::Unreadable)?;
        // Whatever stood around it, what is read back is what was asked for.
        let same = changed.get(key).and_then(|entry| entry.value.as_ref()).is_some_and(|now| now.expose() == value);
        if same { Ok(changed) } else { Err(Refused::Unreadable) }
    }

    /// The file without `key`.
    pub fn without(&self, key: &str) -> Self {
        let mut text = self.text.expose().to_owned();
        for entry in self.entries.iter().rev().filter(|entry| entry.key == key) {
            text.replace_range(entry.lines.clone(), "");
        }
        Self::of(text).unwrap_or_else(|_| self.clone())
    }
}

/// Programs other than Docker Compose that would read another value than `value` from what ship writes.
pub fn misread_by(key: &str, value: &str) -> Vec<&'static str> {
    write::written(key, value).map(|written| others::misreaders(&written, value)).unwrap_or_default()
}

/// The line that sets `key` to `value`.
pub fn line(key: &str, value: &str) -> Result<String, Refused> {
    Ok(format!("{key}={}", write::written(key, value)?))
}

/// Whether something in `value` has still to be filled in: `<your key>`, `<>`. An address such as
/// `Team <team@example.org>` has not.
pub fn has_placeholder(value: &str) -> bool {
    value.split('<').skip(1).any(|rest| {
        rest.split_once('>').is_some_and(|(inside, _)| {
            inside.len() <= 80 && inside.chars().all(|c| c.is_alphanumeric() || " _-./".contains(c))
        })
    })
}

/// Whether `value` looks squeezed into one line by hand, with `\n` for line ends or `\-` for dashes. ship keeps
/// such a value as it is: a value of several lines needs no trick here.
pub fn looks_squeezed(value: &str) -> bool {
    !value.contains('\n') && (value.contains("\\-") || value.contains("\\n"))
}

#[cfg(test)]
mod tests;
