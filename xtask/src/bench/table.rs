//! The tables of the benchmark as Markdown: ratios against targets, then what each tool took.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::bench::Outcome;
use crate::bench::measure::{Sample, median};
use crate::bench::row::Job;
use crate::bench::tool::Tool;
use crate::bench::tree::Tree;
use crate::failure::{During as _, Failure, Result};

const BEGIN: &str = "<!-- begin bench -->\n";
const END: &str = "<!-- end bench -->\n";

/// Bytes of the tree of one large file.
const LARGE: f64 = 1024.0 * 1024.0 * 1024.0;

/// The text between the markers.
pub fn render(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| job | ship | ÷ | target | | ÷ the best of the other tools | target | | floor |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for outcome in outcomes {
        text.push_str(&verdicts(outcome));
    }
    text.push_str(
        "\nThe floor is what login, restart and check alone take, over ship's own connection, ÷ the same tool's time: no deploy over it \
         can take less.\n",
    );
    text.push_str(&limits(outcomes));
    text.push_str(
        "\nWhat each took: seconds, MiB of memory at most (resident, all its processes), MB over the network.\n\n",
    );
    text.push_str(&figures(outcomes));
    let failures: Vec<String> = outcomes
        .iter()
        .flat_map(|outcome| outcome.failures.iter().map(|(tool, why)| failure(outcome, *tool, why)))
        .collect();
    if !failures.is_empty() {
        let _ = write!(text, "\nNot measured:\n\n{}", failures.concat());
    }
    text.push_str("\nMedians of two to five rounds in which all took turns; slow tools left out the later ones.\n");
    text
}

/// A line of the first table for each rival; the second half of the first of them is about the other tools.
fn verdicts(outcome: &Outcome) -> String {
    let row = &outcome.row;
    let ship = outcome.seconds(Tool::Ship);
    let best = row
        .others
        .iter()
        .filter_map(|tool| Some((*tool, outcome.seconds(*tool)?)))
        .min_by(|one, other| one.1.total_cmp(&other.1));
    let mut text = String::new();
    for (index, (rival, target)) in row.rivals.iter().enumerate() {
        let title = if index == 0 { row.title } else { "" };
        let time = if index == 0 {
            ship.map_or_else(|| "failed".to_owned(), |ship| format!("{ship:.2} s"))
        } else {
            String::new()
        };
        let ratio = match (ship, outcome.seconds(*rival)) {
            (Some(ship), Some(other)) => Some(ship / other),
            _ => None,
        };
        let _ =
            write!(text, "| {title} | {time} | {rival}: {} | ≤ {target} | {} |", shown(ratio), verdict(ratio, *target));
        match (index, row.best) {
            (0, Some(target)) => {
                let ratio = ship.zip(best).map(|(ship, (_, other))| ship / other);
                let name = best.map_or_else(String::new, |(tool, _)| format!("{tool}: "));
                let floor = outcome.seconds(Tool::Floor).zip(best).map(|(floor, (_, other))| floor / other);
                let floor = floor.map_or_else(String::new, |floor| format!(" {floor:.2}"));
                let _ = writeln!(text, " {name}{} | ≤ {target} | {} |{floor} |", shown(ratio), verdict(ratio, target));
            }
            _ => text.push_str(" | | | |\n"),
        }
    }
    text
}

/// What ship may send, and how much memory it may hold.
fn limits(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let Some(samples) = outcome.samples.get(&Tool::Ship) else { continue };
        if let (Some(target), Job::Changed(Tree::Large)) = (outcome.row.bytes, outcome.row.job) {
            let part = median(samples.iter().map(|sample| sample.bytes as f64)).map(|bytes| bytes / LARGE);
            let shown = part.map_or_else(String::new, |part| format!("{:.2} %", part * 100.0));
            let limit = target * 100.0;
            let _ = writeln!(
                text,
                "- {}: ship sent {shown} of the file, at most {limit} %: {}.",
                outcome.row.title,
                verdict(part, target)
            );
        }
        if let Some(target) = outcome.row.memory {
            let peak = samples.iter().map(mib).max_by(f64::total_cmp);
            let shown = peak.map_or_else(String::new, |peak| format!("{peak:.0} MiB"));
            let _ = writeln!(
                text,
                "- {}: ship held {shown} of memory, at most {target} MiB: {}.",
                outcome.row.title,
                verdict(peak, target)
            );
        }
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

/// The second table: a column for each tool that took part anywhere.
fn figures(outcomes: &[Outcome]) -> String {
    let tools: Vec<Tool> = Tool::ALL
        .into_iter()
        .filter(|tool| outcomes.iter().any(|outcome| outcome.samples.contains_key(tool)))
        .collect();
    let mut text = String::from("| job |");
    text.extend(tools.iter().map(|tool| format!(" {tool} |")));
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(tools.len()));
    for outcome in outcomes {
        let _ = write!(text, "| {} |", outcome.row.title);
        text.extend(tools.iter().map(|tool| format!(" {} |", outcome.figure(*tool))));
        text.push('\n');
    }
    text
}

