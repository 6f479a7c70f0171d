//! Compression of a stream, piece by piece, only while the stream waits for its link anyway.
//!
//! Every chunk becomes a frame (zstd) or member (gzip) of its own, compressed or stored: the host's `zstd -d` or
//! `gzip -d` reads any row of them alike, so each chunk is decided by itself. Deliberately absent: whether the host is
//! to have a decoder in its pipe at all (`execute`, by the link's measured speed).

use std::io::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// How a stream is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    #[default]
    Plain,
    /// Frames of zstd.
    Zstd,
    /// Members of gzip.
    Gzip,
}

impl Coding {
    /// The best that a host with these programs can read.
    pub fn best(has: impl Fn(&str) -> bool) -> Self {
        if has("zstd") {
            Self::Zstd
        } else if has("gzip") {
            Self::Gzip
        } else {
            Self::Plain
        }
    }

    /// What on the host makes the stream again.
    pub fn decoder(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Zstd => Some("zstd -dcq"),
            Self::Gzip => Some("gzip -dc"),
        }
    }
}

/// How long a stream may compress before it has waited for its link at all.
const ADVANCE: Duration = Duration::from_millis(20);

/// Above this part of its size, in percent, a chunk counts as compressed already.
const POOR: usize = 90;

/// The most chunks that are stored without a try after one that did not get smaller.
const LONGEST_REST: u32 = 64;

/// The level of zstd: its own default.
const LEVEL: i32 = 3;

/// Turns chunks into what is sent.
pub struct Coder {
    coding: Coding,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    /// Spent in compressing.
    busy: Duration,
    /// Spent waiting for the link.
    waited: Duration,
    /// Chunks still to be stored without a try.
    rest: u32,
    /// How many that were the last time.
    rested: u32,
}

impl Coder {
    /// A coder at the beginning of a stream.
    pub fn new(coding: Coding) -> Self {
        let zstd = (coding == Coding::Zstd).then(|| zstd::bulk::Compressor::new(LEVEL).ok()).flatten();
        Self { coding, zstd, busy: Duration::ZERO, waited: Duration::ZERO, rest: 0, rested: 0 }
    }

    /// The stream has waited for its link.
    pub fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// What is sent for `chunk`.
    pub fn code(&mut self, chunk: Vec<u8>) -> Bytes {
        if self.coding == Coding::Plain {
            return chunk.into();
        }
        if self.rest > 0 {
            self.rest -= 1;
        } else if self.busy <= self.waited + ADVANCE {
            let began = Instant::now();
            let packed = self.pack(&chunk);
            self.busy += began.elapsed();
            match packed {
                Some(packed) if packed.len() * 100 <= chunk.len() * POOR => {
                    self.rested = 0;
                    return packed.into();
                }
                _ => {
                    self.rested = (self.rested * 2 + 1).min(LONGEST_REST);
                    self.rest = self.rested;
                }
            }
        }
        self.store(&chunk)
    }

    fn pack(&mut self, chunk: &[u8]) -> Option<Vec<u8>> {
        match self.coding {
            Coding::Plain => None,
            Coding::Zstd => self.zstd.as_mut()?.compress(chunk).ok(),
            Coding::Gzip => gzip(chunk, flate2::Compression::fast()),
        }
    }

    fn store(&self, chunk: &[u8]) -> Bytes {
        match self.coding {
            Coding::Plain => Bytes::copy_from_slice(chunk),
            Coding::Zstd => stored_frame(chunk).into(),
            // Writing to memory cannot fail.
            Coding::Gzip => gzip(chunk, flate2::Compression::none()).unwrap_or_default().into(),
        }
    }
}

fn gzip(chunk: &[u8], level: flate2::Compression) -> Option<Vec<u8>> {
    let mut writer = flate2::write::GzEncoder::new(Vec::with_capacity(chunk.len() / 2), level);
    writer.write_all(chunk).ok()?;
    writer.finish().ok()
}

/// A zstd frame that holds `chunk` as it is (RFC 8878, 3.1.1): a single segment of raw blocks.
fn stored_frame(chunk: &[u8]) -> Vec<u8> {
    const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
    /// Single segment, its size in four bytes, no checksum.
    const DESCRIPTOR: u8 = 0b1010_0000;
    const BLOCK: usize = 128 * 1024;
    let mut frame = Vec::with_capacity(chunk.len() + 32);
    frame.extend_from_slice(&MAGIC);
    frame.push(DESCRIPTOR);
    frame.extend_from_slice(&u32::try_from(chunk.len()).unwrap_or(u32::MAX).to_le_bytes());
    let mut blocks = chunk.chunks(BLOCK).peekable();
    while let Some(block) = blocks.next() {
        let last = u32::from(blocks.peek().is_none());
        let header = u32::try_from(block.len()).unwrap_or(0) << 3 | last;
        frame.extend(header.to_le_bytes().into_iter().take(3));
        frame.extend_from_slice(block);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::super::chunk::tests::noise;
    use super::*;
    use std::process::{Command, Stdio};

    /// What the host's program makes of it.
    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let Some(program) = coding.decoder() else { return bytes.to_vec() };
        let mut child =
            Command::new("sh").args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let bytes = bytes.to_vec();
        let writing = std::thread::spawn(move || input.write_all(&bytes).unwrap());
        let output = child.wait_with_output().unwrap();
        writing.join().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    #[test]
    fn the_programs_of_hosts_read_every_row_of_chunks() {
        let text = b"the same again, ".repeat(20_000);
        let chunks = [text.clone(), noise(1, 300_000), vec![7], text, noise(2, 128 * 1024), noise(3, 5)];
        for coding in [Coding::Plain, Coding::Zstd, Coding::Gzip] {
            let mut coder = Coder::new(coding);
            let mut sent = Vec::new();
            for chunk in chunks.clone() {
                coder.waited(Duration::from_secs(1));
                sent.extend_from_slice(&coder.code(chunk));
            }
            assert!(decoded(coding, &sent) == chunks.concat(), "{coding:?}");
            let whole = chunks.concat().len();
            let spared = if coding == Coding::Plain { 0 } else { 300_000 };
            assert!(sent.len() + spared <= whole, "{coding:?}: {} of {whole}", sent.len());
        }
    }

    #[test]
    fn what_does_not_get_smaller_is_left_alone_more_and_more() {
        let mut coder = Coder::new(Coding::Zstd);
        coder.waited(Duration::from_secs(3600));
        let mut rests = Vec::new();
        for seed in 0..40 {
            coder.code(noise(seed, 10_000));
            rests.push(coder.rest);
        }
        assert_eq!(rests[..7], [1, 0, 3, 2, 1, 0, 7]);
        // Text after that is tried in its turn, and then at once.
        while coder.rest > 0 {
            coder.code(noise(9, 10_000));
        }
        assert!(coder.code(vec![0; 10_000]).len() < 1000);
        assert!(coder.code(vec![0; 10_000]).len() < 1000);
    }

    #[test]
    fn who_never_waits_does_not_compress_for_long() {
        let mut coder = Coder::new(Coding::Zstd);
        coder.busy = ADVANCE + Duration::from_millis(1);
        assert!(coder.code(vec![0; 10_000]).len() > 10_000);
        coder.waited(Duration::from_millis(2));
        assert!(coder.code(vec![0; 10_000]).len() < 1000);
    }

    #[test]
    fn hosts_are_sent_what_they_can_read() {
        assert_eq!(Coding::best(|_| true), Coding::Zstd);
        assert_eq!(Coding::best(|program| program == "gzip"), Coding::Gzip);
        assert_eq!(Coding::best(|_| false), Coding::Plain);
    }
}
