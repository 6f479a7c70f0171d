//! Tells people and programs what happens: hears events, and is the only room that prints.
//!
//! | file | tells |
//! |---|---|
//! | `terminal` | a person at a terminal: a line per host while it works, a line per step when it is done |
//! | `plain` | a log: one line per fact, with time and host |
//! | `github` | the log, annotations and job summary of GitHub Actions |
//! | `json` | programs: one event a line |
//! | `transcript` | whoever asks later: everything, in a file under `.ship/log/` |
//!
//! They share `narrative` (an event as lines in words), `ending` (the table and the verdict), `table`,
//! `text` and `paint`. Deliberately absent: what to do about anything. A reporter hears events and
//! answers nothing, so adding one is one file here and one arm in [`reporters`].

use std::fmt::Debug;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::event::{Event, Stamped, VERSION, millis};

mod assemble;
mod board;
mod docs;
mod ending;
mod github;
#[cfg(test)]
mod github_tests;
mod json;
mod narrative;
mod paint;
mod plain;
mod printer;
#[cfg(test)]
mod rehearsal;
mod rows;
mod screen;
mod summary;
mod table;
mod terminal;
#[cfg(test)]
mod terminal_tests;
pub mod text;
mod transcript;
mod workflow;

pub use assemble::{Reporters, Wanted, reporters};
pub use docs::docs;
pub use paint::{Paint, Tone};
pub use printer::{Printer, print_stderr, print_stdout, terminal_size};
pub use screen::{Curtain, Held};
pub use table::{Cell, Table};
pub use transcript::{Transcript, TranscriptOf};

/// Tells what happens, event by event.
///
/// In texts of several lines (advice, hints, warnings), a line that begins with a space is kept whole, so
/// that a command or a key can be copied.
pub trait Reporter: Send + Debug {
    /// Something happened.
    fn event(&mut self, stamped: &Stamped);

    /// Time passed: `at_millis` since the run began. Only what moves needs it.
    fn tick(&mut self, _at_millis: u64) {}

    /// Something that it could not do and that the others should tell: said once.
    fn complaint(&mut self) -> Option<String> {
        None
    }

    /// Nothing more will happen.
    fn finish(&mut self);
}

/// What the user asked for with `--output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// What suits the place: a terminal, GitHub Actions, or a log.
    #[default]
    Auto,
    /// One line per fact, with time and host.
    Plain,
    /// One event a line, for programs.
    Json,
    /// The log, annotations and job summary of GitHub Actions.
    Github,
}

/// What is used in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Live lines on a terminal.
    Terminal,
    /// One line per fact.
    Plain,
    /// One event a line.
    Json,
    /// GitHub Actions.
    Github,
}

/// Decides what `format` comes to. `is_terminal` means that standard output *and* standard error are
/// terminals that can do more than `TERM=dumb`; `github_actions` that the GitHub runner reads the log.
pub fn choose(format: Format, is_terminal: bool, github_actions: bool) -> Look {
    match format {
        Format::Plain => Look::Plain,
        Format::Json => Look::Json,
        Format::Github => Look::Github,
        Format::Auto if is_terminal => Look::Terminal,
        Format::Auto if github_actions => Look::Github,
        Format::Auto => Look::Plain,
    }
}

/// How it should look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Whether to colour; `NO_COLOR` and `--no-color` are heeded where this is made.
    pub color: bool,
    /// Whether signs beyond ASCII can be shown.
    pub unicode: bool,
    /// The width of the terminal; `None` where there is none, and nothing is cut or wrapped.
    pub terminal_width: Option<u16>,
    /// Only failures, warnings and the end.
    pub quiet: bool,
    /// How much more to show: from 1, what commands print.
    pub verbose: u8,
    /// Where the transcript can be read, to be named where something went wrong.
    pub transcript: Option<String>,
}

/// Tells the time; `main` gives the real one.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The time of day.
    pub now: fn() -> jiff::Timestamp,
    /// A time that never jumps.
    pub monotonic: fn() -> Instant,
}

/// How often live lines move.
const TICK: Duration = Duration::from_millis(100);

