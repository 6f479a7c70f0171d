//! Turns the bytes that a host prints into lines that are safe to show: shown, never obeyed.
//!
//! Control characters, escape sequences and bidirectional controls become visible text, bytes that
//! are not UTF-8 become `\xNN`, a lone carriage return ends a line (as a terminal and the GitHub
//! runner would see it), and a line is cut at [`LONGEST_LINE`] bytes.

use bytes::Bytes;

/// The longest line that is kept whole, in bytes of input.
pub const LONGEST_LINE: usize = 16 * 1024;

/// Collects bytes of one stream and gives back whole lines.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
    /// The last byte was `\r`, so a following `\n` ends the same line.
    carriage_return: bool,
    /// The line in hand was cut; what follows up to its end is dropped.
    cut: bool,
}

impl Lines {
    /// Takes `bytes` and returns the lines that they complete.
    pub fn push(&mut self, bytes: &Bytes) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes.iter() {
            match byte {
                b'\n' if self.carriage_return => self.carriage_return = false,
                b'\n' | b'\r' => {
                    self.carriage_return = byte == b'\r';
                    if let Some(line) = self.take() {
                        lines.push(line);
                    }
                }
                _ => {
                    self.carriage_return = false;
                    if self.partial.len() < LONGEST_LINE {
                        self.partial.push(byte);
                    } else if !self.cut {
                        self.cut = true;
                    }
                }
            }
        }
        lines
    }

    /// The last line, where the stream ended without a line end.
    pub fn finish(&mut self) -> Option<String> {
        if self.partial.is_empty() { None } else { self.take() }
    }

    fn take(&mut self) -> Option<String> {
        // Programs that draw progress erase a line before they write it; here every line is a fresh one.
        let mut text = self.partial.as_slice();
        while let Some(rest) = text.strip_prefix(b"\x1b[2K").or_else(|| text.strip_prefix(b"\x1b[K")) {
            text = rest;
        }
        let mut line = visible(text);
        if std::mem::take(&mut self.cut) {
            line.push_str(" [line cut by ship]");
        }
        self.partial.clear();
        Some(line)
    }
}

/// `bytes` as text in which nothing acts on a terminal. Tabs stay; line ends become `\n` in text.
pub fn visible(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if acts_on_a_terminal(character) {
                if character.is_ascii() {
                    out.push_str(&format!("\\x{:02x}", character as u32));
                } else {
                    out.push_str(&format!("\\u{{{:x}}}", character as u32));
                }
            } else {
                out.push(character);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Control characters but the tab, bidirectional controls, zero-width characters and the line
/// separators of Unicode.
fn acts_on_a_terminal(character: char) -> bool {
    (character.is_control() && character != '\t')
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, any, proptest};

    fn lines(text: &[u8]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut all = lines.push(&Bytes::copy_from_slice(text));
        all.extend(lines.finish());
        all
    }

    #[test]
    fn escape_sequences_are_shown_not_obeyed() {
        assert_eq!(lines(b"\x1b[31mred\x07\n"), [r"\x1b[31mred\x07"]);
        assert_eq!(lines("a\u{202e}b".as_bytes()), [r"a\u{202e}b"]);
        assert_eq!(lines(b"\xff\xfe ok"), [r"\xff\xfe ok"]);
    }

    #[test]
    fn erasing_a_fresh_line_is_nothing_to_show() {
        assert_eq!(lines(b"\x1b[2K\x1b[Kbuilt\n"), ["built"]);
    }

    #[test]
    fn a_carriage_return_ends_a_line_once() {
        assert_eq!(lines(b"10%\r20%\r\ndone"), ["10%", "20%", "done"]);
        assert_eq!(lines(b"\n\n"), ["", ""]);
    }

    #[test]
    fn a_line_without_end_costs_bounded_memory() {
        let shown = lines(&vec![b'x'; 1024 * 1024]);
        assert_eq!(shown.len(), 1);
        assert!(shown.iter().all(|line| line.len() < LONGEST_LINE + 64 && line.ends_with("[line cut by ship]")));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn nothing_that_acts_on_a_terminal_comes_through(bytes in any::<Vec<u8>>(), cut in 0usize..64) {
            let cut = cut.min(bytes.len());
            let (head, tail) = bytes.split_at(cut);
            let mut reader = Lines::default();
            let mut all = reader.push(&Bytes::copy_from_slice(head));
            all.extend(reader.push(&Bytes::copy_from_slice(tail)));
            all.extend(reader.finish());
            assert!(all.iter().all(|line| !line.chars().any(acts_on_a_terminal)));
            assert_eq!(all, lines(&bytes));
        }
    }
}
