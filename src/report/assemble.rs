//! Which reporters a run has: what the user looks at, and the transcript.

use std::path::{Path, PathBuf};

use super::github::Github;
use super::json::Json;
use super::plain::Plain;
use super::printer::Printer;
use super::screen::Curtain;
use super::terminal::Terminal;
use super::{Look, Reporter, Style, Transcript, TranscriptOf};
use crate::secret::Secret;

/// What reporters are wanted.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// What the user looks at.
    pub look: Look,
    /// How it should look.
    pub style: Style,
    /// Whether the GitHub runner reads standard output. Only then are secrets announced to it.
    pub github_actions: bool,
    /// `$GITHUB_STEP_SUMMARY`.
    pub summary: Option<PathBuf>,
    /// The secrets of the run.
    pub secrets: &'a [Secret],
    /// The folder of the transcripts (`.ship/log` of the project) and which run this is.
    pub transcript: Option<(&'a Path, TranscriptOf<'a>)>,
}

/// The reporters of a run.
#[derive(Debug)]
pub struct Reporters {
    /// For [`super::listen`].
    pub list: Vec<Box<dyn Reporter>>,
    /// What moves live lines out of the way of a question.
    pub curtain: Curtain,
}

/// The reporters that are `wanted`.
pub fn reporters(wanted: Wanted<'_>) -> Reporters {
    let Wanted { look, mut style, github_actions, summary, secrets, transcript } = wanted;
    let transcript = transcript.map(|(folder, of)| Transcript::create(folder, of));
    if let Some(path) = transcript.as_ref().and_then(Transcript::path) {
        style.transcript = Some(path.display().to_string());
    }
    let mut curtain = Curtain::default();
    let mut list: Vec<Box<dyn Reporter>> = Vec::new();
    match look {
        Look::Terminal => {
            let terminal = Terminal::stderr(style);
            curtain = terminal.curtain();
            list.push(Box::new(terminal));
        }
        Look::Plain => list.push(Box::new(Plain::new(Printer::stdout(), style))),
        Look::Json => list.push(Box::new(Json::new(Printer::stdout()))),
        Look::Github => {
            let secrets = if github_actions { secrets } else { &[] };
            list.push(Box::new(Github::new(Printer::stdout(), style, secrets, summary)));
        }
    }
    list.extend(transcript.map(|transcript| Box::new(transcript) as Box<dyn Reporter>));
    Reporters { list, curtain }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Action;

    #[test]
    fn a_run_has_what_the_user_looks_at_and_a_transcript() {
        let place = tempfile::tempdir().unwrap();
        let of = TranscriptOf { action: Action::Deploy, environment: None, started: jiff::Timestamp::UNIX_EPOCH };
        let wanted = |look, transcript| Wanted {
            look,
            style: Style::default(),
            github_actions: false,
            summary: None,
            secrets: &[],
            transcript,
        };
        for look in [Look::Terminal, Look::Plain, Look::Json, Look::Github] {
            assert_eq!(reporters(wanted(look, None)).list.len(), 1);
            let all = format!("{:?}", reporters(wanted(look, Some((place.path(), of)))).list);
            assert!(all.contains("19700101T000000Z-deploy"), "{all}");
        }
        // Holding a curtain where nothing is live is no harm.
        drop(reporters(wanted(Look::Json, None)).curtain.hold());
    }
}
