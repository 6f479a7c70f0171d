//! The end of a run, as every reporter tells it: the table of hosts, what a person has to do, hints, and
//! the verdict in one line.

use super::paint::{Paint, Sign, Tone};
use super::table::{Cell, Table};
use super::text;
use crate::event::{Action, Event, HostState, HostSummary, Outcome};

/// What is known of a run before it ends.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// What is done, once it began.
    pub action: Option<Action>,
    /// The application.
    pub app: String,
    /// The environment.
    pub environment: Option<String>,
    /// The hosts, in the order of the inventory.
    pub hosts: Vec<String>,
    /// The revision.
    pub revision: Option<String>,
    /// Branch, author and title.
    pub description: Option<String>,
    /// The release, once it is chosen.
    pub release: Option<String>,
}

impl Run {
    /// Takes what `event` says about the run as a whole.
    pub fn learn(&mut self, event: &Event) {
        match event {
            Event::RunStarted { action, app, environment, hosts, revision, description } => {
                *self = Self {
                    action: Some(*action),
                    app: text::line(app),
                    environment: environment.as_deref().map(text::line),
                    hosts: hosts.iter().map(|host| text::line(host)).collect(),
                    revision: revision.as_deref().map(text::line),
                    description: description.as_deref().map(text::line),
                    release: None,
                };
            }
            Event::ReleaseChosen { release } => self.release = Some(text::line(release)),
            _ => {}
        }
    }

    /// Whether output is what the user asked for, as with `ship run`, and not a by-product.
    pub fn is_about_output(&self) -> bool {
        self.action == Some(Action::Run)
    }

    /// `Deploy tsosi to prod`.
    pub fn title(&self) -> String {
        let app = &self.app;
        let to = |word: &str| self.environment.as_ref().map(|name| format!(" {word} {name}")).unwrap_or_default();
        match self.action {
            Some(Action::Deploy) => format!("Deploy {app}{}", to("to")),
            Some(Action::Rollback) => format!("Roll back {app}{}", to("on")),
            Some(Action::Setup) => format!("Set up {app}{}", to("on")),
            Some(Action::Env) => format!("Change the settings of {app}{}", to("on")),
            Some(Action::Run) | None => format!("Run a command for {app}{}", to("on")),
        }
    }
}

/// The fields of the last event.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// How it ended.
    pub outcome: Outcome,
    /// The process's exit code.
    pub exit_code: u8,
    /// A row for each host.
    pub hosts: &'a [HostSummary],
    /// How long it took.
    pub millis: u64,
    /// What to do next.
    pub hints: &'a [String],
}

impl<'a> Ending<'a> {
    /// The ending that `event` is; `None` where it is another event.
    pub fn of(event: &'a Event) -> Option<Self> {
        match event {
            Event::RunFinished { outcome, exit_code, hosts, millis, hints, .. } => {
                Some(Self { outcome: *outcome, exit_code: *exit_code, hosts, millis: *millis, hints })
            }
            _ => None,
        }
    }

    /// Everything there is to say, as lines. `transcript` is where all output can be read again.
    pub fn lines(&self, run: &Run, transcript: Option<&str>, width: Option<usize>, paint: Paint) -> Vec<String> {
        let mut lines = Vec::new();
        let table = if run.action == Some(Action::Setup) { self.setup_table() } else { self.table() };
        // Where nothing ran there is no output that could say why.
        if !table.is_empty() && (!run.is_about_output() || self.outcome == Outcome::Refused) {
            lines.extend(table.lines(width, 2, paint));
            lines.push(String::new());
        }
        for host in self.hosts.iter().filter(|host| !host.commands.is_empty()) {
            let name = text::line(&host.host);
            lines.push(paint.tone(Tone::Strong, &format!("{name} needs a person. To see how it is, and to mend it:")));
            lines.extend(
                host.commands.iter().flat_map(|command| text::lines(command)).map(|line| format!("    {line}")),
            );
            lines.push(String::new());
        }
        for hint in self.hints {
            let label = paint.tone(Tone::Busy, "hint:");
            lines.extend(hanging(&label, "hint:".len(), hint, width));
        }
        if self.outcome != Outcome::Done {
            let label = paint.tone(Tone::Busy, "log:");
            lines.extend(transcript.map(|path| format!("{label}  {}", text::line(path))));
        }
        if lines.last().is_some_and(|line| !line.is_empty()) {
            lines.push(String::new());
        }
        lines.extend(self.verdict_lines(run, width, paint));
        lines
    }

