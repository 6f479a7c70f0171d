//! A TOML document whose every key and value knows its place, and a reader that collects all
//! problems instead of stopping at the first.
//!
//! Deliberately absent: what keys mean. `config` and `step` say that with their own tables of keys.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

pub mod key;
pub mod offset;
pub mod reader;
pub mod spelling;

pub use reader::{Reader, duration};
pub use spelling::{nearest, suggestion};

/// A file as it was read, for messages that show the line.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The path as the user would type it.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// Line and column of a byte offset, both counted from 1; columns count characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset.min(self.text.len())).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        (line, column)
    }
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub source: Arc<Source>,
    /// Byte offsets into its text.
    pub span: Range<usize>,
}

impl std::fmt::Display for Place {
    /// `file:line:column`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (line, column) = self.source.position(self.span.start);
        write!(f, "{}:{line}:{column}", self.source.path.display())
    }
}

/// Something wrong in a file or on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where; `None` for what stands on the command line.
    pub place: Option<Place>,
    /// What is wrong, as a sentence without its full stop.
    pub message: String,
    /// What was expected at that place.
    pub label: Option<String>,
    /// What to do, for example a spelling that exists.
    pub help: Option<String>,
}

impl Problem {
    /// A problem at `place`.
    pub fn at(place: &Place, message: impl Into<String>) -> Self {
        Self { place: Some(place.clone()), message: message.into(), label: None, help: None }
    }

    /// A problem of the command line.
    pub fn without_place(message: impl Into<String>) -> Self {
        Self { place: None, message: message.into(), label: None, help: None }
    }

    /// Says what was expected.
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    /// Says what to do, where there is something to say.
    pub fn help(self, help: impl Into<Option<String>>) -> Self {
        Self { help: help.into(), ..self }
    }
}

/// The problems found so far. Reading goes on after each.
pub type Problems = Vec<Problem>;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub value: Value,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

/// A TOML value. Dates and times are kept as the text that was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A string.
    String(String),
    /// An integer.
    Integer(i64),
    /// A floating-point number.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// An array.
    Array(Vec<Node>),
    /// A table, in the order of the file.
    Table(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_place: Place,
    /// The value.
    pub node: Node,
}

impl Value {
    /// What a person calls this type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Boolean(_) => "a boolean",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

/// Parses `text` of `path`. All syntax errors are returned, each at its place.
pub fn parse(path: &Path, text: String) -> Result<Node, Problems> {
    let source = Arc::new(Source { path: path.to_owned(), text });
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    let at = |span: Range<usize>| Place { source: Arc::clone(&source), span };
    if !errors.is_empty() {
        return Err(errors
            .iter()
            .map(|error| Problem {
                place: Some(at(error.span().unwrap_or(0..0))),
                message: error.message().to_owned(),
                label: None,
                help: None,
            })
            .collect());
    }
    let mut problems = Problems::new();
    let span = table.span();
    let value = Value::Table(entries(table.get_ref(), &at, &mut problems));
    if problems.is_empty() { Ok(Node { place: at(span), value }) } else { Err(problems) }
}

fn entries(table: &DeTable<'_>, at: &impl Fn(Range<usize>) -> Place, problems: &mut Problems) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_place: at(key.span()),
            node: node(value, at, problems),
        })
        .collect();
    // The parser sorts by key; the order of the file is what its author sees.
    entries.sort_by_key(|entry| entry.key_place.span.start);
    entries
}

fn node(value: &toml::Spanned<DeValue<'_>>, at: &impl Fn(Range<usize>) -> Place, problems: &mut Problems) -> Node {
    let place = at(value.span());
    let mut wrong = |message: &str| {
        problems.push(Problem { place: Some(place.clone()), message: message.to_owned(), label: None, help: None });
    };
    let read = match value.get_ref() {
        DeValue::String(text) => {
            if text.contains('\0') {
                wrong("a NUL character cannot stand in a command or a file name");
            }
            Value::String(text.to_string())
        }
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => {
                wrong("this integer is too large");
                Value::Integer(0)
            }
        },
        DeValue::Float(float) => match float.as_str().parse() {
            Ok(number) => Value::Float(number),
            Err(_) => {
                wrong("this number cannot be read");
                Value::Float(0.0)
            }
        },
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Datetime(datetime) => Value::String(datetime.to_string()),
        DeValue::Array(array) => Value::Array(array.iter().map(|item| node(item, at, problems)).collect()),
        DeValue::Table(table) => Value::Table(entries(table, at, problems)),
    };
    Node { place, value: read }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Node {
        parse(Path::new("a.toml"), text.to_owned()).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    #[test]
    fn every_value_knows_its_place() {
        let node = document("a = 1\n[t]\nb = \"x\"\n");
        let Value::Table(entries) = &node.value else { panic!("{node:?}") };
        let places: Vec<String> = entries.iter().map(|entry| entry.key_place.to_string()).collect();
        assert_eq!(places, ["a.toml:1:1", "a.toml:2:2"]);
    }
}