impl Outcome {
    fn seconds(&self, tool: Tool) -> Option<f64> {
        median(self.samples.get(&tool)?.iter().map(|sample| sample.seconds))
    }

    fn figure(&self, tool: Tool) -> String {
        let Some(samples) = self.samples.get(&tool) else {
            return if self.failures.iter().any(|(other, _)| *other == tool) {
                "failed".to_owned()
            } else {
                String::new()
            };
        };
        let middle = |value: fn(&Sample) -> f64| median(samples.iter().map(value)).unwrap_or_default();
        format!(
            "{:.2} s, {:.0} MiB, {} MB",
            middle(|sample| sample.seconds),
            middle(mib),
            short(middle(|sample| sample.bytes as f64 / 1e6))
        )
    }
}

fn mib(sample: &Sample) -> f64 {
    sample.memory as f64 / 1024.0 / 1024.0
}

/// Enough digits to compare, and no more.
fn short(number: f64) -> String {
    if number < 10.0 { format!("{number:.2}") } else { format!("{number:.0}") }
}

fn shown(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"))
}

fn verdict(value: Option<f64>, target: f64) -> &'static str {
    match value {
        Some(value) if value <= target => "met",
        Some(_) => "**missed**",
        None => "not measured",
    }
}

/// The last line of why says most; the rest is in the log.
fn failure(outcome: &Outcome, tool: Tool, why: &str) -> String {
    let last = why.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    format!("- {tool}, {}: {last}\n", outcome.row.title)
}

/// Makes sure that the file has a place for the table.
pub fn check_place(file: &Path) -> Result<()> {
    filled(file, "").map(drop)
}

/// Puts the text between the markers of this file.
pub fn write_into(file: &Path, table: &str) -> Result<()> {
    fs::write(file, filled(file, table)?).during(format_args!("write {}", file.display()))
}

fn filled(file: &Path, table: &str) -> Result<String> {
    let text = fs::read_to_string(file).during(format_args!("read {}", file.display()))?;
    placed(&text, table)
        .ok_or_else(|| Failure::new(format!("{} has no place for the table: {BEGIN}{END}", file.display())))
}

fn placed(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{placed, render};
    use crate::bench::Outcome;
    use crate::bench::measure::Sample;
    use crate::bench::row::ROWS;
    use crate::bench::tool::Tool;

    fn outcome(row: usize, seconds: &[(Tool, f64)]) -> Outcome {
        let sample = |seconds: f64| vec![Sample { seconds, memory: 30 * 1024 * 1024, bytes: 2_500_000 }];
        let samples: BTreeMap<_, _> = seconds.iter().map(|(tool, seconds)| (*tool, sample(*seconds))).collect();
        Outcome { row: ROWS[row], samples, failures: vec![(Tool::Mina, "It ended:\n    no such gem".to_owned())] }
    }

    #[test]
    fn ratios_are_held_against_targets() {
        let seconds =
            [(Tool::Ship, 0.5), (Tool::Script, 1.25), (Tool::Floor, 0.4), (Tool::Fabric, 5.0), (Tool::Ansible, 2.0)];
        let first = outcome(0, &seconds);
        let text = render(&[first]);
        assert!(
            text.contains(
                "| 1 host, 1 % changed, 50 ms RTT | 0.50 s | rsync script: 0.40 | ≤ 0.5 | met | Ansible: 0.25 | ≤ 0.15 | **missed** | 0.20 |"
            ),
            "{text}"
        );
        assert!(text.contains("- Mina, 1 host, 1 % changed, 50 ms RTT: no such gem\n"), "{text}");
        assert!(text.contains(" 0.50 s, 30 MiB, 2.50 MB |"), "{text}");
    }

    #[test]
    fn memory_and_bytes_have_lines_of_their_own() {
        let text = render(&[outcome(10, &[(Tool::Ship, 2.0), (Tool::Script, 1.0)])]);
        assert!(
            text.contains("- 1 GiB file, 1 MiB changed: ship sent 0.23 % of the file, at most 1 %: met."),
            "{text}"
        );
        assert!(text.contains("ship held 30 MiB of memory, at most 40 MiB: met."), "{text}");
    }

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let text = "a\n<!-- begin bench -->\nold\n<!-- end bench -->\nz\n";
        assert_eq!(placed(text, "new\n").unwrap(), "a\n<!-- begin bench -->\nnew\n<!-- end bench -->\nz\n");
        assert_eq!(placed("no markers", "new"), None);
    }
}
