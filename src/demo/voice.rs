//! What is said between the acts of the demo.

use std::path::Path;
use std::time::Duration;

use super::act::{Act, Deed, Outcome, title};
use super::visitor::Seen;
use super::world::World;
use crate::cli::args::{Global, Output};
use crate::cli::machine::Machine;
use crate::cli::reporters::color;
use crate::event::millis;
use crate::report::text::{duration, plural};
use crate::report::{Cell, Paint, Style, Table, Tone, print_stderr, print_stdout};

/// Says it, or is silent.
pub(super) struct Voice {
    paint: Paint,
    quiet: bool,
    /// Standard output belongs to the events.
    aside: bool,
}

impl Voice {
    /// A voice as `global` wants it.
    pub(super) fn new(machine: &Machine, global: &Global) -> Self {
        let color = color(global, machine) && machine.stdout_is_terminal && machine.variable("TERM") != Some("dumb");
        let paint = Paint::new(&Style { color, ..Style::default() });
        Self { paint, quiet: global.quiet, aside: global.output == Output::Json }
    }

    /// Says what there is.
    pub(super) fn welcome(&self, world: &World) {
        let mut text = String::from(
            "Two servers run inside this program. ship knows them as it knows any other: an address, a host key,\n\
             a login over SSH.\n\n",
        );
        for (name, ssh, web) in world.addresses() {
            text.push_str(&format!("  {name}  SSH on 127.0.0.1:{ssh}, its web server on http://127.0.0.1:{web}/\n"));
        }
        text.push_str(&format!(
            "\nThey and the project live in {}. Your own SSH settings,\nkeys and hosts are not touched.\n",
            world.folder().display()
        ));
        self.say(&text);
    }

    /// Announces an act.
    pub(super) fn before(&self, number: usize, act: &Act, artifact: Option<&Path>) {
        let command = match (act.deed, artifact) {
            (Deed::Deploy(_), None) => "ship deploy --branch main".to_owned(),
            (Deed::Deploy(_), Some(folder)) => format!("ship deploy --artifact {}", folder.display()),
            (Deed::Rollback, _) => "ship rollback".to_owned(),
        };
        let heading = self.paint.tone(Tone::Strong, &format!("{number}. {}", act.title));
        let command = self.paint.tone(Tone::Busy, &format!("$ {command}"));
        self.say(&format!("\n{heading}\n{}\n\n{command}\n", act.about));
    }

    /// Tells what came of it, as the web servers have it.
    pub(super) fn after(&self, act: &Act, outcome: &Outcome, differences: &[String]) {
        let live: Vec<String> = outcome
            .live
            .iter()
            .map(|(host, live)| match live {
                Ok(title) => format!("{host} serves \"{title}\""),
                Err(why) => format!("{host} serves nothing: {why}"),
            })
            .collect();
        let (verdict, tone) = if differences.is_empty() {
            ("as it has to be", Tone::Good)
        } else {
            ("which is not how it has to be", Tone::Bad)
        };
        let verdict = self.paint.tone(tone, verdict);
        let mut text = format!("\n=> Exit code {}. Asked now, {}: {verdict}.\n", outcome.exit, live.join(", "));
        if let (Some(number), 1..) = (act.passing, outcome.passing) {
            let times = plural(usize::try_from(outcome.passing).unwrap_or(usize::MAX), "time");
            text.push_str(&format!("   The visitor saw \"{}\" {times} before it was put back.\n", title(number)));
        }
        self.say(&text);
    }

    /// Sums up.
    pub(super) fn summary(&self, acts: &[(Act, Outcome)], seen: &Seen, took: Duration, left: &str) {
        let mut table = Table::new(&["act", "exit code", "took", "live afterwards"]);
        for (act, outcome) in acts {
            let live: Vec<String> = outcome
                .live
                .iter()
                .map(|(host, live)| format!("{host}: {}", live.as_ref().map_or("nothing", String::as_str)))
                .collect();
            table.row([
                Cell::from(act.title),
                Cell::from(outcome.exit.to_string()),
                Cell::from(duration(millis(outcome.took))),
                Cell::from(live.join(", ")),
            ]);
        }
        let mut text = format!("\n{}\n", self.paint.tone(Tone::Strong, "What happened"));
        for line in table.lines(None, 2, self.paint) {
            text.push_str(&format!("{line}\n"));
        }
        let titles: Vec<String> = seen.titles.iter().map(|(title, count)| format!("{title}: {count}")).collect();
        let failures = if seen.failures == 0 { Tone::Good } else { Tone::Bad };
        text.push_str(&format!(
            "\nThe visitor asked {} times and got {}.\n",
            seen.requests(),
            self.paint.tone(failures, &format!("{} failures", seen.failures)),
        ));
        if !titles.is_empty() {
            text.push_str(&format!("Pages seen: {}.\n", titles.join(", ")));
        }
        text.push_str(&format!("It all took {}; {left}.\n", duration(millis(took))));
        self.print(&text);
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            self.print(text);
        }
    }

    fn print(&self, text: &str) {
        if self.aside {
            print_stderr(text);
        } else {
            // Who does not want to hear it is no reason to stop.
            let _ = print_stdout(text);
        }
    }
}