    /// The verdict with its sign, the time it took and the exit code.
    fn verdict_lines(&self, run: &Run, width: Option<usize>, paint: Paint) -> Vec<String> {
        let (sign, tone) = match self.outcome {
            Outcome::Done => (Sign::Done, Tone::Good),
            Outcome::Interrupted => (Sign::Care, Tone::Care),
            Outcome::Failed | Outcome::Refused | Outcome::NeedsPerson => (Sign::Failed, Tone::Bad),
        };
        let time = text::duration(self.millis);
        let after =
            if self.exit_code == 0 { format!("({time})") } else { format!("({time}, exit code {})", self.exit_code) };
        let verdict = self.verdict(run);
        let room = width.map_or(usize::MAX, |width| width.saturating_sub(2).max(20));
        let mut parts = text::wrap(&verdict, room);
        if text::width(&verdict) + 2 + text::width(&after) <= room {
            parts = vec![format!("{}  {}", paint.tone(tone, &verdict), paint.tone(Tone::Dim, &after))];
        } else {
            parts = parts.iter().map(|part| paint.tone(tone, part)).collect();
            parts.push(paint.tone(Tone::Dim, &after));
        }
        let signed = |(index, part): (usize, String)| {
            if index == 0 { format!("{} {part}", paint.sign(sign)) } else { format!("  {part}") }
        };
        parts.into_iter().enumerate().map(signed).collect()
    }

    /// How it ended, in one sentence.
    pub fn verdict(&self, run: &Run) -> String {
        let noun = match run.action {
            Some(Action::Deploy) | None => "deploy",
            Some(Action::Rollback) => "rollback",
            Some(Action::Setup) => "setup",
            Some(Action::Run) => "command",
            Some(Action::Env) => "change",
        };
        let place = run.environment.as_deref().map(|name| format!(" on {name}")).unwrap_or_default();
        let to = run.environment.as_deref().map(|name| format!(" to {name}")).unwrap_or_default();
        let hosts = text::plural(self.hosts.len(), "host");
        match self.outcome {
            Outcome::Done => match (run.action, &run.release) {
                (Some(Action::Setup), _) if self.in_state(HostState::Changed).count() == 0 => {
                    let as_wanted = if self.hosts.len() == 1 {
                        "is as the recipe wants it"
                    } else {
                        "are as the recipe wants them"
                    };
                    format!("Nothing to do: {hosts}{place} {as_wanted}")
                }
                (Some(Action::Setup), _) => {
                    let changed = text::plural(self.in_state(HostState::Changed).count(), "host");
                    format!("Set up {} for {}{place}", changed, run.app)
                }
                (Some(Action::Run), _) => format!("Ran on {hosts}"),
                (Some(Action::Rollback), Some(release)) => format!("Rolled back{place}: {release} is live on {hosts}"),
                (_, Some(release)) => format!("Deployed {}{to}: {release} is live on {hosts}", run.app),
                (_, None) => format!("{} done on {hosts}", text::capital(noun)),
            },
            Outcome::Failed => format!("{} failed{}", text::capital(noun), self.states(run)),
            Outcome::Refused => format!("{} refused: nothing was changed", text::capital(noun)),
            Outcome::NeedsPerson => {
                let unknown: Vec<String> = self.in_state(HostState::Unknown).map(|host| host.host.clone()).collect();
                let verb = if unknown.len() == 1 { "needs" } else { "need" };
                format!("{} failed: {} {verb} a person", text::capital(noun), text::names(&unknown, 60))
            }
            Outcome::Interrupted => format!("{} interrupted{}", text::capital(noun), self.states(run)),
        }
    }

    /// `: 2 hosts put back, 1 host unchanged`.
    fn states(&self, run: &Run) -> String {
        if self.hosts.is_empty() || run.is_about_output() {
            return String::new();
        }
        let mut parts = Vec::new();
        for state in [HostState::Live, HostState::Changed, HostState::PutBack, HostState::Unchanged, HostState::Unknown]
        {
            let count = self.in_state(state).count();
            if count == self.hosts.len() && count > 1 {
                return format!(": all {count} hosts {}", state.name());
            }
            if count > 0 {
                parts.push(format!("{} {}", text::plural(count, "host"), state.name()));
            }
        }
        format!(": {}", parts.join(", "))
    }

