//! Finds the markers that the host's shell prints between the outputs of commands, in any chunking.
//!
//! A marker is the byte 0x1e, a random nonce of 128 bits, a letter, one or two numbers and a line end.
//! Output cannot forge it, because the nonce travels on the shell's standard input and is new for each
//! shell. A shell whose first commands travel as arguments, which others may see, makes a nonce for these by itself
//! and says it before the first of them. Everything that is not a marker comes through byte for byte.

use bytes::{Bytes, BytesMut};

use super::Lost;

/// The byte that begins a marker: ASCII's record separator, which ordinary output does not hold, so
/// that output is hardly ever held back.
const BEGIN: u8 = 0x1e;

/// The longest that can follow the nonce: a letter, two numbers, blanks and the line end.
const LONGEST_REST: usize = 64;

/// What the shell says between outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// A process is there, with this id on its host.
    Process(u32),
    /// The command at this index began.
    Started(usize),
    /// The command at this index ended, with this status.
    Ended(usize, i32),
}

/// A part of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Output, as it came.
    Bytes(Bytes),
    /// A marker.
    Mark(Mark),
}

/// The random part of the markers of one shell.
#[derive(Clone, Debug)]
pub(super) struct Nonce(String);

impl Nonce {
    /// 128 bits from the operating system, in hexadecimal.
    pub(super) fn new() -> Result<Self, Lost> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .map_err(|error| Lost { reason: format!("this machine has no random numbers: {error}") })?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The format for the shell's `printf`: `letter`, then as many words as `numbers` counts.
    pub(super) fn format(&self, letter: char, numbers: usize) -> String {
        format!(r"'\036{} {letter}{}\n'", self.0, " %s".repeat(numbers))
    }

    /// The nonce itself.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// A nonce that a shell made, where it looks like one.
    fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let is_random = text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        is_random.then(|| Self(text.to_owned()))
    }

    fn prefix(&self) -> Vec<u8> {
        let mut prefix = vec![BEGIN];
        prefix.extend_from_slice(self.0.as_bytes());
        prefix.push(b' ');
        prefix
    }
}

/// Reads one stream.
#[derive(Debug)]
pub(super) struct Reader {
    prefixes: Vec<Vec<u8>>,
    /// Of the shell's own nonce, which it says behind this.
    hello: Option<Vec<u8>>,
    /// The end of the stream so far, where it may be the beginning of a marker.
    held: Bytes,
}

impl Reader {
    /// A reader for the markers of `nonce`.
    pub(super) fn new(nonce: &Nonce) -> Self {
        Self { prefixes: vec![nonce.prefix()], hello: None, held: Bytes::new() }
    }

    /// A reader for the markers of a nonce that the shell says behind `greeting`, and later those of `nonce`.
    pub(super) fn greeted(greeting: &Nonce, nonce: &Nonce) -> Self {
        Self { hello: Some(greeting.prefix()), ..Self::new(nonce) }
    }

    /// Takes the next `chunk` and gives the pieces that it completes. A marker that cannot be read
    /// means that the shell is not the one that was started.
    pub(super) fn push(&mut self, chunk: Bytes) -> Result<Vec<Piece>, Lost> {
        let mut rest = if self.held.is_empty() {
            chunk
        } else {
            let mut joined = BytesMut::from(&std::mem::take(&mut self.held)[..]);
            joined.extend_from_slice(&chunk);
            joined.freeze()
        };
        let mut pieces = Vec::new();
        let mut searched = 0;
        while let Some(at) = rest.iter().skip(searched).position(|byte| *byte == BEGIN).map(|found| found + searched) {
            let candidate = rest.slice(at..);
            let known = || self.prefixes.iter().chain(&self.hello);
            let prefix = known().find(|prefix| candidate.starts_with(prefix)).cloned();
            if let Some(after) = prefix.as_ref().and_then(|prefix| candidate.strip_prefix(prefix.as_slice())) {
                let Some(length) = after.iter().take(LONGEST_REST).position(|byte| *byte == b'\n') else {
                    if after.len() >= LONGEST_REST {
                        return Err(garbled());
                    }
                    self.held = candidate;
                    rest.truncate(at);
                    break;
                };
                let text = after.get(..length).unwrap_or_default();
                if at > 0 {
                    pieces.push(Piece::Bytes(rest.slice(..at)));
                }
                if prefix == self.hello {
                    let own = text.strip_prefix(b"h ").and_then(Nonce::read).ok_or_else(garbled)?;
                    self.prefixes.push(own.prefix());
                    self.hello = None;
                } else {
                    pieces.push(Piece::Mark(read_mark(text).ok_or_else(garbled)?));
                }
                let skipped = candidate.len() - after.len();
                rest = rest.slice(at + skipped + length + 1..);
                searched = 0;
            } else if known().any(|prefix| prefix.starts_with(&candidate)) {
                self.held = candidate;
                rest.truncate(at);
                break;
            } else {
                searched = at + 1;
            }
        }
        if !rest.is_empty() {
            pieces.push(Piece::Bytes(rest));
        }
        Ok(pieces)
    }

    /// What was held back when the stream ended.
    pub(super) fn finish(&mut self) -> Option<Bytes> {
        let held = std::mem::take(&mut self.held);
        (!held.is_empty()).then_some(held)
    }
}

fn read_mark(text: &[u8]) -> Option<Mark> {
    let mut words = std::str::from_utf8(text).ok()?.split(' ');
    let mark = match words.next()? {
        "p" => Mark::Process(words.next()?.parse().ok()?),
        "s" => Mark::Started(words.next()?.parse().ok()?),
        "e" => Mark::Ended(words.next()?.parse().ok()?, words.next()?.parse().ok()?),
        _ => return None,
    };
    words.next().is_none().then_some(mark)
}

