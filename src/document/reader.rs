//! Reads the keys of a table and collects every problem.

use std::time::Duration;

use super::key::Table;
use super::{Entry, Located, Node, Place, Problem, Problems, Value, suggestion};

/// Reads the keys of one table and notes every problem; [`Reader::finish`] reports unknown keys.
#[derive(Debug)]
pub struct Reader<'a, 'p> {
    /// What the table is, for messages: "the host `web1`".
    what: String,
    place: Place,
    entries: &'a [Entry],
    /// The keys that were asked for.
    known: Vec<&'static str>,
    /// The keys that the documentation has, where it has any for this table.
    documented: Option<&'static Table>,
    /// Further keys that are known elsewhere.
    also: Vec<&'static str>,
    problems: &'p mut Problems,
}

impl<'a, 'p> Reader<'a, 'p> {
    /// A reader of `node`, or `None` and a problem when it is not a table.
    pub fn new(what: impl Into<String>, node: &'a Node, problems: &'p mut Problems) -> Option<Self> {
        let what = what.into();
        let entries = table(&what, node, problems)?;
        Some(Self {
            what,
            place: node.place.clone(),
            entries,
            known: Vec::new(),
            documented: None,
            also: Vec::new(),
            problems,
        })
    }

    /// A reader of `node`, whose keys are those of `documented`. In tests, [`Reader::finish`] asserts that
    /// exactly those were asked for.
    pub fn of(
        documented: &'static Table,
        what: impl Into<String>,
        node: &'a Node,
        problems: &'p mut Problems,
    ) -> Option<Self> {
        let reader = Self::new(what, node, problems)?;
        Some(Self { documented: Some(documented), ..reader })
    }

    /// Lets `keys` be in the table too: something else reads them.
    pub fn also(mut self, keys: impl IntoIterator<Item = &'static str>) -> Self {
        self.also.extend(keys);
        self
    }

    /// Where the table stands.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// All entries of the table, in the order of the file.
    pub fn entries(&self) -> &'a [Entry] {
        self.entries
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

    /// The entries of a table whose keys the author chose; nothing where `key` is missing.
    pub fn named(&mut self, key: &'static str) -> &'a [Entry] {
        let what = format!("`{key}` of {}", self.what);
        let node = self.node(key);
        node.and_then(|node| table(&what, node, self.problems)).unwrap_or_default()
    }

    /// A string with its place.
    pub fn located(&mut self, key: &'static str) -> Option<Located<String>> {
        let place = self.node(key)?.place.clone();
        self.string(key).map(|value| Located { value, place })
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
        self.required(key, None);
        self.string(key)
    }

    /// Notes a problem where `key` is missing; `help` says what to write.
    pub fn required(&mut self, key: &'static str, help: Option<&str>) {
        if !self.entries.iter().any(|entry| entry.key == key) {
            let (message, place) = (format!("{} has no `{key}`", self.what), self.place.clone());
            self.problem(&place, message, None, help.map(str::to_owned));
        }
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
        let strings = self.located_strings(key)?;
        Some(strings.into_iter().map(|string| string.value).collect())
    }

    /// Strings with their places. Those that are no strings are reported and left out.
    pub fn located_strings(&mut self, key: &'static str) -> Option<Vec<Located<String>>> {
        let node = self.node(key)?;
        let items = match &node.value {
            Value::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut strings = Vec::new();
        for item in items {
            match &item.value {
                Value::String(value) => strings.push(Located { value: value.clone(), place: item.place.clone() }),
                other => {
                    let message = format!("`{key}` of {} is {}", self.what, describe(other));
                    self.problem(&item.place, message, Some("expected a string or strings"), None);
                }
            }
        }
        Some(strings)
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
        #[cfg(test)]
        self.assert_documented();
        for entry in self.entries {
            let key = entry.key.as_str();
            if !self.known.contains(&key) && !self.also.contains(&key) {
                let also = self.also.iter().copied();
                let help = match self.documented {
                    Some(table) => suggestion(key, table.names().chain(also)),
                    None => suggestion(key, self.known.iter().copied().chain(also)),
                };
                self.problems.push(Problem {
                    place: Some(entry.key_place.clone()),
                    message: format!("{} has no key `{}`", self.what, entry.key),
                    label: Some("unknown key".to_owned()),
                    help,
                });
            }
        }
    }

    #[cfg(test)]
    fn assert_documented(&self) {
        let Some(documented) = self.documented else { return };
        let asked: std::collections::BTreeSet<&str> = self.known.iter().copied().collect();
        let listed: std::collections::BTreeSet<&str> = documented.names().collect();
        assert_eq!(asked, listed, "the keys that are read and those of the table {}", documented.name);
    }
}

/// The entries of `node`, or a problem when it is not a table.
fn table<'a>(what: &str, node: &'a Node, problems: &mut Problems) -> Option<&'a [Entry]> {
    match &node.value {
        Value::Table(entries) => Some(entries),
        other => {
            problems.push(Problem {
                place: Some(node.place.clone()),
                message: format!("{what} is {}", describe(other)),
                label: Some("expected a table".to_owned()),
                help: None,
            });
            None
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
    use std::path::Path;

    use super::*;

    fn document(text: &str) -> Node {
        super::super::parse(Path::new("a.toml"), text.to_owned()).unwrap_or_else(|problems| panic!("{problems:?}"))
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
