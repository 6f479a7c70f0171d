//! Colours and signs of the terminal. Colour never carries meaning alone: a sign or a word says the same.

use super::Style;
use super::text;

/// What a text is, from which its colour follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Ordinary text.
    #[default]
    Plain,
    /// It went well.
    Good,
    /// It failed.
    Bad,
    /// It needs care.
    Care,
    /// It may be read over.
    Dim,
    /// It stands out.
    Strong,
    /// It is going on.
    Busy,
}

/// A sign at the start of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Needs care.
    Care,
    /// Worth knowing, or waiting.
    Note,
}

/// How to colour and which signs the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    color: bool,
    unicode: bool,
}

impl Paint {
    /// The paint of `style`.
    pub fn new(style: &Style) -> Self {
        Self { color: style.color, unicode: style.unicode }
    }

    /// `text` in the colour of `tone`.
    pub fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            _ if !self.color || text.is_empty() => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Care => "33",
            Tone::Dim => "2",
            Tone::Strong => "1",
            Tone::Busy => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A sign in its colour, one column wide.
    pub fn sign(self, sign: Sign) -> String {
        let (fine, ascii, tone) = match sign {
            Sign::Done => ("✓", "+", Tone::Good),
            Sign::Failed => ("✗", "x", Tone::Bad),
            Sign::Care => ("!", "!", Tone::Care),
            Sign::Note => ("·", "-", Tone::Dim),
        };
        self.tone(tone, if self.unicode { fine } else { ascii })
    }

    /// A turning sign for what is going on at `millis`.
    pub fn spinner(self, millis: u64) -> String {
        const FINE: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
        const ASCII: [&str; 4] = ["|", "/", "-", "\\"];
        let frames: &[&str] = if self.unicode { &FINE } else { &ASCII };
        let turn = usize::try_from(millis / 100).unwrap_or(0) % frames.len();
        self.tone(Tone::Busy, frames.get(turn).copied().unwrap_or("*"))
    }

    /// A bar `width` columns wide that shows `part` of `whole`.
    pub fn bar(self, part: u64, whole: u64, width: usize) -> String {
        // A `usize` has at most 64 bits, so the product fits.
        let full = (width as u128 * u128::from(part.min(whole))).checked_div(u128::from(whole)).unwrap_or(0);
        let full = usize::try_from(full).unwrap_or(0).min(width);
        let (done, rest) = if self.unicode { ("━", "─") } else { ("=", "-") };
        format!("{}{}", self.tone(Tone::Busy, &done.repeat(full)), self.tone(Tone::Dim, &rest.repeat(width - full)))
    }

    /// `text` cut to `width` columns.
    pub fn cut(self, text: &str, width: usize) -> String {
        text::cut(text, width, if self.unicode { '…' } else { '~' })
    }

    /// The line that goes down the side of what a command printed.
    pub fn side(self) -> &'static str {
        if self.unicode { "│" } else { "|" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colour_the_signs_still_tell() {
        let paint = Paint { color: false, unicode: true };
        let signs = [Sign::Done, Sign::Failed, Sign::Care, Sign::Note].map(|sign| paint.sign(sign));
        assert_eq!(signs, ["✓", "✗", "!", "·"]);
        assert_eq!(paint.tone(Tone::Bad, "failed"), "failed");
        let colored = Paint { color: true, unicode: false };
        assert_eq!(colored.sign(Sign::Failed), "\x1b[31mx\x1b[0m");
    }

    #[test]
    fn a_bar_is_full_at_the_end_and_never_overflows() {
        let paint = Paint { color: false, unicode: false };
        assert_eq!(paint.bar(0, 10, 10), "----------");
        assert_eq!(paint.bar(5, 10, 10), "=====-----");
        assert_eq!(paint.bar(20, 10, 10), "==========");
        assert_eq!(paint.bar(0, 0, 4), "----");
        assert_eq!(paint.bar(u64::MAX, u64::MAX, 4), "====");
    }
}
