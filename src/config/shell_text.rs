//! Whether a value that ship quotes stands where the quotes would do harm.
//!
//! A value in shell text is inserted as one quoted word. Inside quotes of the author's own, or in a
//! here-document, ship's quotes would become part of the text.

use std::ops::Range;

use crate::config::placeholders::Tag;

/// Where a value stands that must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Between quotes.
    Quotes,
    /// In a here-document.
    HereDocument,
}

enum Inside {
    /// Where words are read; ends at this character, except inside parentheses of its own.
    Code { parentheses: usize, end: Option<char> },
    /// Between `"`.
    Double,
    /// Between `'`.
    Single,
}

/// The tags of `text` that insert a value where its quotes would do harm.
pub fn misquoted(text: &str, tags: &[Tag]) -> Vec<(Range<usize>, Where)> {
    let mut reader = Shell { text, tags, at: 0, stack: Vec::new(), pending: Vec::new(), found: Vec::new() };
    reader.read();
    reader.found
}

struct Shell<'a> {
    text: &'a str,
    tags: &'a [Tag],
    at: usize,
    /// What we are inside of; words are read at the bottom.
    stack: Vec<Inside>,
    /// The delimiters of here-documents that begin at the next line.
    pending: Vec<String>,
    found: Vec<(Range<usize>, Where)>,
}

impl Shell<'_> {
    fn read(&mut self) {
        let mut word_start = true;
        while let Some(c) = self.peek() {
            if self.tag(match self.stack.last() {
                Some(Inside::Double | Inside::Single) => Some(Where::Quotes),
                _ => None,
            }) {
                word_start = false;
                continue;
            }
            self.at += c.len_utf8();
            match self.stack.last() {
                Some(Inside::Single) => {
                    if c == '\'' {
                        self.stack.pop();
                    }
                }
                Some(Inside::Double) => self.double(c),
                _ => {
                    self.code(c, word_start);
                    word_start = c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')');
                }
            }
        }
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn starts_with(&self, prefix: &str) -> bool {
        self.text.get(self.at..).is_some_and(|rest| rest.starts_with(prefix))
    }

    /// Steps over a tag that begins here, noting it where it stands in the wrong place.
    fn tag(&mut self, wrong: Option<Where>) -> bool {
        let Some(tag) = self.tags.iter().find(|tag| tag.range.start == self.at) else { return false };
        if let Some(wrong) = wrong
            && tag.inserts
            && !tag.safe
        {
            self.found.push((tag.range.clone(), wrong));
        }
        self.at = tag.range.end;
        true
    }

    /// A backslash takes the next character with it, but no tag.
    fn escaped(&mut self) {
        if !self.tags.iter().any(|tag| tag.range.start == self.at)
            && let Some(c) = self.peek()
        {
            self.at += c.len_utf8();
        }
    }

    fn double(&mut self, c: char) {
        match c {
            '"' => {
                self.stack.pop();
            }
            '\\' => self.escaped(),
            '`' => self.stack.push(Inside::Code { parentheses: 0, end: Some('`') }),
            '$' if self.starts_with("(") => self.substitution(),
            _ => {}
        }
    }

    fn substitution(&mut self) {
        self.at += 1;
        self.stack.push(Inside::Code { parentheses: 0, end: Some(')') });
    }

    fn code(&mut self, c: char, word_start: bool) {
        match c {
            '\\' => self.escaped(),
            '\'' => self.stack.push(Inside::Single),
            '"' => self.stack.push(Inside::Double),
            '$' if self.starts_with("(") => self.substitution(),
            '#' if word_start => self.comment(),
            '<' if self.starts_with("<<") => self.at += 2,
            '<' if self.starts_with("<") => self.here_document(),
            '\n' if !self.pending.is_empty() => self.bodies(),
            '`' => match self.stack.last() {
                Some(Inside::Code { end: Some('`'), .. }) => {
                    self.stack.pop();
                }
                _ => self.stack.push(Inside::Code { parentheses: 0, end: Some('`') }),
            },
            '(' => {
                if let Some(Inside::Code { parentheses, .. }) = self.stack.last_mut() {
                    *parentheses += 1;
                }
            }
            ')' => match self.stack.last_mut() {
                Some(Inside::Code { parentheses, .. }) if *parentheses > 0 => *parentheses -= 1,
                Some(Inside::Code { end: Some(')'), .. }) => {
                    self.stack.pop();
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn comment(&mut self) {
        while let Some(c) = self.peek().filter(|c| *c != '\n') {
            if !self.tag(None) {
                self.at += c.len_utf8();
            }
        }
    }

    /// Reads the delimiter behind the first `<` of `<<`.
    fn here_document(&mut self) {
        self.at += 1;
        let rest = self.text.get(self.at..).unwrap_or("");
        let after = rest.strip_prefix('-').unwrap_or(rest).trim_start_matches([' ', '\t']);
        let word = after.split(|c: char| c.is_whitespace() || ";|&()<>".contains(c)).next().unwrap_or("");
        let delimiter: String = word.chars().filter(|c| !"'\"\\".contains(*c)).collect();
        self.at += rest.len() - after.len() + word.len();
        if !delimiter.is_empty() {
            self.pending.push(delimiter);
        }
    }

    /// Steps over the bodies of the here-documents that the last line began.
    fn bodies(&mut self) {
        for delimiter in std::mem::take(&mut self.pending) {
            loop {
                let start = self.at;
                while let Some(c) = self.peek().filter(|c| *c != '\n') {
                    if !self.tag(Some(Where::HereDocument)) {
                        self.at += c.len_utf8();
                    }
                }
                let line = self.text.get(start..self.at).unwrap_or("").trim_start_matches('\t');
                let ended = self.peek().is_none();
                if !ended {
                    self.at += 1;
                }
                if ended || line == delimiter {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::placeholders::tags;

    fn found(text: &str) -> Vec<(&str, Where)> {
        misquoted(text, &tags(text)).into_iter().map(|(range, wrong)| (&text[range], wrong)).collect()
    }

    #[test]
    fn values_between_quotes_are_found() {
        for text in [
            "echo \"{{ x }}\"",
            "echo 'a {{ x }} b'",
            "echo \"$(echo hi) {{ x }}\"",
            "echo \"a\\\" {{ x }}\"",
            "echo $(echo \"{{ x }}\")",
            "it=ok # don't\necho '{{ x }}'",
        ] {
            assert_eq!(found(text), [("{{ x }}", Where::Quotes)], "{text}");
        }
    }

    #[test]
    fn values_outside_of_quotes_are_fine() {
        for text in [
            "{{ x }}/bin/python manage.py",
            "echo \"a\" {{ x }} 'b'",
            "echo \"$(cat {{ x }})\"",
            "echo \"`cat {{ x }}`\"",
            "echo it\\'s {{ x }}",
            "echo hi # don't\necho {{ x }}",
            "echo ${a#b} {{ x }} $# {{ x }}",
            "echo '{{ x|safe }}' \"{{ units|words }}\"",
            "echo '{% if x %}a{% endif %}'",
            "(cd a; echo \"b\") && cat {{ x }}",
            "cat <<< {{ x }}",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }

    #[test]
    fn values_in_a_here_document_are_found() {
        let text = "cat > f <<'END' && echo {{ fine }}\na = {{ x }}\nEND\necho {{ fine }}\n";
        assert_eq!(found(text), [("{{ x }}", Where::HereDocument)]);
    }
}
