//! An event as lines in words, for every reporter that writes a log: plain, github, transcript.

use std::collections::HashMap;

use super::ending::Run;
use super::text;
use crate::event::{Event, Failure, LOCAL, Phase, Stamped, Stream, TaskRef, TaskResult};

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Failures and warnings.
    Quiet,
    /// What a log of a deploy should hold.
    Normal,
    /// All there is, for the transcript.
    Everything,
}

/// What kind of line it is, as the sign before it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Something about the run.
    Note,
    /// A phase begins.
    Phase,
    /// A task begins.
    Start,
    /// The command of a task.
    Command,
    /// A line that a task printed.
    Output(Stream),
    /// A task is done.
    Done,
    /// A warning or a failure.
    Alarm,
}

impl Mark {
    /// The sign in a log.
    pub fn sign(self) -> char {
        match self {
            Self::Note => '-',
            Self::Phase => '=',
            Self::Start => '>',
            Self::Command => '$',
            Self::Output(_) => '|',
            Self::Done => '+',
            Self::Alarm => '!',
        }
    }
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Of which host; empty where it is about the run.
    pub host: String,
    /// Its kind.
    pub mark: Mark,
    /// What it says, safe to show.
    pub text: String,
}

/// Tells events in words.
#[derive(Debug)]
pub struct Narrator {
    detail: Detail,
    run: Run,
    host_width: usize,
    names: HashMap<TaskRef, String>,
    /// When the progress of a task was told last, and how much it had sent since.
    told: HashMap<TaskRef, (u64, u64)>,
}

/// The columns that a name of a host may take before it pushes its line to the right.
const WIDEST_HOST: usize = 24;

impl Narrator {
    /// A narrator that tells as much as `detail`.
    pub fn new(detail: Detail) -> Self {
        Self { detail, run: Run::default(), host_width: 0, names: HashMap::new(), told: HashMap::new() }
    }

    /// What is known of the run.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The columns for the name of a host.
    pub fn host_width(&self) -> usize {
        self.host_width
    }

    /// `stamped` as lines. The last event has none: `ending` tells it.
    pub fn tell(&mut self, stamped: &Stamped) -> Vec<Line> {
        self.run.learn(&stamped.event);
        let normal = self.detail >= Detail::Normal;
        // `ship run` is about output: what surrounds it is for those who ask.
        let around = if self.run.is_about_output() { self.detail == Detail::Everything } else { normal };
        match &stamped.event {
            Event::RunStarted { hosts, .. } => {
                let local = (!self.run.is_about_output()).then_some(LOCAL);
                let names = self.run.hosts.iter().map(String::as_str).chain(local);
                self.host_width = names.map(text::width).max().unwrap_or(0).min(WIDEST_HOST);
                if around { self.run_started(hosts.len()) } else { Vec::new() }
            }
            Event::ReleaseChosen { .. } if around => {
                vec![line("", Mark::Note, &format!("release {}", self.run.release.as_deref().unwrap_or_default()))]
            }
            Event::PhaseStarted { phase, hosts, batch } if around => {
                vec![line("", Mark::Phase, &phase_title(*phase, hosts, *batch))]
            }
            Event::PhaseFinished { phase, millis } if around => {
                vec![line("", Mark::Phase, &format!("{} took {}", phase.name(), text::duration(*millis)))]
            }
            Event::HostConnected { host, address, millis } if around => {
                let text = format!("connected to {address} in {}", text::duration(*millis));
                vec![line(host, Mark::Note, &text)]
            }
            Event::TaskStarted { task, name, command, own, .. } => {
                self.names.insert(task.clone(), name.clone());
                if around && (!own || self.detail == Detail::Everything) {
                    task_started(task, name, command.as_deref())
                } else {
                    Vec::new()
                }
            }
            Event::TaskOutput { task, stream, line: printed } if normal || self.run.is_about_output() => {
                vec![line(&task.host, Mark::Output(*stream), printed)]
            }
            Event::TaskProgress { task, sent, total } if around => {
                self.progress(task, *sent, *total, stamped.at_millis).into_iter().collect()
            }
            Event::TaskFinished { task, name, result, own, millis, .. } => {
                self.names.remove(task);
                let sent = self.told.remove(task).filter(|_| *result == TaskResult::Done);
                let sent = sent.map(|(_, sent)| format!(", {} sent", text::bytes(sent))).unwrap_or_default();
                match result {
                    TaskResult::Done if around && (!own || self.detail == Detail::Everything) => {
                        vec![line(
                            &task.host,
                            Mark::Done,
                            &format!("{name}: done in {}{sent}", text::duration(*millis)),
                        )]
                    }
                    TaskResult::Done => Vec::new(),
                    TaskResult::Failed(failure) if self.run.is_about_output() => {
                        // What it printed was told already.
                        let bare = Failure { command: None, last_lines: Vec::new(), ..failure.clone() };
                        failed(task, name, &bare, *millis, "failed")
                    }
                    TaskResult::Failed(failure) => failed(task, name, failure, *millis, "failed"),
                    TaskResult::Tolerated(failure) => {
                        failed(task, name, failure, *millis, "failed, and the run goes on,")
                    }
                }
            }
            Event::Notice { host, text } if around => {
                several(host.as_deref().unwrap_or_default(), Mark::Note, "", text)
            }
            Event::Warning { host, text } => {
                several(host.as_deref().unwrap_or_default(), Mark::Alarm, "warning: ", text)
            }
            _ => Vec::new(),
        }
    }

