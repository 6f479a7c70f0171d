//! A TOML document whose every key and value knows its place, and a reader that collects all
//! problems instead of stopping at the first.
//!
//! Deliberately absent: what keys mean. `config` and `step` say that with their own tables of keys.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

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

/// The existing name nearest to `name`, where one is near enough to be what was meant.
pub fn nearest<'a>(name: &str, existing: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    existing
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// "did you mean `x`?", or the list of what there is.
pub fn suggestion<'a>(name: &str, existing: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some(near) = nearest(name, existing.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let all: Vec<String> = existing.into_iter().map(|name| format!("`{name}`")).collect();
    if all.is_empty() { None } else { Some(format!("there is {}", all.join(", "))) }
}

/// Reads the keys of one table and notes every problem; [`Reader::finish`] reports unknown keys.
#[derive(Debug)]
pub struct Reader<'a> {
    /// What the table is, for messages: "the host `web1`".
    what: String,
    place: Place,
    entries: &'a [Entry],
    /// The keys that were asked for.
    known: Vec<&'static str>,
    problems: &'a mut Problems,
}

impl<'a> Reader<'a> {
    /// A reader of `node`, or `None` and a problem when it is not a table.
    pub fn new(what: impl Into<String>, node: &'a Node, problems: &'a mut Problems) -> Option<Self> {
        let what = what.into();
        match &node.value {
            Value::Table(entries) => {
                Some(Self { what, place: node.place.clone(), entries, known: Vec::new(), problems })
            }
            other => {
                problems.push(Problem {
                    place: Some(node.place.clone()),
                    message: format!("{what} is {}", other.kind()),
                    label: Some("expected a table".to_owned()),
                    help: None,
                });
                None
            }
        }
    }

    /// Where the table stands.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Notes a problem at `place`.
    pub fn problem(&mut self, place: &Place, message: impl Into<String>, label: Option<&str>, help: Option<String>) {
        self.problems.push(Problem {
            place: Some(place.clone()),
            message: message.into(),
            label: label.map(str::to_owned),
            help,
        });
    }

    /// The problems, for readers of nested tables.
    pub fn problems(&mut self) -> &mut Problems {
        self.problems
    }

    /// The value of `key` as it stands.
    pub fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// The entry of `key`, with the key's own place.
    pub fn entry(&mut self, key: &'static str) -> Option<&'a Entry> {
        self.known.push(key);
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// A string.
    pub fn string(&mut self, key: &'static str) -> Option<String> {
        self.typed(key, "expected a string", |value| match value {
            Value::String(text) => Some(text.clone()),
            _ => None,
        })
    }

    /// A string that must be there.
    pub fn required_string(&mut self, key: &'static str) -> Option<String> {
        let found = self.entries.iter().any(|entry| entry.key == key);
        if !found {
            let (message, place) = (format!("{} has no `{key}`", self.what), self.place.clone());
            self.problem(&place, message, None, None);
        }
        self.string(key)
    }

    /// A boolean.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        self.typed(key, "expected true or false", |value| match value {
            Value::Boolean(boolean) => Some(*boolean),
            _ => None,
        })
    }

    /// An integer of 0 or more.
    pub fn count(&mut self, key: &'static str) -> Option<u32> {
        self.typed(key, "expected a whole number, 0 or more", |value| match value {
            Value::Integer(number) => u32::try_from(*number).ok(),
            _ => None,
        })
    }

    /// Strings: an array of them, or one that stands for an array of one.
    pub fn strings(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.typed(key, "expected strings", |value| match value {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(items) => items
                .iter()
                .map(|item| match &item.value {
                    Value::String(text) => Some(text.clone()),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }

    /// A length of time: `"30s"`, `"5m"`, `"1h"`, `"250ms"`, or a number of seconds.
    pub fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.typed(key, "expected a time such as \"30s\", \"5m\" or \"250ms\"", |value| match value {
            Value::String(text) => duration(text),
            Value::Integer(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
            _ => None,
        })
    }

    /// A value of which `read` makes something, or a problem that says what was expected.
    pub fn typed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let node = self.node(key)?;
        let value = read(&node.value);
        if value.is_none() {
            self.problems.push(Problem {
                place: Some(node.place.clone()),
                message: format!("`{key}` of {} is {}", self.what, describe(&node.value)),
                label: Some(expected.to_owned()),
                help: None,
            });
        }
        value
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self) {
        for entry in self.entries {
            if !self.known.contains(&entry.key.as_str()) {
                self.problems.push(Problem {
                    place: Some(entry.key_place.clone()),
                    message: format!("{} has no key `{}`", self.what, entry.key),
                    label: Some("unknown key".to_owned()),
                    help: suggestion(&entry.key, self.known.iter().copied()),
                });
            }
        }
    }
}

/// The value as a message shows it: strings in quotes, others by their type.
fn describe(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        other => other.kind().to_owned(),
    }
}

/// Reads `"30s"`, `"5m"`, `"1h"`, `"250ms"` and plain seconds.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit.trim() {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "m" | "min" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
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

    #[test]
    fn all_problems_are_found_at_once() {
        let node = document("naem = 1\ntimeout = \"soon\"\nflag = 3\n");
        let mut problems = Problems::new();
        let Some(mut reader) = Reader::new("the step", &node, &mut problems) else { panic!("a table") };
        assert_eq!(reader.string("name"), None);
        assert_eq!(reader.duration("timeout"), None);
        assert_eq!(reader.boolean("flag"), None);
        reader.finish();
        let shown: Vec<String> = problems
            .iter()
            .map(|p| {
                format!(
                    "{}: {} ({}; {})",
                    p.place.as_ref().map(Place::to_string).unwrap_or_default(),
                    p.message,
                    p.label.clone().unwrap_or_default(),
                    p.help.clone().unwrap_or_default()
                )
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        a.toml:2:11: `timeout` of the step is "soon" (expected a time such as "30s", "5m" or "250ms"; )
        a.toml:3:8: `flag` of the step is 3 (expected true or false; )
        a.toml:1:1: the step has no key `naem` (unknown key; did you mean `name`?)
        "#);
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!(duration("30"), Some(Duration::from_secs(30)));
        assert_eq!(duration("soon"), None);
        assert_eq!(duration("99999999999999999999s"), None);
    }
}
