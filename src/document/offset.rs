//! From a position inside a string's value back to the position in the file, through TOML's escapes.

use std::ops::Range;

use super::{Node, Place, Value};

impl Node {
    /// The place of a byte range of this string's value. Where the two cannot be matched up, the place of
    /// the whole string.
    pub fn inside(&self, range: &Range<usize>) -> Place {
        let span = match &self.value {
            Value::String(text) => self.place.source.text.get(self.place.span.clone()).and_then(|raw| {
                let mut map = Map::new(raw, text)?;
                let start = map.raw_offset(range.start)?;
                let end = map.raw_offset(range.end.max(range.start))?;
                Some(self.place.span.start + start..self.place.span.start + end)
            }),
            _ => None,
        };
        Place { source: self.place.source.clone(), span: span.unwrap_or_else(|| self.place.span.clone()) }
    }
}

/// Walks the text as it stands in the file and the value side by side.
struct Map<'a> {
    raw: &'a str,
    value: &'a str,
    escapes: bool,
    raw_at: usize,
    value_at: usize,
}

impl<'a> Map<'a> {
    fn new(raw: &'a str, value: &'a str) -> Option<Self> {
        // The whole of a file that is not TOML: a template.
        if raw == value {
            return Some(Self { raw, value, escapes: false, raw_at: 0, value_at: 0 });
        }
        let (quotes, escapes) = ["\"\"\"", "'''", "\"", "'"]
            .into_iter()
            .find(|quotes| raw.starts_with(quotes) && raw.ends_with(quotes) && raw.len() >= 2 * quotes.len())
            .map(|quotes| (quotes.len(), quotes.starts_with('"')))?;
        let raw = raw.get(..raw.len() - quotes)?;
        let mut raw_at = quotes;
        if quotes == 3 {
            // A line break right after the opening quotes is not part of the value.
            let rest = raw.get(raw_at..)?;
            raw_at += if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
        }
        Some(Self { raw, value, escapes, raw_at, value_at: 0 })
    }

    /// The raw offset of the value's byte `wanted`, which must not lie before the last one asked for.
    fn raw_offset(&mut self, wanted: usize) -> Option<usize> {
        loop {
            self.skip_line_ending_backslash()?;
            if self.value_at >= wanted {
                return Some(self.raw_at);
            }
            let shown = self.value.get(self.value_at..)?.chars().next()?;
            let rest = self.raw.get(self.raw_at..)?;
            let written = rest.chars().next()?;
            self.raw_at += if self.escapes && written == '\\' {
                match rest.chars().nth(1)? {
                    'x' => 4,
                    'u' => 6,
                    'U' => 10,
                    _ => 2,
                }
            } else if written == shown {
                written.len_utf8()
            } else if rest.starts_with("\r\n") && shown == '\n' {
                2
            } else {
                return None;
            };
            self.value_at += shown.len_utf8();
        }
    }

    /// A backslash at the end of a line takes all white space up to the next word with it.
    fn skip_line_ending_backslash(&mut self) -> Option<()> {
        while self.escapes {
            let rest = self.raw.get(self.raw_at..)?;
            let Some(after) = rest.strip_prefix('\\') else { break };
            let blank = after.trim_start_matches([' ', '\t', '\r', '\n']);
            let skipped = after.get(..after.len() - blank.len())?;
            if !skipped.contains('\n') {
                break;
            }
            self.raw_at += 1 + skipped.len();
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn marked(text: &str, word: &str) -> String {
        let node = super::super::parse(Path::new("a.toml"), text.to_owned()).expect("valid TOML");
        let Value::Table(entries) = &node.value else { panic!("a table") };
        let node = &entries[0].node;
        let Value::String(value) = &node.value else { panic!("a string") };
        let start = value.find(word).expect("the word is in the value");
        text[node.inside(&(start..start + word.len())).span].to_owned()
    }

    #[test]
    fn a_word_of_a_string_is_found_again_in_the_file() {
        for text in [
            "a = \"one word two\"",
            "a = 'one word two'",
            "a = \"\\\"é\\\" \\u00e9 \\x41 \\U0001F600 word\"",
            "a = \"\"\"\none \\\n     word \\\n two\"\"\"",
            "a = '''\none\nword'''",
            "a = \"\"\"one\r\nword\"\"\"",
        ] {
            assert_eq!(marked(text, "word"), "word", "{text}");
        }
    }

    #[test]
    fn a_file_that_is_no_toml_maps_onto_itself() {
        let source = std::sync::Arc::new(super::super::Source { path: "a.j2".into(), text: "x = {{ y }}".to_owned() });
        let place = Place { span: 0..source.text.len(), source: source.clone() };
        let node = Node { place, value: Value::String(source.text.clone()) };
        assert_eq!(node.inside(&(7..8)).to_string(), "a.j2:1:8");
    }
}
