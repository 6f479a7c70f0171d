//! Paths inside a release: relative, any bytes, without `.` and `..`; and how they are written in text.

use std::fmt::Write as _;

/// Longer paths cannot be opened on Linux (PATH_MAX, with its NUL).
pub const LONGEST: usize = 4095;

/// Why `path` cannot stand in a manifest.
pub fn check(path: &[u8]) -> Result<(), &'static str> {
    if path.len() > LONGEST {
        return Err("the path is longer than 4095 bytes");
    }
    if path.contains(&0) {
        return Err("the path has a NUL");
    }
    match path.split(|byte| *byte == b'/').find(|name| matches!(*name, b"" | b"." | b"..")) {
        Some(b"..") => Err("the path leads out of the release"),
        Some(_) => Err("the path is absolute, or has empty or `.` components"),
        None => Ok(()),
    }
}

/// The folder that `path` is in; `None` at the top.
pub fn parent(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    path.get(..slash)
}

/// `name` in `folder`, which may be empty for the top.
pub fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match (folder.is_empty(), name.is_empty()) {
        (true, _) => name.to_vec(),
        (_, true) => folder.to_vec(),
        _ => [folder, b"/", name].concat(),
    }
}

/// The folders above `path` of a release, from the top down.
pub fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.filter_map(|end| path.get(..end))
}

/// `path` so that no program takes it for an option or for its standard input, and find(1) not for a part of an expression.
pub fn named(path: &[u8]) -> Vec<u8> {
    let prefix: &[u8] = if path.starts_with(b"-") || matches!(path, b"(" | b"!") { b"./" } else { b"" };
    [prefix, path].concat()
}

/// `path` on one line: control characters, bytes that are not UTF-8 and the backslash are escaped.
pub fn escape(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                text.push_str(r"\\");
            } else if c.is_control() {
                hex(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        hex(&mut text, chunk.invalid());
    }
    text
}

fn hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// What [`escape`] made `text` from, or `None` where it made no such text.
pub fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut path = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            path.push(byte);
            continue;
        }
        match bytes.next()? {
            b'\\' => path.push(b'\\'),
            b'x' => {
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                path.push(high << 4 | low);
            }
            _ => return None,
        }
    }
    Some(path)
}

/// The value of a lower-case hexadecimal digit.
pub fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_stay_in_the_release() {
        for good in [&b"a"[..], b"a/b", b"-rf", b"...", b"a\nb", b"\xff/x", b"a b"] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
        for bad in [&b""[..], b"/a", b"a/", b"a//b", b".", b"./a", b"..", b"a/../b", b"a/..", b"a\0b", &[b'a'; 4096]] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn odd_bytes_are_shown_escaped() {
        assert_eq!(escape("né \n\\\u{1b}\u{85}".as_bytes()), r"né \x0a\\\x1b\xc2\x85");
        assert_eq!(escape(b"a\xff"), r"a\xff");
    }

    proptest! {
        #[test]
        fn escaping_loses_nothing(path in prop::collection::vec(any::<u8>(), 0..64)) {
            let text = escape(&path);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(unescape(text.as_bytes()), Some(path));
        }

        #[test]
        fn unescape_takes_anything(text in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = unescape(&text);
        }
    }
}
