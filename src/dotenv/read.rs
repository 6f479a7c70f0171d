//! Reads a settings file as Docker Compose 2 does.
//!
//! Stricter in two things that are mistakes, though Compose takes them: text after a closing quote on the same
//! line, and white space within a name.

use super::{Entry, Problem};
use crate::secret::Secret;

/// What is wrong at a byte of `text`.
pub(super) fn problem(text: &str, at: usize, what: impl Into<String>) -> Problem {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let column = before.get(start..).unwrap_or_default().chars().count() + 1;
    Problem { line: before.matches('\n').count() + 1, column, text: what.into() }
}

/// White space that separates within a line.
fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

/// `text` from `at` on.
fn rest(text: &str, at: usize) -> &str {
    text.get(at..).unwrap_or_default()
}

/// Where the first character at or after `at` is that is not `skipped`.
fn skip(text: &str, at: usize, skipped: impl Fn(char) -> bool) -> usize {
    rest(text, at).char_indices().find(|(_, c)| !skipped(*c)).map_or(text.len(), |(index, _)| at + index)
}

/// Where the line that `at` is in ends, with its line end.
fn line_end(text: &str, at: usize) -> usize {
    rest(text, at).find('\n').map_or(text.len(), |index| at + index + 1)
}

/// All variables of a file.
pub(super) fn entries(text: &str) -> Result<Vec<Entry>, Problem> {
    if let Some(at) = text.find('\0') {
        return Err(problem(text, at, "a NUL, which no variable can hold"));
    }
    let mut entries = Vec::new();
    let mut at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    loop {
        at = skip(text, at, char::is_whitespace);
        if at == text.len() {
            return Ok(entries);
        }
        if rest(text, at).starts_with('#') {
            at = line_end(text, at);
            continue;
        }
        let entry = entry(text, at)?;
        at = entry.lines.end;
        entries.push(entry);
    }
}

fn entry(text: &str, first: usize) -> Result<Entry, Problem> {
    let start = text.get(..first).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1);
    // A byte order mark is no part of the line.
    let start = if start == 0 && text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { start };
    let exported = rest(text, first).strip_prefix("export").is_some_and(|after| after.starts_with(is_blank));
    let named = if exported { skip(text, first + "export".len(), is_blank) } else { first };
    let mut end = text.len();
    let mut separator = None;
    for (index, c) in rest(text, named).char_indices() {
        match c {
            '=' | ':' | '\n' => {
                (end, separator) = (named + index, Some(c));
                break;
            }
            '_' | '.' | '-' | '[' | ']' => {}
            c if c.is_alphanumeric() || is_blank(c) => {}
            c => {
                return Err(problem(text, named + index, format!("unexpected {c:?} in the name of a variable")));
            }
        }
    }
    let key = text.get(named..end).unwrap_or_default().trim_end_matches(is_blank);
    if key.is_empty() {
        return Err(problem(text, named, "a value without a name"));
    }
    if let Some(blank) = key.find(is_blank) {
        return Err(problem(text, named + blank, "white space in the name of a variable"));
    }
    let line = problem(text, named, "").line;
    let key_end = named + key.len();
    let key = key.to_owned();
    if separator.is_none_or(|separator| separator == '\n') {
        let lines = start..line_end(text, end);
        return Ok(Entry { key, value: None, refers: false, line, lines, written: key_end..key_end });
    }
    let from = skip(text, end + 1, is_blank);
    let quote = rest(text, from).chars().next().filter(|c| matches!(c, '\'' | '"'));
    let (value, refers, to) = match quote {
        Some(quote) => {
            let (raw, to) = quoted(text, from, quote)?;
            let (value, refers) = if quote == '"' { dollars(&escapes(&raw)) } else { (raw, false) };
            (value, refers, to)
        }
        None => {
            let whole = rest(text, from).split('\n').next().unwrap_or_default();
            let kept = whole.split(" #").next().unwrap_or_default().trim_end();
            let (value, refers) = dollars(kept);
            (value, refers, from + kept.len())
        }
    };
    let lines = start..line_end(text, to);
    let behind = skip(text, to, is_blank);
    if quote.is_some() && behind < lines.end && !rest(text, behind).starts_with(['\n', '#']) {
        return Err(problem(text, behind, "text after the closing quote"));
    }
    Ok(Entry { key, value: Some(Secret::new(value)), refers, line, lines, written: from..to })
}

/// What stands between quotes, with only the quotes in it unescaped, and where it ends.
fn quoted(text: &str, from: usize, quote: char) -> Result<(String, usize), Problem> {
    let mut value = String::new();
    let mut escaped = false;
    for (index, c) in rest(text, from).char_indices().skip(1) {
        match (c == quote, escaped) {
            (true, true) => value.push(c),
            (true, false) => return Ok((value, from + index + c.len_utf8())),
            (false, false) if c == '\\' => {
                escaped = true;
                continue;
            }
            (false, true) => value.extend(['\\', c]),
            (false, false) => value.push(c),
        }
        escaped = false;
    }
    Err(problem(text, from, "the quote that opens here is not closed"))
}

/// The escapes within double quotes. `\$` becomes the `$$` that [`dollars`] reads.
fn escapes(raw: &str) -> String {
    let mut value = String::new();
    let mut characters = raw.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            value.push(c);
            continue;
        }
        let after = characters.as_str();
        let Some(next) = characters.next() else {
            value.push('\\');
            break;
        };
        match next {
            'a' => value.push('\u{7}'),
            'b' => value.push('\u{8}'),
            'f' => value.push('\u{c}'),
            'n' => value.push('\n'),
            'r' => value.push('\r'),
            't' => value.push('\t'),
            'v' => value.push('\u{b}'),
            '\\' | '"' => value.push(next),
            '$' => value.push_str("$$"),
            '0' => {
                let digits: String = after.chars().skip(1).take(3).take_while(char::is_ascii_digit).collect();
                for _ in digits.chars() {
                    characters.next();
                }
                let octal = u8::from_str_radix(&digits, 8).ok().filter(|_| digits.len() == 3);
                match octal {
                    Some(code) => value.push(char::from(code)),
                    // What is no octal number loses its 0, and stays.
                    None => value.push_str(&format!("\\{digits}")),
                }
            }
            other => value.extend(['\\', other]),
        }
    }
    value
}

/// `$$` is one `$`. The second says whether the text refers to a variable; such a text is given as it stands.
fn dollars(text: &str) -> (String, bool) {
    let mut value = String::new();
    let mut at = text;
    while let Some((before, after)) = at.split_once('$') {
        value.push_str(before);
        match after.chars().next() {
            Some('$') => {
                value.push('$');
                at = after.strip_prefix('$').unwrap_or_default();
            }
            Some(c) if c == '{' || c == '_' || c.is_ascii_alphabetic() => return (text.to_owned(), true),
            _ => {
                value.push('$');
                at = after;
            }
        }
    }
    value.push_str(at);
    (value, false)
}
