//! Writes a value so that Docker Compose reads back exactly it, and as many other readers as can.

use super::{LONGEST, others, read};

/// Why a value cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The name.
    #[error("the name must be made of letters, digits and `_`, and not begin with a digit")]
    Name,
    /// A NUL in the value.
    #[error("the value has a NUL, which no environment variable can hold")]
    Nul,
    /// More than the kernel gives to a program.
    #[error("the value is longer than 128 KiB, and no program can be started with such a variable")]
    TooLong,
    /// It does not come back as it was.
    #[error("no way to write the value is read back as it was")]
    Unreadable,
}

/// Characters that mean nothing to any reader.
fn is_harmless(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_./:@%+,-".contains(c)
}

/// What stands behind `key=`: the first way that Compose reads back and that the most others do.
pub(super) fn written(key: &str, value: &str) -> Result<String, Refused> {
    let named = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !named || key.is_empty() || key.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Refused::Name);
    }
    if value.contains('\0') {
        return Err(Refused::Nul);
    }
    if key.len() + 1 + value.len() > LONGEST {
        return Err(Refused::TooLong);
    }
    if value.chars().all(is_harmless) {
        return Ok(value.to_owned());
    }
    let ways = [
        format!("'{value}'"),
        double(value, &|_| true),
        // `$5` is no variable, so that it needs no backslash, which not every reader takes away.
        double(value, &|after| {
            after.starts_with(|c: char| c == '{' || c == '$' || c == '_' || c.is_ascii_alphabetic())
        }),
        format!("'{}'", value.replace('\'', "\\'")),
    ];
    let readable = ways.into_iter().filter(|way| reads_back(key, way, value));
    // min_by_key gives the first of equals.
    readable.min_by_key(|way| others::misreaders(way, value).len()).ok_or(Refused::Unreadable)
}

/// In double quotes. A line end stands as it is, which every reader takes; a carriage return would be lost by
/// those that read text.
fn double(value: &str, escape_dollar: &dyn Fn(&str) -> bool) -> String {
    let mut out = String::from("\"");
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\r' => out.push_str("\\r"),
            '$' if escape_dollar(characters.as_str()) => out.push_str("\\$"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Whether Compose reads `value`, also with another variable behind it.
fn reads_back(key: &str, way: &str, value: &str) -> bool {
    let text = format!("{key}={way}\nSHIP_NEXT='x'\n");
    read::entries(&text).is_ok_and(|entries| {
        let [own, next] = entries.as_slice() else { return false };
        let is = |entry: &super::Entry, wanted: &str| {
            !entry.refers && entry.value.as_ref().is_some_and(|value| value.expose() == wanted)
        };
        is(own, value) && is(next, "x") && !way.contains('\r')
    })
}
