//! The job summary of GitHub Actions: Markdown with the table of hosts and every failure.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;

use super::ending::{Ending, Run};
use super::text;
use crate::event::{Event, Outcome, TaskResult};

/// Collects failures, and appends the summary to the runner's file at the end.
#[derive(Debug)]
pub struct Summary {
    file: Option<PathBuf>,
    failures: Vec<String>,
    left_out: usize,
}

/// GitHub refuses a summary beyond 1 MiB as a whole, so failures beyond half of it are only counted.
const MOST_BYTES: usize = 512 * 1024;

impl Summary {
    /// A summary for `file`; without one, none is written.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file, failures: Vec::new(), left_out: 0 }
    }

    /// Remembers what went wrong.
    pub fn event(&mut self, event: &Event) {
        let Event::TaskFinished { task, phase, name, result, .. } = event else { return };
        let (verb, failure) = match result {
            TaskResult::Done => return,
            TaskResult::Failed(failure) => ("failed", failure),
            TaskResult::Tolerated(failure) => ("failed (the run went on)", failure),
        };
        let title = format!("**{}** {verb} on **{}** in {}: ", prose(name), prose(&task.host), phase.name());
        let mut block = format!("{title}{}\n\n", prose(&failure.status));
        let command = failure.command.iter().flat_map(|command| text::lines(command)).map(|line| format!("$ {line}"));
        let printed = failure.last_lines.iter().flat_map(|line| text::lines(line));
        let content: Vec<String> = command.chain(printed).collect();
        if !content.is_empty() {
            block.push_str(&fenced(&content));
        }
        if let Some(advice) = &failure.advice {
            block.push_str(&format!("\n{}\n", prose(advice)));
        }
        let size: usize = self.failures.iter().map(String::len).sum();
        if size + block.len() > MOST_BYTES {
            self.left_out += 1;
        } else {
            self.failures.push(block);
        }
    }

    /// Appends the summary.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, run: &Run, ending: &Ending<'_>) -> io::Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        OpenOptions::new().append(true).create(true).open(path)?.write_all(self.markdown(run, ending).as_bytes())
    }

    /// The summary.
    pub fn markdown(&self, run: &Run, ending: &Ending<'_>) -> String {
        let sign = if ending.outcome == Outcome::Done { "✅" } else { "❌" };
        let mut text = format!("### {sign} {}\n\n", prose(&ending.verdict(run)));
        if let Some(description) = &run.description {
            text.push_str(&format!("{}\n\n", prose(description)));
        }
        if (!run.is_about_output() || ending.outcome == Outcome::Refused) && !ending.hosts.is_empty() {
            text.push_str("| Host | Before | After | State | Why |\n|---|---|---|---|---|\n");
            for host in ending.hosts {
                let cell = |text: Option<&str>| prose(text.unwrap_or("-"));
                text.push_str(&format!(
                    "| {} | {} | {} | {} | {} |\n",
                    prose(&host.host),
                    cell(host.before.as_deref()),
                    cell(host.after.as_deref()),
                    host.state.name(),
                    prose(host.why.as_deref().unwrap_or_default())
                ));
            }
            text.push('\n');
        }
        for failure in &self.failures {
            text.push_str(failure);
            text.push('\n');
        }
        if self.left_out > 0 {
            text.push_str(&format!("{} more in the log.\n\n", text::plural(self.left_out, "failure")));
        }
        for host in ending.hosts.iter().filter(|host| !host.commands.is_empty()) {
            text.push_str(&format!("**{}** needs a person:\n\n", prose(&host.host)));
            let commands: Vec<String> = host.commands.iter().flat_map(|command| text::lines(command)).collect();
            text.push_str(&format!("{}\n", fenced(&commands)));
        }
        for hint in ending.hints {
            text.push_str(&format!("- {}\n", prose(hint)));
        }
        text.push_str(&format!("\n{}\n\n", text::duration(ending.millis)));
        text
    }
}

/// `lines` as a block of code, with a fence longer than any in them.
fn fenced(lines: &[String]) -> String {
    let longest = lines.iter().map(|line| longest_run(line, '`')).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}\n", lines.join("\n"))
}

fn longest_run(text: &str, of: char) -> usize {
    let (longest, _) = text.chars().fold((0, 0), |(longest, current), character| {
        let current = if character == of { current + 1 } else { 0 };
        (current.max(longest), current)
    });
    longest
}

/// `text` as one line of Markdown that reads as it is written: no markup, no HTML, no end of a cell.
fn prose(text: &str) -> String {
    let lines: Vec<String> = text::lines(text).collect();
    let mut shown = String::new();
    for character in lines.join(" ").chars() {
        match character {
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '&' => shown.push_str("&amp;"),
            // `@` and `#` would become links to people and issues.
            '@' => shown.push_str("&#64;"),
            '#' => shown.push_str("&#35;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '!' | '~' => {
                shown.push('\\');
                shown.push(character);
            }
            _ => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_longer_than_any_in_what_it_holds() {
        assert_eq!(fenced(&["a".to_owned()]), "```text\na\n```\n");
        assert_eq!(fenced(&["x ```` y".to_owned(), "``".to_owned()]), "`````text\nx ```` y\n``\n`````\n");
    }

    #[test]
    fn prose_is_read_as_it_is_written() {
        assert_eq!(prose("a|b <img> [x](y)\n*z*"), r"a\|b &lt;img&gt; \[x\](y) \*z\*");
        assert_eq!(prose("fix #1 by @ada"), "fix &#35;1 by &#64;ada");
    }
}
