//! Aligned tables: the end of a run, `ship status`, `ship releases`, `ship history`, `ship check`.

use super::paint::{Paint, Tone};
use super::text;

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell with `text` in one line, made safe to show, in the colour of `tone`.
    pub fn new(text: &str, tone: Tone) -> Self {
        Self { text: text::lines(text).collect::<Vec<_>>().join(" "), tone }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(text, Tone::Plain)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

/// A table of columns as wide as they need to be. Its last column may be as long as it likes (`why`,
/// `services`): it is wrapped to the width there is, goes under its row where there is hardly any, and
/// is left out where it is empty.
#[derive(Clone, Debug, Default)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

/// Columns between columns.
const GAP: usize = 2;
/// Below this many columns a wrapped text is a ladder, so it goes under its row instead.
const NARROWEST: usize = 24;

impl Table {
    /// An empty table with the titles of its columns.
    pub fn new(header: &[&str]) -> Self {
        Self { header: header.iter().map(|title| (*title).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row. Cells that are missing are empty; cells too many are dropped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut cells: Vec<Cell> = cells.into_iter().take(self.header.len()).collect();
        cells.resize_with(self.header.len(), Cell::default);
        self.rows.push(cells);
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines, indented by `indent`; without a `width` nothing is wrapped.
    pub fn lines(&self, width: Option<usize>, indent: usize, paint: Paint) -> Vec<String> {
        let Some((last_title, titles)) = self.header.split_last() else { return Vec::new() };
        let widths: Vec<usize> = titles.iter().enumerate().map(|(column, title)| self.widest(column, title)).collect();
        let fixed: usize = indent + widths.iter().map(|width| width + GAP).sum::<usize>();
        let last = titles.len();
        let needed = self.widest(last, last_title);
        let room = width.map_or(needed, |width| width.saturating_sub(fixed)).min(needed);
        let below = room < needed.min(NARROWEST);
        let margin = " ".repeat(indent);

        let mut head = margin.clone();
        for (title, width) in titles.iter().zip(&widths) {
            head.push_str(&text::left(title, width + GAP));
        }
        if !below && self.any_text_in(last) {
            head.push_str(last_title);
        }
        let mut lines = vec![paint.tone(Tone::Dim, head.trim_end())];
        for row in &self.rows {
            let mut line = margin.clone();
            let mut gap = 0;
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&" ".repeat(gap));
                line.push_str(&paint.tone(cell.tone, &cell.text));
                gap = GAP + width.saturating_sub(text::width(&cell.text));
            }
            let Some(cell) = row.last().filter(|cell| !cell.text.is_empty()) else {
                lines.push(line);
                continue;
            };
            let (start, limit) = if below {
                lines.push(std::mem::take(&mut line));
                (indent + GAP, width.map_or(usize::MAX, |width| width.saturating_sub(indent + GAP)).max(NARROWEST))
            } else {
                line.push_str(&" ".repeat(gap));
                (fixed, room)
            };
            for (index, part) in text::wrap(&cell.text, limit).into_iter().enumerate() {
                let lead = if index == 0 && !below { std::mem::take(&mut line) } else { " ".repeat(start) };
                lines.push(format!("{lead}{}", paint.tone(cell.tone, &part)));
            }
        }
        lines
    }

    /// The columns that a column takes.
    fn widest(&self, column: usize, title: &str) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| text::width(&cell.text));
        cells.max().unwrap_or(0).max(text::width(title))
    }

    fn any_text_in(&self, column: usize) -> bool {
        self.rows.iter().filter_map(|row| row.get(column)).any(|cell| !cell.text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Style;
    use insta::assert_snapshot;

    fn shown(why: &str, width: Option<usize>) -> String {
        let mut table = Table::new(&["HOST", "BEFORE", "STATE", "WHY"]);
        table.row(["web1".into(), "20261121T101500Z-1a2b3c4".into(), Cell::new("live", Tone::Good)]);
        table.row(["database1".into(), "".into(), "unchanged".into(), why.into()]);
        table.lines(width, 2, Paint::new(&Style::default())).join("\n")
    }

    const WHY: &str = "Install dependencies: exit status 1 after three attempts";

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        assert_snapshot!(shown(WHY, None), @r"
          HOST       BEFORE                    STATE      WHY
          web1       20261121T101500Z-1a2b3c4  live
          database1                            unchanged  Install dependencies: exit status 1 after three attempts
        ");
    }

    #[test]
    fn an_empty_last_column_is_left_out() {
        assert_snapshot!(shown("", Some(40)), @r"
          HOST       BEFORE                    STATE
          web1       20261121T101500Z-1a2b3c4  live
          database1                            unchanged
        ");
    }

    #[test]
    fn the_last_column_is_wrapped_to_the_terminal() {
        assert_snapshot!(shown(WHY, Some(80)), @r"
        HOST       BEFORE                    STATE      WHY
        web1       20261121T101500Z-1a2b3c4  live
        database1                            unchanged  Install dependencies: exit
                                                        status 1 after three attempts
        ");
    }

    #[test]
    fn on_a_narrow_terminal_it_goes_under_its_row() {
        assert_snapshot!(shown(WHY, Some(60)), @r"
          HOST       BEFORE                    STATE
          web1       20261121T101500Z-1a2b3c4  live
          database1                            unchanged
            Install dependencies: exit status 1 after three attempts
        ");
    }

    #[test]
    fn what_hosts_say_cannot_break_a_table() {
        let mut table = Table::new(&["HOST", "WHY"]);
        table.row(["a\tb".into(), "x\x1b[2Jy\nz".into(), "too many".into()]);
        assert_snapshot!(table.lines(None, 0, Paint::new(&Style::default())).join("\n"), @r"
        HOST    WHY
        a    b  x\x1b[2Jy z
        ");
    }
}
