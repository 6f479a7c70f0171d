//! Which reporters a run has, from the command line and the machine.

use super::args::{Global, Output};
use super::machine::Machine;
use super::stage::Telling;
use crate::report::{self, Format, Look, Reporters, Style, TranscriptOf, Wanted};

/// The reporters of a run.
pub fn choose(global: &Global, machine: &Machine, telling: &Telling<'_>) -> Reporters {
    let dumb = machine.variable("TERM") == Some("dumb");
    let terminal = machine.stdout_is_terminal && machine.stderr_is_terminal && !dumb;
    let format = match global.output {
        Output::Auto => Format::Auto,
        Output::Plain => Format::Plain,
        Output::Json => Format::Json,
        Output::Github => Format::Github,
    };
    let look = report::choose(format, terminal, machine.github_actions());
    let of = TranscriptOf { action: telling.action, environment: telling.environment, started: (machine.clock)() };
    report::reporters(Wanted {
        style: style(global, machine, look),
        look,
        github_actions: machine.github_actions(),
        summary: machine.variable("GITHUB_STEP_SUMMARY").map(Into::into),
        secrets: &telling.secrets,
        transcript: telling.transcripts.as_deref().map(|folder| (folder, of)),
    })
}

/// Colours on a terminal, and in GitHub's log, which shows them; signs beyond ASCII where the locale has them.
fn style(global: &Global, machine: &Machine, look: Look) -> Style {
    let wanted = !global.no_color && machine.variable("NO_COLOR").is_none();
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| machine.variable(name)).unwrap_or("UTF-8");
    let unicode = ["utf-8", "utf8"].iter().any(|name| locale.to_ascii_lowercase().contains(name));
    Style {
        color: wanted && matches!(look, Look::Terminal | Look::Github),
        unicode,
        terminal_width: (look == Look::Terminal).then(report::terminal_size).flatten().map(|(width, _)| width),
        quiet: global.quiet,
        verbose: global.verbose,
        transcript: None,
    }
}

/// How a text is painted that a command prints.
pub fn color(global: &Global, machine: &Machine) -> bool {
    machine.stderr_is_terminal && !global.no_color && machine.variable("NO_COLOR").is_none()
}