    fn in_state(&self, state: HostState) -> impl Iterator<Item = &'a HostSummary> {
        self.hosts.iter().filter(move |host| host.state == state)
    }

    /// Host, state, what was changed: a setup knows no releases.
    fn setup_table(&self) -> Table {
        let mut table = Table::new(&["HOST", "STATE", "WHAT"]);
        for host in self.hosts {
            table.row([
                Cell::new(&host.host, Tone::Strong),
                Cell::new(host.state.name(), if host.state == HostState::Unknown { Tone::Bad } else { Tone::Plain }),
                Cell::from(host.why.as_deref().unwrap_or("-")),
            ]);
        }
        table
    }

    /// Host, before, after, state, why.
    pub fn table(&self) -> Table {
        let mut table = Table::new(&["HOST", "BEFORE", "AFTER", "STATE", "WHY"]);
        for host in self.hosts {
            let tone = match host.state {
                HostState::Live | HostState::Changed => Tone::Good,
                HostState::Unchanged => Tone::Plain,
                HostState::PutBack => Tone::Care,
                HostState::Unknown => Tone::Bad,
            };
            let release = |id: &Option<String>| Cell::from(id.as_deref().unwrap_or("-"));
            let after = if host.state == HostState::Unknown && host.after.is_none() {
                Cell::from("?")
            } else {
                release(&host.after)
            };
            table.row([
                Cell::new(&host.host, Tone::Strong),
                release(&host.before),
                after,
                Cell::new(host.state.name(), tone),
                Cell::from(host.why.as_deref().unwrap_or_default()),
            ]);
        }
        table
    }
}

/// `label` and `text` beside it; where it is longer than a line, it hangs under its own start.
pub fn hanging(label: &str, label_width: usize, content: &str, width: Option<usize>) -> Vec<String> {
    let start = label_width + 1;
    let limit = width.map_or(usize::MAX, |width| width.saturating_sub(start).max(20));
    text::fold(content, limit)
        .into_iter()
        .enumerate()
        .map(
            |(index, part)| if index == 0 { format!("{label} {part}") } else { format!("{}{part}", " ".repeat(start)) },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(outcome: Outcome, states: &[HostState]) -> String {
        let hosts: Vec<HostSummary> = states
            .iter()
            .enumerate()
            .map(|(index, state)| HostSummary {
                host: format!("web{}", index + 1),
                before: None,
                after: None,
                state: *state,
                why: None,
                commands: Vec::new(),
            })
            .collect();
        let run = Run { action: Some(Action::Deploy), app: "shop".to_owned(), ..Run::default() };
        Ending { outcome, exit_code: 1, hosts: &hosts, millis: 1, hints: &[] }.verdict(&run)
    }

    #[test]
    fn the_verdict_says_what_became_of_the_hosts() {
        use HostState::{Live, PutBack, Unchanged, Unknown};
        assert_eq!(verdict(Outcome::Failed, &[PutBack, PutBack]), "Deploy failed: all 2 hosts put back");
        assert_eq!(
            verdict(Outcome::Failed, &[PutBack, Unchanged, Live]),
            "Deploy failed: 1 host live, 1 host put back, 1 host unchanged"
        );
        assert_eq!(verdict(Outcome::NeedsPerson, &[PutBack, Unknown]), "Deploy failed: web2 needs a person");
        assert_eq!(verdict(Outcome::NeedsPerson, &[Unknown, Unknown]), "Deploy failed: web1, web2 need a person");
        assert_eq!(verdict(Outcome::Interrupted, &[Unchanged]), "Deploy interrupted: 1 host unchanged");
        assert_eq!(verdict(Outcome::Refused, &[Unchanged]), "Deploy refused: nothing was changed");
        assert_eq!(verdict(Outcome::Failed, &[]), "Deploy failed");
    }

    #[test]
    fn a_long_hint_hangs_under_its_start_and_commands_stay_whole() {
        let lines = hanging("hint:", 5, "one two three four five\n  ssh web1 with a long command", Some(20));
        assert_eq!(lines, ["hint: one two three four", "      five", "        ssh web1 with a long command"]);
    }
}
