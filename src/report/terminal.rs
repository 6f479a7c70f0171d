//! The reporter for a person at a terminal: finished steps above, what each host does below.

use indicatif::ProgressDrawTarget;

use super::board::{Board, LOG_IN, Measure, TIME, WIDEST};
use super::ending::{Ending, Run, hanging};
use super::paint::{Paint, Sign, Tone};
use super::printer::{Printer, terminal_size};
use super::rows::{Row, Rows};
use super::screen::{Curtain, Screen};
use super::{Reporter, Style, text};
use crate::event::{Event, Failure, LOCAL, Phase, Stamped, TaskRef, TaskResult};

/// Shows a run on a terminal, which has to be one: indicatif draws nothing elsewhere.
pub struct Terminal {
    screen: Screen,
    size: Box<dyn Fn() -> Option<(u16, u16)> + Send>,
    style: Style,
    paint: Paint,
    run: Run,
    board: Board,
    rows: Rows,
    /// Columns of the name of a phase or host at the start of a line.
    lead: usize,
    /// The failures that were shown in full, and on which host.
    shown: Vec<(String, Failure)>,
    now: u64,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").field("style", &self.style).field("run", &self.run).finish_non_exhaustive()
    }
}

/// Columns for the hosts of a finished step, where there is room and where there is hardly any.
const HOSTS: (usize, usize) = (18, 8);
/// Rows that are left to finished steps.
const ROWS_ABOVE: u16 = 6;
/// The times a second that live lines are drawn at most.
const DRAWS: u8 = 20;

impl Terminal {
    /// A terminal on standard error.
    pub fn stderr(style: Style) -> Self {
        Self::new(Printer::stderr(), ProgressDrawTarget::stderr_with_hz(DRAWS), terminal_size, style)
    }

    /// A terminal that `out` and `target` both are, and that is as large as `size` says each time.
    pub fn new(
        out: Printer,
        target: ProgressDrawTarget,
        size: impl Fn() -> Option<(u16, u16)> + Send + 'static,
        style: Style,
    ) -> Self {
        Self {
            screen: Screen::new(out, target),
            size: Box::new(size),
            paint: Paint::new(&style),
            style,
            run: Run::default(),
            board: Board::default(),
            rows: Rows::default(),
            lead: 0,
            shown: Vec::new(),
            now: 0,
        }
    }

    /// What takes the live lines away for a question.
    pub fn curtain(&self) -> Curtain {
        Curtain::before(&self.screen)
    }

    /// Whether steps are told, and not only what goes wrong.
    fn tells_steps(&self) -> bool {
        !self.style.quiet && !self.run.is_about_output()
    }

    fn columns(&self) -> usize {
        let (width, _) = (self.size)().unwrap_or((self.style.terminal_width.unwrap_or(80), 0));
        // The last column stays free: some terminals wrap a line that reaches it.
        usize::from(width).saturating_sub(1).max(40)
    }

    fn measure(&self) -> Measure {
        let height = (self.size)().map_or(24, |(_, height)| height);
        let rows = usize::from(height.saturating_sub(ROWS_ABOVE).max(1));
        Measure { width: self.columns().min(WIDEST), rows, lead: self.lead }
    }

    fn draw(&self) {
        let live = if self.tells_steps() { self.board.lines(self.measure(), self.now, self.paint) } else { Vec::new() };
        self.screen.draw(&live);
    }

    fn header(&self) -> Vec<String> {
        let named = text::names(&self.run.hosts, self.columns().saturating_sub(text::width(&self.run.title()) + 4));
        let named = if self.run.hosts.is_empty() { String::new() } else { format!("  ({named})") };
        let mut lines =
            vec![format!("{}{}", self.paint.tone(Tone::Strong, &self.run.title()), self.paint.tone(Tone::Dim, &named))];
        let revision = self.run.revision.as_ref().map(|revision| format!("revision {revision}"));
        for line in self.run.description.iter().chain(&revision) {
            lines.push(self.paint.tone(Tone::Dim, &format!("  {}", self.paint.cut(line, self.columns() - 2))));
        }
        lines.push(String::new());
        lines
    }

    /// Sign, name of a phase or host, and a text.
    fn headed(&self, sign: Sign, head: &str, rest: &str) -> String {
        format!("{} {}  {rest}", self.paint.sign(sign), text::left(&self.paint.cut(head, self.lead), self.lead))
    }

    fn hosts_column(&self) -> usize {
        let (usual, least) = HOSTS;
        if self.measure().width < 70 { least } else { usual }
    }

