//! The reporter for GitHub Actions: a group per phase, an annotation per failure, values masked by the
//! runner too.

use std::path::PathBuf;

use super::ending::Ending;
use super::narrative::{Narrator, phase_title};
use super::paint::Paint;
use super::plain::{detail, log_line};
use super::printer::Printer;
use super::summary::Summary;
use super::{Reporter, Style, workflow};
use crate::event::{Event, Phase, Stamped, TaskRef, TaskResult};
use crate::secret::{SHORTEST_MASKED, Secret};

/// Writes a log for GitHub Actions. The log itself shows the time, so these lines begin with the host.
#[derive(Debug)]
pub struct Github {
    out: Printer,
    style: Style,
    narrator: Narrator,
    /// The phase that goes on, whose lines belong in a group.
    phase: Option<String>,
    /// Whether that group is open.
    open: bool,
    summary: Summary,
}

impl Github {
    /// A log on `out`, and a job summary appended to `summary` (`$GITHUB_STEP_SUMMARY`).
    ///
    /// `secrets` are announced to the runner at once, line by line, so that it masks them in the whole
    /// job. Give them only where the runner reads `out`: anywhere else this would print them.
    pub fn new(out: Printer, style: Style, secrets: &[Secret], summary: Option<PathBuf>) -> Self {
        let narrator = Narrator::new(detail(&style));
        let mut out = out.neutral(true);
        for value in secrets.iter().flat_map(|secret| secret.expose().lines()) {
            if value.trim().len() >= SHORTEST_MASKED {
                // Not through `data`: a value with a backslash more would be another value.
                let value = value.trim().replace('%', "%25").replace('\r', "%0D");
                out.command(&format!("::add-mask::{value}"));
            }
        }
        Self { out, style, narrator, phase: None, open: false, summary: Summary::new(summary) }
    }

    /// Writes `lines` into the group of the phase, where one goes on.
    fn in_group(&mut self, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        if let Some(title) = self.phase.as_ref().filter(|_| !self.open) {
            self.out.command(&format!("::group::{}", workflow::data(title)));
            self.open = true;
        }
        self.out.lines(lines);
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            self.out.command("::endgroup::");
        }
    }

    fn annotate(&mut self, kind: &str, title: &str, text: &str) {
        self.out.command(&format!("::{kind} title={}::{}", workflow::property(title), workflow::data(text)));
    }

    /// The annotation of a failure: what the page of the run shows without a click.
    fn failure(&mut self, task: &TaskRef, phase: Phase, name: &str, result: &TaskResult) {
        let (kind, failure) = match result {
            TaskResult::Done => return,
            TaskResult::Failed(failure) => ("error", failure),
            TaskResult::Tolerated(failure) => ("warning", failure),
        };
        let mut text = failure.status.clone();
        let last = failure.last_lines.iter().rev().take(10).collect::<Vec<_>>();
        for line in last.into_iter().rev() {
            text.push('\n');
            text.push_str(line);
        }
        if let Some(advice) = &failure.advice {
            text.push_str(&format!("\nhint: {advice}"));
        }
        let lines: Vec<String> = super::text::lines(&text).collect();
        let title = super::text::line(&format!("{} failed on {} ({})", name, task.host, phase.name()));
        self.annotate(kind, &title, &lines.join("\n"));
    }
}

impl Reporter for Github {
    fn event(&mut self, stamped: &Stamped) {
        self.summary.event(&stamped.event);
        let told = self.narrator.tell(stamped);
        let width = self.narrator.host_width();
        let lines: Vec<String> = told.iter().map(|line| log_line(None, line, width)).collect();
        match &stamped.event {
            Event::PhaseStarted { phase, hosts, batch }
                if !self.style.quiet && !self.narrator.run().is_about_output() =>
            {
                let hosts: Vec<String> = hosts.iter().map(|host| super::text::line(host)).collect();
                self.close();
                // The group opens with its first line, and its title says what that line would.
                self.phase = Some(phase_title(*phase, &hosts, *batch));
            }
            Event::PhaseFinished { .. } => {
                self.in_group(&lines);
                self.close();
                self.phase = None;
            }
            Event::TaskFinished { task, phase, name, result, .. } if *result != TaskResult::Done => {
                // Outside of the group, which the page shows folded up.
                self.close();
                self.failure(task, *phase, name, result);
                self.out.lines(&lines);
            }
            Event::Warning { host, text } => {
                let title = host.as_deref().map(|host| format!("Warning from {host}")).unwrap_or("Warning".to_owned());
                self.close();
                self.annotate(
                    "warning",
                    &super::text::line(&title),
                    &super::text::lines(text).collect::<Vec<_>>().join("\n"),
                );
                self.out.lines(&lines);
            }
            _ => self.in_group(&lines),
        }
        if let Some(ending) = Ending::of(&stamped.event) {
            self.close();
            let run = self.narrator.run();
            let paint = Paint::new(&Style { color: false, ..self.style.clone() });
            let mut lines = vec![String::new()];
            lines.extend(ending.lines(run, self.style.transcript.as_deref(), None, paint));
            self.out.lines(&lines);
            if let Err(error) = self.summary.write(run, &ending) {
                self.annotate("warning", "Job summary", &format!("Could not write the job summary: {error}"));
            }
        }
    }

    fn finish(&mut self) {
        self.close();
    }
}
