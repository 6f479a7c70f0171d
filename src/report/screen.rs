//! The terminal itself: finished lines go above, live lines stay below, and both step aside for a question.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

use super::printer::Printer;

/// A terminal with live lines at its bottom.
///
/// All live lines are the message of one indicatif bar, so that they change together. `suspend` of a bar
/// that stands alone ignores errors; `println` and `MultiProgress::suspend` panic when the terminal went
/// away, and what indicatif prints is filled with spaces to the edge.
#[derive(Clone, Debug)]
pub struct Screen(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    bar: ProgressBar,
    out: Printer,
    above: Vec<String>,
    live: String,
    holds: usize,
}

impl Screen {
    /// A screen: `out` and `target` are the same terminal.
    pub fn new(out: Printer, target: ProgressDrawTarget) -> Self {
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::with_draw_target(None, target).with_style(style).with_finish(ProgressFinish::AndClear);
        Self(Arc::new(Mutex::new(State { bar, out, above: Vec::new(), live: String::new(), holds: 0 })))
    }

    /// Keeps `lines` until the next [`Screen::draw`].
    pub fn above(&self, lines: impl IntoIterator<Item = String>) {
        self.state().above.extend(lines);
    }

    /// Shows the lines that were kept, and `live` below them in place of the live lines before.
    pub fn draw(&self, live: &[String]) {
        let mut state = self.state();
        state.live = live.join("\n");
        state.show();
    }

    /// Takes the live lines away for good.
    pub fn close(&self) {
        let mut state = self.state();
        state.live.clear();
        state.show();
        state.bar.finish_and_clear();
    }

    /// Takes the live lines away until what is returned is dropped. Lines wait meanwhile.
    pub fn hold(&self) -> Held {
        let mut state = self.state();
        state.holds += 1;
        state.bar.set_message("");
        state.bar.suspend(|| {});
        Held { _release: Some(Release(self.clone())) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A reporter that panicked left at worst a line too many on the screen.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn show(&mut self) {
        if self.holds > 0 {
            return;
        }
        if self.bar.message() != self.live {
            self.bar.set_message(self.live.clone());
        }
        if !self.above.is_empty() {
            let (out, above) = (&mut self.out, &self.above);
            self.bar.suspend(|| out.lines(above));
            self.above.clear();
        }
    }
}

/// Moves live lines out of the way of a question: a passphrase, the key of an unknown host.
///
/// Where nothing is live, it does nothing.
#[derive(Clone, Debug, Default)]
pub struct Curtain(Option<Screen>);

impl Curtain {
    /// The curtain before `screen`.
    pub(super) fn before(screen: &Screen) -> Self {
        Self(Some(screen.clone()))
    }

    /// The terminal is free for a question until what is returned is dropped.
    pub fn hold(&self) -> Held {
        self.0.as_ref().map(Screen::hold).unwrap_or(Held { _release: None })
    }
}

/// While it lives, nothing is drawn.
#[must_use = "live lines come back as soon as this is dropped"]
#[derive(Debug)]
pub struct Held {
    _release: Option<Release>,
}

#[derive(Debug)]
struct Release(Screen);

impl Drop for Release {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.holds = state.holds.saturating_sub(1);
        state.show();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::TermLike;
    use std::io::{self, Write};

    #[test]
    fn a_terminal_that_went_away_stops_nothing() {
        #[derive(Debug)]
        struct Gone;
        impl TermLike for Gone {
            fn width(&self) -> u16 {
                80
            }
            fn move_cursor_up(&self, _: usize) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn move_cursor_down(&self, _: usize) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn move_cursor_right(&self, _: usize) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn move_cursor_left(&self, _: usize) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn write_line(&self, _: &str) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn write_str(&self, _: &str) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn clear_line(&self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let target = ProgressDrawTarget::term_like(Box::new(Gone));
        let screen = Screen::new(Printer::new(Closed), target);
        drop(screen.hold());
        for text in ["one", "two"] {
            screen.above([text.to_owned()]);
            screen.draw(&[text.to_owned()]);
        }
        screen.close();
    }
}
