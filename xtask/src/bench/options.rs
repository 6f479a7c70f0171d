//! What was asked for: which rows, which tools, how many rounds.

use std::path::{Path, PathBuf};

use crate::bench::row::{ROWS, Row};
use crate::bench::tool::Tool;
use crate::failure::{During as _, Failure, Result};

/// What was asked for.
#[derive(Debug)]
pub struct Options {
    rows: Vec<String>,
    tools: Vec<Tool>,
    rounds: Option<usize>,
    /// Whether the hosts stay up.
    pub keep: bool,
    /// Whether ship copies what did not change, in place of the hard links that the script makes too.
    pub copies: bool,
    /// A ship that is there already, to be measured in place of the one that is built here.
    pub ship: Option<PathBuf>,
}

impl Options {
    /// Reads `--only ROW`, `--tool TOOL`, `--runs N`, `--ship FILE`, `--copies`, `--keep`; the first two may come several times.
    pub fn read(words: &[&str]) -> Result<Self> {
        let mut options =
            Self { rows: Vec::new(), tools: Vec::new(), rounds: None, keep: false, copies: false, ship: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| Failure::new(format!("{word} needs a value.")));
            match *word {
                "--keep" => options.keep = true,
                "--copies" => options.copies = true,
                "--only" => options.rows.push(row_named(value()?)?),
                "--ship" => options.ship = Some(absolute(value()?)?),
                "--tool" => options.tools.push(tool_named(value()?)?),
                "--runs" => {
                    let number = value()?.parse().ok().filter(|number| *number > 0);
                    options.rounds = Some(number.ok_or_else(|| Failure::new("--runs needs a number from 1 on."))?);
                }
                other => return Err(Failure::new(format!("`bench` knows no option {other}."))),
            }
        }
        Ok(options)
    }

    /// The rows that were asked for.
    pub fn rows(&self) -> impl Iterator<Item = &'static Row> {
        ROWS.iter().filter(|row| self.rows.is_empty() || self.rows.iter().any(|name| name == row.name))
    }

    /// The tools that take part in a row. ship always does.
    pub fn tools(&self, row: &Row) -> Vec<Tool> {
        let asked = |tool: &Tool| self.tools.is_empty() || *tool == Tool::Ship || self.tools.contains(tool);
        row.tools().into_iter().filter(asked).collect()
    }

    /// How often ship and its rivals run in a row, and how often the other tools.
    pub fn rounds(&self, row: &Row) -> (usize, usize) {
        self.rounds.map_or(row.rounds, |rounds| (rounds, rounds.min(row.rounds.1)))
    }

    /// Whether everything is run, so that the result may stand in the README.
    pub fn is_complete(&self) -> bool {
        self.rows.is_empty() && self.tools.is_empty() && self.ship.is_none() && !self.copies
    }
}

fn absolute(file: &str) -> Result<PathBuf> {
    Path::new(file).canonicalize().during(format_args!("find {file}"))
}

fn row_named(name: &str) -> Result<String> {
    if ROWS.iter().any(|row| row.name == name) {
        return Ok(name.to_owned());
    }
    let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
    Err(Failure::new(format!("There is no row {name}. The rows are: {}.", names.join(", "))))
}

fn tool_named(name: &str) -> Result<Tool> {
    Tool::ALL.into_iter().find(|tool| tool.name() == name).ok_or_else(|| {
        let names: Vec<&str> = Tool::ALL.iter().map(|tool| tool.name()).collect();
        Failure::new(format!("There is no tool {name}. The tools are: {}.", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::Options;
    use crate::bench::row::ROWS;
    use crate::bench::tool::Tool;

    #[test]
    fn rows_and_tools_are_chosen_by_name() {
        let options = Options::read(&["--only", "first", "--tool", "script", "--runs", "3"]).unwrap();
        let rows: Vec<&str> = options.rows().map(|row| row.name).collect();
        assert_eq!(rows, ["first"]);
        assert_eq!(options.tools(&ROWS[0]), [Tool::Ship, Tool::Script]);
        assert_eq!((options.rounds(&ROWS[0]), options.is_complete()), ((3, 2), false));
        assert!(Options::read(&[]).unwrap().is_complete());
    }

    #[test]
    fn what_is_not_known_is_named() {
        for words in [
            vec!["--only", "moon"],
            vec!["--tool", "x"],
            vec!["--runs", "0"],
            vec!["--runs"],
            vec!["--ship", "/x/y"],
            vec!["--x"],
        ] {
            assert!(Options::read(&words).is_err(), "{words:?}");
        }
    }
}