fn garbled() -> Lost {
    Lost { reason: "the host's shell answered with a marker that cannot be read".to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};

    use super::*;

    fn nonce() -> Nonce {
        Nonce("00112233445566778899aabbccddeeff".to_owned())
    }

    fn joined(pieces: Vec<Piece>) -> Vec<Piece> {
        let mut out: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (out.last_mut(), piece) {
                (Some(Piece::Bytes(last)), Piece::Bytes(more)) => {
                    *last = [last.as_ref(), more.as_ref()].concat().into()
                }
                (_, piece) => out.push(piece),
            }
        }
        out
    }

    fn read(stream: &[u8], cuts: &[usize]) -> Vec<Piece> {
        let mut reader = Reader::new(&nonce());
        let mut pieces = Vec::new();
        let mut rest = stream;
        for cut in cuts {
            let (head, tail) = rest.split_at((*cut).min(rest.len()));
            pieces.extend(reader.push(Bytes::copy_from_slice(head)).unwrap());
            rest = tail;
        }
        pieces.extend(reader.push(Bytes::copy_from_slice(rest)).unwrap());
        pieces.extend(reader.finish().map(Piece::Bytes));
        joined(pieces)
    }

    fn printed(mark: Mark) -> Vec<u8> {
        let text = match mark {
            Mark::Process(id) => format!("p {id}\n"),
            Mark::Started(index) => format!("s {index}\n"),
            Mark::Ended(index, status) => format!("e {index} {status}\n"),
        };
        [nonce().prefix(), text.into_bytes()].concat()
    }

    #[test]
    fn a_marker_is_found_behind_output_without_a_line_end() {
        let stream = [b"no line end".to_vec(), printed(Mark::Ended(3, 143)), b"more".to_vec()].concat();
        assert_eq!(
            read(&stream, &[]),
            [Piece::Bytes("no line end".into()), Piece::Mark(Mark::Ended(3, 143)), Piece::Bytes("more".into())]
        );
    }

    #[test]
    fn a_shells_own_nonce_counts_once_it_has_said_it() {
        let greeting = Nonce("ffffffffffffffffffffffffffffffff".to_owned());
        let own = Nonce("6b1f6b0c-5f63-4d6c-9a55-7f8b8b8b8b8b".to_owned());
        let mark = |nonce: &Nonce, text: &str| [nonce.prefix(), text.as_bytes().to_vec()].concat();
        let early = mark(&own, "s 0\n");
        let hello = mark(&greeting, &format!("h {}\n", own.text()));
        // What could see the greeting in an argument can say it again, and nobody believes it.
        let again = mark(&greeting, "e 0 0\n");
        let stream = [early.clone(), hello, mark(&own, "s 0\n"), again.clone(), mark(&nonce(), "p 7\n")].concat();
        let mut reader = Reader::greeted(&greeting, &nonce());
        let pieces: Vec<Piece> =
            stream.iter().flat_map(|byte| reader.push(Bytes::copy_from_slice(&[*byte])).unwrap()).collect();
        assert_eq!(
            joined(pieces),
            [
                Piece::Bytes(early.into()),
                Piece::Mark(Mark::Started(0)),
                Piece::Bytes(again.into()),
                Piece::Mark(Mark::Process(7))
            ]
        );
        let forged = mark(&greeting, "e 0 0\n");
        assert!(Reader::greeted(&greeting, &nonce()).push(forged.into()).is_err());
    }

    #[test]
    fn another_shells_marker_is_output() {
        let foreign = b"\x1e11112233445566778899aabbccddeeff e 0 0\n".to_vec();
        assert_eq!(read(&foreign, &[5]), [Piece::Bytes(foreign.clone().into())]);
    }

    #[test]
    fn a_marker_that_says_nothing_known_is_an_error() {
        for text in ["x 1\n", "e 1\n", "s 1 2\n", "s one\n", &"9".repeat(80)] {
            let stream = [nonce().prefix(), text.as_bytes().to_vec()].concat();
            assert!(Reader::new(&nonce()).push(stream.into()).is_err(), "{text}");
        }
    }

    fn any_piece() -> impl Strategy<Value = Piece> {
        prop_oneof![
            vec(prop_oneof![any::<u8>(), proptest::strategy::Just(BEGIN), proptest::strategy::Just(b'0')], 1..40)
                .prop_map(|bytes| Piece::Bytes(bytes.into())),
            (1usize..30).prop_map(|length| Piece::Bytes(nonce().prefix()[..length].to_vec().into())),
            (any::<u16>(), any::<u8>())
                .prop_map(|(index, status)| Piece::Mark(Mark::Ended(index.into(), status.into()))),
            any::<u16>().prop_map(|index| Piece::Mark(Mark::Started(index.into()))),
            any::<u32>().prop_map(|id| Piece::Mark(Mark::Process(id))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn every_byte_and_every_marker_comes_through_in_any_chunking(
            pieces in vec(any_piece(), 0..12),
            cuts in vec(0usize..50, 0..20),
        ) {
            let stream: Vec<u8> = pieces.iter().flat_map(|piece| match piece {
                Piece::Bytes(bytes) => bytes.to_vec(),
                Piece::Mark(mark) => printed(*mark),
            }).collect();
            assert_eq!(read(&stream, &cuts), joined(pieces));
        }
    }
}
