//! Rust text as words and signs with their lines; comments, strings and numbers are left out.

/// A word or a sign of a Rust file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A name or a keyword.
    Word(String),
    /// `::`
    Path,
    /// Any other sign.
    Sign(char),
}

/// A word or a sign, and the line it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The line, counted from 1.
    pub line: usize,
    /// What it is.
    pub kind: Kind,
}

/// Reads a whole file.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut reader = Reader { rest: text, line: 1 };
    let mut tokens = Vec::new();
    while let Some(first) = reader.rest.chars().next() {
        let line = reader.line;
        if reader.rest.starts_with("//") {
            reader.skip_to("\n");
        } else if reader.rest.starts_with("/*") {
            reader.skip_block_comment();
        } else if let Some((start, end)) = string_start(reader.rest) {
            reader.skip(start);
            reader.skip_string(&end);
        } else if first == '\'' {
            reader.skip_quote();
        } else if first.is_alphabetic() || first == '_' {
            tokens.push(Token { line, kind: Kind::Word(reader.word()) });
        } else if first.is_ascii_digit() {
            reader.word();
        } else if reader.rest.starts_with("::") {
            reader.skip(2);
            tokens.push(Token { line, kind: Kind::Path });
        } else {
            reader.skip(first.len_utf8());
            if !first.is_whitespace() {
                tokens.push(Token { line, kind: Kind::Sign(first) });
            }
        }
    }
    tokens
}

/// How long the beginning of a string literal is, and what ends it, when the text starts with one.
fn string_start(text: &str) -> Option<(usize, String)> {
    let after_prefix = ["br", "cr", "r", "b", "c", ""].iter().find_map(|prefix| {
        let rest = text.strip_prefix(prefix)?;
        let hashes = if prefix.ends_with('r') { rest.len() - rest.trim_start_matches('#').len() } else { 0 };
        rest.get(hashes..)?.starts_with('"').then_some((*prefix, hashes))
    });
    let (prefix, hashes) = after_prefix?;
    let end = format!("\"{}", "#".repeat(hashes));
    // A raw string is told by its `r`: a backslash in it means nothing, which the leading `r` of the end stands for.
    Some((prefix.len() + hashes + 1, if prefix.ends_with('r') { format!("r{end}") } else { end }))
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl Reader<'_> {
    fn skip(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line += passed.matches('\n').count();
        self.rest = rest;
    }

    fn skip_to(&mut self, mark: &str) {
        self.skip(self.rest.find(mark).unwrap_or(self.rest.len()));
    }

    fn skip_block_comment(&mut self) {
        let mut depth = 0_usize;
        loop {
            if self.rest.starts_with("/*") {
                depth += 1;
                self.skip(2);
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                self.skip(2);
            } else {
                self.skip(self.rest.chars().next().map_or(0, char::len_utf8));
            }
            if depth == 0 || self.rest.is_empty() {
                return;
            }
        }
    }

    fn skip_string(&mut self, end: &str) {
        if let Some(end) = end.strip_prefix('r') {
            self.skip_to(end);
            self.skip(end.len());
            return;
        }
        while let Some(next) = self.rest.chars().next() {
            self.skip(next.len_utf8());
            if next == '"' {
                return;
            }
            if next == '\\' {
                self.skip(self.rest.chars().next().map_or(0, char::len_utf8));
            }
        }
    }

    /// Passes a character literal, or only the sign where it begins a lifetime.
    fn skip_quote(&mut self) {
        self.skip(1);
        let mut characters = self.rest.chars();
        match characters.next() {
            Some('\\') => {
                self.skip(2);
                self.skip_to("'");
                self.skip(1);
            }
            Some(one) if characters.next() == Some('\'') => self.skip(one.len_utf8() + 1),
            _ => {}
        }
    }

    fn word(&mut self) -> String {
        let length = self.rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let word = self.rest.get(..length.unwrap_or(self.rest.len())).unwrap_or_default().to_owned();
        self.skip(word.len());
        word
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, tokens};

    fn words(text: &str) -> Vec<String> {
        tokens(text)
            .into_iter()
            .filter_map(|token| if let Kind::Word(word) = token.kind { Some(word) } else { None })
            .collect()
    }

    #[test]
    fn comments_are_left_out() {
        assert_eq!(words("a // b\nc /* d /* e */ f */ g"), ["a", "c", "g"]);
    }

    #[test]
    fn strings_are_left_out() {
        assert_eq!(words(r####"a "b \" c" d r"\" e r#"f " g"# h b"i" br##"j"# k"## l"####), ["a", "d", "e", "h", "l"]);
    }

    #[test]
    fn characters_are_told_from_lifetimes() {
        assert_eq!(words(r"a '\'' 'b' &'c d '\u{e9}' e '{' '\\' f"), ["a", "c", "d", "e", "f"]);
    }

    #[test]
    fn lines_are_counted_through_everything() {
        let last = tokens("/*\n*/ \"\n\\\n\" // x\n a").pop().unwrap();
        assert_eq!((last.line, last.kind), (5, Kind::Word("a".into())));
    }
}