    /// The line of a step: phase, name, where, how long.
    fn step(&self, sign: Sign, phase: Phase, name: &str, hosts: &str, millis: u64) -> String {
        let width = self.measure().width;
        let for_hosts = self.hosts_column();
        let hosts = text::left(&self.paint.cut(hosts, for_hosts), for_hosts);
        let room = width.saturating_sub(2 + self.lead + 2 + 2 + for_hosts + TIME);
        let name = text::left(&self.paint.cut(&text::line(name), room), room);
        let name = if sign == Sign::Failed { self.paint.tone(Tone::Bad, &name) } else { name };
        let time = self.paint.tone(Tone::Dim, &text::right(&text::duration(millis), TIME));
        self.headed(sign, phase.name(), &format!("{name}  {hosts}{time}"))
    }

    fn row(&self, row: &Row) -> String {
        // In the order of the inventory, as everywhere else.
        let known = self.run.hosts.iter().filter(|host| row.done.contains(*host));
        let others = row.done.iter().filter(|host| !self.run.hosts.contains(host));
        let hosts: Vec<String> = known.chain(others).cloned().collect();
        let hosts = if hosts.len() == self.run.hosts.len() && hosts.len() > 1 {
            text::plural(hosts.len(), "host")
        } else {
            text::names(&hosts, self.hosts_column())
        };
        let sent = if row.bytes > 0 { format!(" ({})", text::bytes(row.bytes)) } else { String::new() };
        self.step(Sign::Done, row.phase, &format!("{}{sent}", row.name), &hosts, row.millis)
    }

    fn tell_rows(&self, rows: &[Row]) {
        if self.tells_steps() {
            self.screen.above(rows.iter().map(|row| self.row(row)));
        }
    }

    /// The failure of a command whose output was shown already.
    fn command_failure(&self, task: &TaskRef, failure: &Failure, millis: u64) {
        let status = self.paint.tone(Tone::Bad, &format!("failed: {}", text::line(&failure.status)));
        let time = self.paint.tone(Tone::Dim, &format!("({})", text::duration(millis)));
        self.screen.above([self.headed(Sign::Failed, &text::line(&task.host), &format!("{status}  {time}"))]);
        self.screen.above(self.advice(failure, &" ".repeat(self.lead + 4)));
    }

    fn advice(&self, failure: &Failure, indent: &str) -> Vec<String> {
        let label = self.paint.tone(Tone::Busy, "hint:");
        let width = self.columns().saturating_sub(indent.len());
        let advice = failure.advice.iter().flat_map(|advice| hanging(&label, "hint:".len(), advice, Some(width)));
        advice.map(|line| format!("{indent}{line}")).collect()
    }

    /// A failure at once and in full; what is the same on another host is only named.
    fn failure(&mut self, task: &TaskRef, phase: Phase, name: &str, failure: &Failure, millis: u64, goes_on: bool) {
        if self.run.is_about_output() {
            return self.command_failure(task, failure, millis);
        }
        let host = text::line(&task.host);
        let (sign, tone, how) = if goes_on {
            (Sign::Care, Tone::Care, "failed, and the run goes on")
        } else {
            (Sign::Failed, Tone::Bad, "failed")
        };
        let indent = " ".repeat(self.lead + 4);
        let mut lines = vec![self.step(sign, phase, name, &host, millis)];
        let status = self.paint.tone(tone, &format!("{how}: {}", text::line(&failure.status)));
        let same = |(_, other): &&(String, Failure)| {
            (&other.status, &other.last_lines, &other.advice) == (&failure.status, &failure.last_lines, &failure.advice)
        };
        let told = self.shown.iter().find(same).filter(|_| !failure.last_lines.is_empty());
        if let Some((first, _)) = told {
            lines.push(format!("{indent}{status}, as on {first}"));
        } else {
            lines.push(format!("{indent}{status}"));
            let command = failure.command.iter().flat_map(|command| text::lines(command));
            lines.extend(command.map(|line| format!("{indent}{} {line}", self.paint.tone(Tone::Dim, "$"))));
            let printed = failure.last_lines.iter().flat_map(|line| text::lines(line));
            let side = self.paint.tone(tone, self.paint.side());
            lines.extend(printed.map(|line| format!("{indent}{side} {line}")));
            lines.extend(self.advice(failure, &indent));
            self.shown.push((host, failure.clone()));
        }
        self.screen.above(lines);
    }

    /// Something about a host or the run, in one or more lines.
    fn remark(&self, sign: Sign, host: Option<&str>, label: &str, content: &str) {
        let lead = host.map(text::line).unwrap_or_default();
        let width = self.columns().saturating_sub(self.lead + 4);
        let mut lines = Vec::new();
        for (index, line) in text::fold(content, width).into_iter().enumerate() {
            let line = if index == 0 { format!("{label}{line}") } else { line };
            lines.push(match (index, host) {
                (0, None) => format!("{} {line}", self.paint.sign(sign)),
                (0, Some(_)) => self.headed(sign, &lead, &line),
                (_, None) => format!("  {line}"),
                (_, Some(_)) => format!("{}{line}", " ".repeat(self.lead + 4)),
            });
        }
        self.screen.above(lines);
    }

