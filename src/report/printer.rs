//! The only file that opens standard output and error: text goes out whole, and a reader that went away
//! is no error.

use std::fmt;
use std::io::{self, Write};

use super::workflow;

/// Writes text to one handle. After the first error it is silent, so that a closed pipe, a full disk or
/// a terminal that went away never stops a deploy.
pub struct Printer {
    handle: Box<dyn Write + Send>,
    failed: Option<io::ErrorKind>,
    neutral: bool,
}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Printer").field("failed", &self.failed).field("neutral", &self.neutral).finish_non_exhaustive()
    }
}

impl Printer {
    /// A printer to `handle`.
    pub fn new(handle: impl Write + Send + 'static) -> Self {
        Self { handle: Box::new(handle), failed: None, neutral: false }
    }

    /// A printer to standard output.
    pub fn stdout() -> Self {
        Self::new(io::stdout())
    }

    /// A printer to standard error.
    pub fn stderr() -> Self {
        Self::new(io::stderr())
    }

    /// With `yes`, no line that it prints is a command to a CI that reads along.
    #[must_use]
    pub fn neutral(mut self, yes: bool) -> Self {
        self.neutral = yes;
        self
    }

    /// Prints `text` as it is, line ends and all.
    pub fn text(&mut self, text: &str) {
        if self.neutral { self.write(&workflow::neutralise_text(text)) } else { self.write(text) }
    }

    /// Prints `line` and a line end.
    pub fn line(&mut self, line: &str) {
        self.text(&format!("{line}\n"));
    }

    /// Prints `lines` at once, each with a line end.
    pub fn lines<S: AsRef<str>>(&mut self, lines: &[S]) {
        let mut text = String::new();
        for line in lines {
            text.push_str(line.as_ref());
            text.push('\n');
        }
        if !text.is_empty() {
            self.text(&text);
        }
    }

    /// Prints a line that a CI is meant to obey. What came from outside is quoted in it already.
    pub(super) fn command(&mut self, line: &str) {
        self.write(&format!("{line}\n"));
    }

    /// Whether all of it was written, for commands whose result is their text.
    ///
    /// # Errors
    /// The first error, but not that a reader closed the pipe: `head` got what it wanted.
    pub fn outcome(&self) -> io::Result<()> {
        match self.failed {
            None | Some(io::ErrorKind::BrokenPipe) => Ok(()),
            Some(kind) => Err(kind.into()),
        }
    }

    fn write(&mut self, text: &str) {
        if self.failed.is_none() {
            let done = self.handle.write_all(text.as_bytes()).and_then(|()| self.handle.flush());
            self.failed = done.err().map(|error| error.kind());
        }
    }
}

/// Prints the result of a command (`plan`, `status`, `sudoers` …) to standard output. A text with words
/// from hosts goes through [`Printer::neutral`] where a CI reads along.
///
/// # Errors
/// As [`Printer::outcome`].
pub fn print_stdout(text: &str) -> io::Result<()> {
    let mut printer = Printer::stdout();
    printer.text(text);
    printer.outcome()
}

/// Prints a message beside the result of a command to standard error. If that fails there is nowhere
/// left to say so.
pub fn print_stderr(text: &str) {
    Printer::stderr().text(text);
}

/// The size of the terminal behind standard error as columns and rows; asked anew each time, because
/// people resize it.
pub fn terminal_size() -> Option<(u16, u16)> {
    terminal_size::terminal_size_of(io::stderr()).map(|(width, height)| (width.0, height.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::rehearsal::Page;

    struct Closed(io::ErrorKind, u32);

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            self.1 += 1;
            assert_eq!(self.1, 1, "written to after it failed");
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_error_and_is_not_asked_again() {
        for (kind, fine) in [(io::ErrorKind::BrokenPipe, true), (io::ErrorKind::StorageFull, false)] {
            let mut printer = Printer::new(Closed(kind, 0));
            printer.line("one");
            printer.line("two");
            assert_eq!(printer.outcome().is_ok(), fine);
        }
    }

    #[test]
    fn in_a_ci_no_line_is_obeyed() {
        let page = Page::default();
        let mut printer = Printer::new(page.clone()).neutral(true);
        printer.lines(&["::warning::a", "b ##[c]"]);
        printer.command("::group::mine");
        assert_eq!(page.text(), "\\::warning::a\nb ##\\[c]\n::group::mine\n");
    }
}
