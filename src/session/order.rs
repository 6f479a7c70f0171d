//! Puts what came on standard output and standard error, each with its own markers, into one order.
//!
//! The two streams travel independently, so one may already be in the next command while the other is
//! still in this one. A command has ended when both have said so; only then does the next one begin.

use std::collections::VecDeque;

use bytes::Bytes;

use super::marker::{Mark, Nonce, Piece, Reader};
use super::{Lost, Reply, Status};
use crate::event::Stream;

/// How much of what came before the first marker is kept, for an error message.
const NOISE: usize = 400;

/// One stream.
#[derive(Debug)]
struct Lane {
    stream: Stream,
    reader: Reader,
    waiting: VecDeque<Piece>,
    /// The current command's start was seen.
    started: bool,
    /// The current command's status, once its end was seen.
    ended: Option<i32>,
}

/// Both streams of a shell, from its first byte to its last.
#[derive(Debug)]
pub(super) struct Streams {
    lanes: [Lane; 2],
    /// The command that runs or is about to.
    current: usize,
    process: Option<u32>,
    /// How often the shell has said who it is: once when it began and once after each batch.
    introductions: usize,
    /// Output outside of commands: the greeting of a login shell, or of what a command left running.
    noise: Vec<u8>,
}

impl Streams {
    /// The streams of a shell whose markers carry `nonce`.
    pub(super) fn new(nonce: &Nonce) -> Self {
        Self::of(|| Reader::new(nonce))
    }

    /// The streams of a shell that says its first nonce behind `greeting`, and has that of `nonce` later.
    pub(super) fn greeted(greeting: &Nonce, nonce: &Nonce) -> Self {
        Self::of(|| Reader::greeted(greeting, nonce))
    }

    fn of(reader: impl Fn() -> Reader) -> Self {
        let lane = |stream| Lane { stream, reader: reader(), waiting: VecDeque::new(), started: false, ended: None };
        Self {
            lanes: [lane(Stream::Stdout), lane(Stream::Stderr)],
            current: 0,
            process: None,
            introductions: 0,
            noise: Vec::new(),
        }
    }

    /// Expects the markers of a new batch, which counts its commands from 0.
    pub(super) fn begin(&mut self) {
        self.current = 0;
        for lane in &mut self.lanes {
            lane.started = false;
            lane.ended = None;
        }
    }

    /// The process that the shell named in its last marker of that kind.
    pub(super) fn process(&self) -> Option<u32> {
        self.process
    }

    /// How often the shell has said who it is: once when it began and once after each batch.
    pub(super) fn introductions(&self) -> usize {
        self.introductions
    }

    /// The last of what was printed outside of commands.
    pub(super) fn noise(&self) -> &[u8] {
        &self.noise
    }

    /// The command that has begun and has not ended.
    pub(super) fn running(&self) -> Option<usize> {
        self.lanes.iter().any(|lane| lane.started).then_some(self.current)
    }

    /// Takes the next `bytes` of `stream` and gives what is certain by now, in order.
    pub(super) fn push(&mut self, stream: Stream, bytes: Bytes) -> Result<Vec<Reply>, Lost> {
        for lane in &mut self.lanes {
            if lane.stream == stream {
                lane.waiting.extend(lane.reader.push(bytes)?);
                break;
            }
        }
        let mut replies = Vec::new();
        loop {
            for at in 0..self.lanes.len() {
                self.take(at, &mut replies);
            }
            let [Some(status), Some(_)] = self.lanes.each_ref().map(|lane| lane.ended) else { return Ok(replies) };
            replies.push(Reply::Ended { index: self.current, status: Status::Exited(status) });
            self.current += 1;
            for lane in &mut self.lanes {
                lane.started = false;
                lane.ended = None;
            }
        }
    }

    /// What was held back as a possible marker when the streams ended.
    pub(super) fn finish(&mut self) -> Vec<Reply> {
        let index = self.current;
        let mut replies = Vec::new();
        for lane in &mut self.lanes {
            if let (Some(bytes), true) = (lane.reader.finish(), lane.started) {
                replies.push(Reply::Output { index, stream: lane.stream, bytes });
            }
        }
        replies
    }

    /// Takes from one lane everything up to the end of the current command.
    fn take(&mut self, at: usize, replies: &mut Vec<Reply>) {
        let index = self.current;
        let announced = self.running().is_some();
        let Some(lane) = self.lanes.get_mut(at) else { return };
        while lane.ended.is_none() {
            match lane.waiting.pop_front() {
                Some(Piece::Mark(Mark::Process(id))) => {
                    self.process = Some(id);
                    self.introductions += 1;
                }
                Some(Piece::Mark(Mark::Started(_))) => {
                    lane.started = true;
                    if !announced {
                        replies.push(Reply::Started { index });
                    }
                }
                Some(Piece::Mark(Mark::Ended(_, status))) => lane.ended = Some(status),
                Some(Piece::Bytes(bytes)) if lane.started => {
                    replies.push(Reply::Output { index, stream: lane.stream, bytes });
                }
                Some(Piece::Bytes(bytes)) => {
                    self.noise.extend_from_slice(&bytes);
                    let surplus = self.noise.len().saturating_sub(NOISE);
                    self.noise.drain(..surplus);
                }
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Markers as the shell's `printf` would print them.
    fn mark(nonce: &Nonce, letter: char, numbers: &[i64]) -> String {
        let mut text = nonce.format(letter, numbers.len());
        text = text.trim_matches('\'').replace(r"\036", "\u{1e}").replace(r"\n", "\n");
        for number in numbers {
            text = text.replacen("%s", &number.to_string(), 1);
        }
        text
    }

    fn out(index: usize, stream: Stream, text: &'static str) -> Reply {
        Reply::Output { index, stream, bytes: text.into() }
    }

    #[test]
    fn a_stream_that_runs_ahead_waits_for_the_other() {
        let nonce = Nonce::new().unwrap();
        let mut streams = Streams::new(&nonce);
        let noise = format!("Welcome!\n{}", mark(&nonce, 'p', &[77]));
        assert_eq!(streams.push(Stream::Stdout, noise.into()).unwrap(), []);
        assert_eq!((streams.process(), streams.noise()), (Some(77), b"Welcome!\n".as_slice()));

        let ahead = [
            mark(&nonce, 's', &[0]),
            "a".into(),
            mark(&nonce, 'e', &[0, 0]),
            "left over".into(),
            mark(&nonce, 's', &[1]),
            "b".into(),
        ];
        let replies = streams.push(Stream::Stdout, ahead.concat().into()).unwrap();
        assert_eq!(replies, [Reply::Started { index: 0 }, out(0, Stream::Stdout, "a")]);
        assert_eq!(streams.running(), Some(0));

        let behind = [mark(&nonce, 's', &[0]), "oops".into(), mark(&nonce, 'e', &[0, 0])];
        let replies = streams.push(Stream::Stderr, behind.concat().into()).unwrap();
        assert_eq!(
            replies,
            [
                out(0, Stream::Stderr, "oops"),
                Reply::Ended { index: 0, status: Status::Exited(0) },
                Reply::Started { index: 1 },
                out(1, Stream::Stdout, "b"),
            ]
        );
        assert_eq!(streams.noise(), b"Welcome!\nleft over");
    }
}
