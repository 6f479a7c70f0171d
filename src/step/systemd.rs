//! `systemd`: acts on units with one exact sudo command each, then watches that they stay up.
//!
//! `systemctl restart` says 0 for a unit that dies a moment later, so a window decides: the same
//! InvocationID, no automatic restart and `active` for as long as the window lasts.

use std::time::Duration;

use super::ground::{Change, Ground, Noun};
use super::link::wrong;
use super::{Action, Context, Judge, Poll, Sample, Task, Verdict, sudo};
use crate::command::Command;
use crate::document::{Node, Problems, Reader};

/// One line for the documentation.
pub const SUMMARY: &str = "restarts, reloads, starts or stops units with one exact sudo command each, then watches them; in `setup`, enables and starts them";
/// An example in TOML.
pub const EXAMPLE: &str = r#"systemd = { restart = ["app@blue"], reload = ["nginx"], watch = "2s" }"#;

/// How long units must stay up when the recipe does not say.
pub const DEFAULT_WINDOW: Duration = Duration::from_secs(2);

/// The pause between looks at units.
const INTERVAL: Duration = Duration::from_millis(250);

/// The time in which systemd counts starts (systemd-system.conf(5), `DefaultStartLimitIntervalSec`).
const START_LIMIT: Duration = Duration::from_secs(10);

/// How many journal lines are shown of a unit that failed.
const JOURNAL_LINES: &str = "20";

/// A rendered `systemd` step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Systemd {
    /// Whether unit files are read again first.
    pub daemon_reload: bool,
    /// Units to restart.
    pub restart: Vec<String>,
    /// Units to reload.
    pub reload: Vec<String>,
    /// Units to start.
    pub start: Vec<String>,
    /// Units to stop.
    pub stop: Vec<String>,
    /// Units that are started when the host starts; for `setup`.
    pub enable: Vec<String>,
    /// How long restarted, reloaded and started units must stay up; zero watches nothing.
    pub watch: Duration,
}

impl Systemd {
    /// Reads the body.
    pub fn read(body: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.len();
        let mut reader = Reader::new("`systemd`", body, problems)?;
        let step = Self {
            daemon_reload: reader.boolean("daemon_reload").unwrap_or(false),
            restart: reader.strings("restart").unwrap_or_default(),
            reload: reader.strings("reload").unwrap_or_default(),
            start: reader.strings("start").unwrap_or_default(),
            stop: reader.strings("stop").unwrap_or_default(),
            enable: reader.strings("enable").unwrap_or_default(),
            watch: reader.duration("watch").unwrap_or(DEFAULT_WINDOW),
        };
        reader.finish();
        if !step.daemon_reload && step.units().is_empty() && step.stop.is_empty() && step.enable.is_empty() {
            problems.push(wrong(&body.place, "`systemd` names no unit".to_owned()));
        }
        for unit in step.units().iter().chain(&step.stop).chain(&step.enable) {
            if !unit.contains("{{") && !valid_unit(unit) {
                problems.push(wrong(&body.place, format!("{unit:?} is no name of a unit")));
            }
        }
        (problems.len() == before).then_some(step)
    }

    /// The units that have to be up afterwards.
    pub fn units(&self) -> Vec<String> {
        self.restart.iter().chain(&self.reload).chain(&self.start).cloned().collect()
    }

    /// The name of a step whose author gave it none.
    pub fn title(&self) -> String {
        let verbs = [
            ("restart", &self.restart),
            ("reload", &self.reload),
            ("enable", &self.enable),
            ("start", &self.start),
            ("stop", &self.stop),
        ];
        let parts: Vec<String> = verbs
            .iter()
            .filter(|(_, units)| !units.is_empty())
            .map(|(verb, units)| format!("{verb} {}", units.join(", ")))
            .collect();
        if parts.is_empty() { "Read unit files again".to_owned() } else { parts.join("; ") }
    }

    /// One sudo command for each unit and verb, then the watch.
    ///
    /// The commands have exactly the form that administrators write into sudoers (`systemctl restart X`).
    pub fn tasks(&self, context: &Context<'_>) -> Result<Vec<Task>, String> {
        let systemctl = context.program("systemctl")?;
        let mut tasks = Vec::new();
        if context.put_back {
            // After a crash loop systemd refuses to start a unit (`start-limit-hit`) until it is told to forget.
            for unit in self.restart.iter().chain(&self.start) {
                let command = Command::argv([&systemctl, "reset-failed", unit]).sudo();
                let mut task = context.task(Action::Command(context.limited(command))).tolerated();
                task.name = format!("systemctl reset-failed {unit}");
                task.unimportant =
                    Some("it matters only after a crash loop, and `ship sudoers` prints the rule for it");
                tasks.push(task);
            }
        }
        let mut act = |words: &[&str]| {
            let argv = std::iter::once(systemctl.as_str()).chain(words.iter().copied());
            let command = context.limited(Command::argv(argv).sudo());
            let mut task = context.task(Action::Command(command)).meanings(&[(1, sudo::REFUSED)]);
            task.name = format!("systemctl {}", words.join(" "));
            if context.put_back && matches!(words, ["restart" | "start", ..]) && task.attempts < 2 {
                // Where `reset-failed` was refused, the limit ends by itself, and then the unit starts.
                task.attempts = 2;
                task.pause = START_LIMIT;
            }
            if let Some(unit) = words.get(1) {
                task.explain = journal(context, &[(*unit).to_owned()]);
            }
            tasks.push(task);
        };
        if self.daemon_reload {
            act(&["daemon-reload"]);
        }
        for (verb, units) in
            [("stop", &self.stop), ("restart", &self.restart), ("reload", &self.reload), ("start", &self.start)]
        {
            for unit in units {
                act(&[verb, unit]);
            }
        }
        let units = self.units();
        if !units.is_empty() && !self.watch.is_zero() {
            tasks.push(watch(context, &systemctl, units, self.watch));
        }
        Ok(tasks)
    }