/// Hands every event to every reporter, stamped, until the run's last event or until nobody can send.
///
/// Writing blocks while a terminal is stopped with Ctrl-S, so this deserves a thread of its own
/// (`spawn_blocking` with a runtime handle, or a multi-threaded runtime with a thread to spare).
pub async fn listen(mut receiver: mpsc::Receiver<Event>, mut reporters: Vec<Box<dyn Reporter>>, clock: Clock) {
    let mut stamp = Stamp { clock, began: (clock.monotonic)(), next: 0 };
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            event = receiver.recv() => {
                let Some(event) = event else { break };
                let last = matches!(event, Event::RunFinished { .. });
                if last {
                    complain(&mut reporters, &mut stamp);
                }
                tell(&mut reporters, &stamp.put_on(event));
                if last {
                    break;
                }
                complain(&mut reporters, &mut stamp);
            }
            _ = ticks.tick() => {
                let at_millis = stamp.at_millis();
                reporters.iter_mut().for_each(|reporter| reporter.tick(at_millis));
            }
        }
    }
    reporters.iter_mut().for_each(|reporter| reporter.finish());
}

/// Tells what one reporter could not do through all of them. Not after the last event, which is the last.
fn complain(reporters: &mut [Box<dyn Reporter>], stamp: &mut Stamp) {
    let complaints: Vec<String> = reporters.iter_mut().filter_map(|reporter| reporter.complaint()).collect();
    for text in complaints {
        tell(reporters, &stamp.put_on(Event::Warning { host: None, text }));
    }
}

fn tell(reporters: &mut [Box<dyn Reporter>], stamped: &Stamped) {
    reporters.iter_mut().for_each(|reporter| reporter.event(stamped));
}

/// Numbers and dates events.
struct Stamp {
    clock: Clock,
    began: Instant,
    next: u64,
}

impl Stamp {
    fn at_millis(&self) -> u64 {
        let passed = (self.clock.monotonic)().saturating_duration_since(self.began);
        millis(passed)
    }

    fn put_on(&mut self, event: Event) -> Stamped {
        let seq = self.next;
        self.next += 1;
        Stamped { v: VERSION, seq, time: format!("{:.3}", (self.clock.now)()), at_millis: self.at_millis(), event }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn the_place_decides_only_where_the_user_did_not() {
        assert_eq!(choose(Format::Auto, true, false), Look::Terminal);
        assert_eq!(choose(Format::Auto, false, true), Look::Github);
        assert_eq!(choose(Format::Auto, false, false), Look::Plain);
        assert_eq!(choose(Format::Json, true, true), Look::Json);
        assert_eq!(choose(Format::Plain, true, true), Look::Plain);
        assert_eq!(choose(Format::Github, false, false), Look::Github);
    }

    #[derive(Clone, Debug, Default)]
    struct Recorder {
        heard: Arc<Mutex<Vec<String>>>,
        complaint: Option<String>,
    }

    impl Reporter for Recorder {
        fn event(&mut self, stamped: &Stamped) {
            let text = match &stamped.event {
                Event::Notice { text, .. } | Event::Warning { text, .. } => text.clone(),
                _ => "end".to_owned(),
            };
            self.heard.lock().unwrap().push(format!("{} {} {text}", stamped.seq, stamped.time));
        }
        fn complaint(&mut self) -> Option<String> {
            self.complaint.take()
        }
        fn finish(&mut self) {
            self.heard.lock().unwrap().push("finish".to_owned());
        }
    }

    #[tokio::test]
    async fn events_are_numbered_complaints_shared_and_nothing_follows_the_end() {
        let recorder = Recorder::default();
        let complaining = Recorder { complaint: Some("disk full".to_owned()), ..Recorder::default() };
        let clock = Clock { now: || jiff::Timestamp::UNIX_EPOCH, monotonic: Instant::now };
        let (sender, receiver) = mpsc::channel(8);
        let notice = |text: &str| Event::Notice { host: None, text: text.to_owned() };
        sender.send(notice("one")).await.unwrap();
        sender.send(crate::report::rehearsal::nothing_done()).await.unwrap();
        sender.send(notice("too late")).await.unwrap();
        listen(receiver, vec![Box::new(recorder.clone()), Box::new(complaining)], clock).await;
        assert_eq!(
            *recorder.heard.lock().unwrap(),
            [
                "0 1970-01-01T00:00:00.000Z one",
                "1 1970-01-01T00:00:00.000Z disk full",
                "2 1970-01-01T00:00:00.000Z end",
                "finish"
            ]
        );
    }
}