    fn run_started(&self, hosts: usize) -> Vec<Line> {
        let named = self.run.hosts.join(", ");
        let mut lines =
            vec![line("", Mark::Note, &format!("{} ({}: {named})", self.run.title(), text::plural(hosts, "host")))];
        if let Some(revision) = &self.run.revision {
            lines.push(line("", Mark::Note, &format!("revision {revision}")));
        }
        if let Some(description) = &self.run.description {
            lines.push(line("", Mark::Note, description));
        }
        lines
    }

    /// Now and then, so that a long upload is seen to move in a log as well.
    fn progress(&mut self, task: &TaskRef, sent: u64, total: u64, at_millis: u64) -> Option<Line> {
        let pause = if self.detail == Detail::Everything { 1_000 } else { 10_000 };
        let (last, so_far) = self.told.entry(task.clone()).or_insert((at_millis, 0));
        *so_far = sent;
        if at_millis < last.saturating_add(pause) {
            return None;
        }
        *last = at_millis;
        let name = self.names.get(task).map(String::as_str).unwrap_or("task");
        let percent = (u128::from(sent) * 100).checked_div(u128::from(total)).unwrap_or(100);
        Some(line(&task.host, Mark::Note, &format!("{name}: {} ({percent}%)", text::bytes_of(sent, total))))
    }
}

/// `prepare (3 hosts)`, `publish, batch 2 of 3 (web3)`.
pub fn phase_title(phase: Phase, hosts: &[String], batch: Option<(usize, usize)>) -> String {
    let batch = batch.map(|(number, count)| format!(", batch {number} of {count}")).unwrap_or_default();
    let hosts = if hosts.is_empty() { String::new() } else { format!(" ({})", text::names(hosts, 60)) };
    format!("{}{batch}{hosts}", phase.name())
}

fn line(host: &str, mark: Mark, text: &str) -> Line {
    Line { host: text::line(host), mark, text: text::line(text) }
}

/// `text`, which may have several lines, behind `label`.
fn several(host: &str, mark: Mark, label: &str, text: &str) -> Vec<Line> {
    let mut indent = String::new();
    text.lines()
        .map(|part| {
            let lead = if indent.is_empty() { label.to_owned() } else { indent.clone() };
            indent = " ".repeat(label.len().max(2));
            line(host, mark, &format!("{lead}{part}"))
        })
        .collect()
}

fn task_started(task: &TaskRef, name: &str, command: Option<&str>) -> Vec<Line> {
    let mut lines = vec![line(&task.host, Mark::Start, name)];
    lines.extend(command.into_iter().flat_map(|command| several(&task.host, Mark::Command, "", command)));
    lines
}

/// A failure in full: what, how, the command, its last lines, what to try.
fn failed(task: &TaskRef, name: &str, failure: &Failure, millis: u64, how: &str) -> Vec<Line> {
    let host = task.host.as_str();
    let mut lines =
        several(host, Mark::Alarm, "", &format!("{name}: {how} after {}: {}", text::duration(millis), failure.status));
    if let Some(command) = &failure.command {
        lines.extend(several(host, Mark::Alarm, "  command: ", command));
    }
    if !failure.last_lines.is_empty() {
        lines.push(line(host, Mark::Alarm, "  last lines:"));
        let printed = failure.last_lines.iter().flat_map(|printed| printed.lines());
        lines.extend(printed.map(|printed| line(host, Mark::Alarm, &format!("    {printed}"))));
    }
    if let Some(advice) = &failure.advice {
        lines.extend(several(host, Mark::Alarm, "  hint: ", advice));
    }
    lines
}