    /// What has to change in `setup`, where only units that are not so yet are touched.
    pub fn changes(&self, ground: &Ground<'_>) -> Vec<Change> {
        let known = |unit: &String| ground.found.units.get(unit).cloned().unwrap_or_default();
        let mut changes = Vec::new();
        let mut act = |title: String, words: &[&str]| {
            let argv: Vec<&str> = std::iter::once("systemctl").chain(words.iter().copied()).collect();
            changes.push(Change::new(Noun::Unit, title).task(ground.root(argv.join(" "), &argv)));
        };
        let all = || self.enable.iter().chain(&self.start);
        if all().any(|unit| known(unit).needs_reload) {
            act("read unit files again".to_owned(), &["daemon-reload"]);
        }
        for unit in &self.enable {
            // The others cannot be enabled, or need not be (systemctl(1), `is-enabled`).
            let state = known(unit).file_state;
            if !["enabled", "static", "indirect", "generated", "alias"].contains(&state.as_str()) {
                act(format!("{unit}: enable it"), &["enable", unit]);
            }
        }
        let stopped: Vec<&String> =
            self.start.iter().filter(|unit| !["active", "reloading"].contains(&known(unit).active.as_str())).collect();
        for unit in &stopped {
            act(format!("{unit}: start it"), &["start", unit]);
        }
        if let Some(last) = changes.last_mut().filter(|_| !stopped.is_empty() && !self.watch.is_zero()) {
            let systemctl = ground.context.facts.program("systemctl").unwrap_or("systemctl");
            let units = stopped.into_iter().cloned().collect();
            last.tasks.push(watch(ground.context, systemctl, units, self.watch));
        }
        changes
    }
}

/// Whether `name` can be a unit's name (systemd.unit(5)): not an option, no path, no white space.
pub(super) fn valid_unit(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || ":_.@\\-".contains(c))
}

/// The last journal lines of `units`, where the host has a journal.
fn journal(context: &Context<'_>, units: &[String]) -> Option<Command> {
    let journalctl = context.facts.program("journalctl")?;
    let mut argv = vec![journalctl, "--no-pager", "--quiet", "--output", "short-iso", "--lines", JOURNAL_LINES];
    for unit in units {
        argv.extend(["--unit", unit.as_str()]);
    }
    Some(Command::argv(argv).timeout(Duration::from_secs(10)))
}

/// Looks at all units together: one question for all.
fn watch(context: &Context<'_>, systemctl: &str, units: Vec<String>, window: Duration) -> Task {
    let mut argv = vec![systemctl.to_owned(), "show".to_owned(), "--no-pager".to_owned()];
    argv.push("--property=Id,Type,ActiveState,SubState,Result,InvocationID,NRestarts".to_owned());
    argv.push("--".to_owned());
    argv.extend(units.iter().cloned());
    let within = context.timeout.unwrap_or(Duration::from_secs(60)) + window;
    let poll = Poll {
        probe: Command::argv(argv).timeout(Duration::from_secs(20)),
        judge: Judge::Steady { units: units.clone(), window },
        interval: INTERVAL.min(window),
        within,
    };
    let mut task = context.task(Action::Poll(poll));
    task.attempts = 1;
    task.name = format!("watch {} for {:.1} s", units.join(", "), window.as_secs_f64());
    task.explain = journal(context, &units);
    task
}

/// What one block of `systemctl show` says of one unit.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unit<'a> {
    kind: &'a str,
    active: &'a str,
    sub: &'a str,
    result: &'a str,
    invocation: &'a str,
    restarts: u32,
}