    /// A line that a task printed.
    fn output(&self, task: &TaskRef, line: &str) {
        let host = text::left(&self.paint.cut(&text::line(&task.host), self.lead), self.lead);
        let side = self.paint.tone(Tone::Dim, self.paint.side());
        let margin = if self.run.is_about_output() { "" } else { "  " };
        self.screen.above([format!("{margin}{host} {margin}{side} {}", text::line(line)).trim_end().to_owned()]);
    }

    fn connecting(&mut self, hosts: &[String]) {
        self.rows.begin(hosts);
        self.board.phase(hosts);
        self.board.connecting(self.now);
        hosts.iter().for_each(|host| self.rows.started(host, Phase::Connect, LOG_IN));
    }

    fn run_started(&mut self, hosts: &[String]) {
        let names = self.run.hosts.iter().map(|host| text::width(host));
        // As wide as "put back", so that names of phases and hosts stand in one column.
        let least = if self.run.is_about_output() { 0 } else { 8 };
        self.lead = names.max().unwrap_or(LOCAL.len()).clamp(least, 24);
        self.board.start(hosts);
        // Every run begins so, whether or not it says that this is a phase.
        self.connecting(hosts);
        if self.tells_steps() {
            self.screen.above(self.header());
        }
    }

    fn ending(&mut self, ending: &Ending<'_>) {
        self.board.clear();
        let bad = ending.exit_code != 0;
        let rest = self.rows.rest();
        self.tell_rows(&rest);
        if self.tells_steps() || bad {
            let width = self.columns();
            let transcript = self.style.transcript.as_deref();
            self.screen.above([String::new()]);
            self.screen.above(ending.lines(&self.run, transcript, Some(width), self.paint));
        }
    }
}

impl Reporter for Terminal {
    fn event(&mut self, stamped: &Stamped) {
        self.now = self.now.max(stamped.at_millis);
        self.run.learn(&stamped.event);
        match &stamped.event {
            Event::RunStarted { hosts, .. } => self.run_started(hosts),
            Event::ReleaseChosen { release } if self.tells_steps() => {
                self.screen.above([self.headed(Sign::Note, "release", &text::line(release))]);
            }
            Event::PhaseStarted { phase, hosts, .. } => {
                let rest = self.rows.rest();
                self.tell_rows(&rest);
                if *phase == Phase::Connect {
                    self.connecting(hosts);
                } else {
                    self.rows.begin(hosts);
                    self.board.phase(hosts);
                }
            }
            Event::PhaseFinished { .. } => {
                let rest = self.rows.rest();
                self.tell_rows(&rest);
                self.board.phase(&[]);
            }
            Event::HostConnected { host, millis, .. } => {
                self.board.connected(host);
                let rows = self.rows.done(host, Phase::Connect, LOG_IN, *millis, 0);
                self.tell_rows(&rows);
            }
            Event::TaskStarted { task, phase, name, command, own } => {
                self.board.started(task, name, self.now);
                if !own {
                    self.rows.started(&task.host, *phase, name);
                }
                if self.style.verbose > 1
                    && let Some(command) = command
                {
                    text::lines(command).for_each(|line| self.output(task, &format!("$ {line}")));
                }
            }
            Event::TaskOutput { task, line, .. } => {
                if self.style.verbose > 0 || self.run.is_about_output() {
                    self.output(task, line);
                }
                // Drawn with the next tick, so that much output costs little.
                return;
            }
            Event::TaskProgress { task, sent, total } => {
                self.board.progress(task, *sent, *total, self.now);
                return;
            }
            Event::TaskFinished { task, phase, name, result, own, millis } => {
                let sent = self.board.finished(task, matches!(result, TaskResult::Failed(_)));
                let rows = match result {
                    TaskResult::Done if *own => Vec::new(),
                    TaskResult::Done => self.rows.done(&task.host, *phase, name, *millis, sent),
                    TaskResult::Failed(failure) => {
                        self.failure(task, *phase, name, failure, *millis, false);
                        self.rows.failed(&task.host, *phase, name, false)
                    }
                    TaskResult::Tolerated(failure) => {
                        self.failure(task, *phase, name, failure, *millis, true);
                        self.rows.failed(&task.host, *phase, name, true)
                    }
                };
                self.tell_rows(&rows);
            }
            Event::Notice { host, text } if self.tells_steps() => self.remark(Sign::Note, host.as_deref(), "", text),
            Event::Notice { .. } | Event::ReleaseChosen { .. } => {}
            Event::Warning { host, text } => {
                let label = self.paint.tone(Tone::Care, "warning: ");
                self.remark(Sign::Care, host.as_deref(), &label, text);
            }
            Event::RunFinished { .. } => {
                if let Some(ending) = Ending::of(&stamped.event) {
                    self.ending(&ending);
                }
            }
        }
        self.draw();
    }

    fn tick(&mut self, at_millis: u64) {
        self.now = self.now.max(at_millis);
        self.draw();
    }

    fn finish(&mut self) {
        self.screen.close();
    }
}