/// Blocks are separated by blank lines, in the order in which the units were named (systemctl(1), `show`).
fn parse(output: &str) -> Vec<Unit<'_>> {
    output
        .split("\n\n")
        .filter(|block| !block.trim().is_empty())
        .map(|block| {
            let mut unit = Unit::default();
            for (key, value) in block.lines().filter_map(|line| line.split_once('=')) {
                match key {
                    "Type" => unit.kind = value,
                    "ActiveState" => unit.active = value,
                    "SubState" => unit.sub = value,
                    "Result" => unit.result = value,
                    "InvocationID" => unit.invocation = value,
                    "NRestarts" => unit.restarts = value.parse().unwrap_or(0),
                    _ => {}
                }
            }
            unit
        })
        .collect()
}

/// Whether every unit has stayed up since it was first seen up.
pub fn judge(names: &[String], window: Duration, samples: &[Sample]) -> Verdict {
    let Some(last) = samples.last() else { return Verdict::Again("no answer yet".to_owned()) };
    if !last.success {
        return Verdict::Failed("`systemctl show` failed".to_owned());
    }
    let now = parse(&last.output);
    if now.len() != names.len() {
        return Verdict::Failed(format!("`systemctl show` answered for {} of {} units", now.len(), names.len()));
    }
    for (index, (name, unit)) in names.iter().zip(&now).enumerate() {
        // The counter goes on from before `restart` where nobody has reset it, so only its growth counts.
        let first = samples.first().map(|sample| parse(&sample.output));
        let restarted = first.as_ref().and_then(|units| units.get(index)).is_some_and(|first| {
            unit.restarts > first.restarts
                || (!first.invocation.is_empty() && !unit.invocation.is_empty() && first.invocation != unit.invocation)
        });
        match (unit.active, unit.kind) {
            // A unit of these types ends when its work is done.
            ("inactive", "oneshot") if unit.result == "success" => {}
            ("failed" | "inactive", _) => {
                return Verdict::Failed(format!("{name} is {} ({}, result: {})", unit.active, unit.sub, unit.result));
            }
            _ if restarted => {
                return Verdict::Failed(format!(
                    "{name} ended and was started again by systemd (now {}, {})",
                    unit.active, unit.sub
                ));
            }
            ("active", _) => {}
            _ => return Verdict::Again(format!("{name} is {} ({})", unit.active, unit.sub)),
        }
    }
    // The window counts from the first answer since which no unit was on its way up.
    let up = |sample: &Sample| parse(&sample.output).iter().all(|unit| matches!(unit.active, "active" | "inactive"));
    let since =
        samples.iter().rev().take_while(|sample| up(sample)).last().map_or(last.elapsed, |sample| sample.elapsed);
    if last.elapsed.saturating_sub(since) >= window { Verdict::Done } else { Verdict::Again("up; watching".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(millis: u64, active: &str, invocation: &str, restarts: u32) -> Sample {
        Sample {
            elapsed: Duration::from_millis(millis),
            success: true,
            output: format!(
                "Type=simple\nId=app.service\nActiveState={active}\nSubState=x\nResult=success\nInvocationID={invocation}\nNRestarts={restarts}\n"
            ),
        }
    }

    fn verdict(samples: &[Sample]) -> Verdict {
        judge(&["app".to_owned()], Duration::from_secs(2), samples)
    }

    #[test]
    fn a_unit_that_stays_up_for_the_window_is_done() {
        assert_eq!(verdict(&[sample(0, "active", "a", 0)]), Verdict::Again("up; watching".to_owned()));
        assert_eq!(verdict(&[sample(0, "active", "a", 0), sample(2000, "active", "a", 0)]), Verdict::Done);
    }

    #[test]
    fn a_unit_that_dies_in_the_window_is_a_failure() {
        let died = verdict(&[sample(0, "active", "a", 0), sample(1000, "failed", "a", 0)]);
        assert!(matches!(died, Verdict::Failed(_)), "{died:?}");
    }

    #[test]
    fn an_automatic_restart_is_a_failure_though_the_unit_is_active() {
        assert!(matches!(verdict(&[sample(0, "active", "a", 1), sample(500, "active", "a", 2)]), Verdict::Failed(_)));
        assert!(matches!(verdict(&[sample(0, "active", "a", 0), sample(500, "active", "b", 0)]), Verdict::Failed(_)));
    }

    #[test]
    fn restarts_from_before_are_forgiven() {
        assert_eq!(verdict(&[sample(0, "active", "a", 3), sample(2000, "active", "a", 3)]), Verdict::Done);
    }

    #[test]
    fn the_window_counts_from_when_the_unit_is_up() {
        let samples = [sample(0, "activating", "a", 0), sample(3000, "active", "a", 0), sample(4000, "active", "a", 0)];
        assert_eq!(verdict(&samples), Verdict::Again("up; watching".to_owned()));
    }

    #[test]
    fn names_that_could_be_options_or_paths_are_no_units() {
        for unit in ["app", "medctrl@development", "a-b.service", "x\\x2dy.mount"] {
            assert!(valid_unit(unit), "{unit}");
        }
        for other in ["", "--root=/x", "a b", "../x", "a;b"] {
            assert!(!valid_unit(other), "{other}");
        }
    }
}
