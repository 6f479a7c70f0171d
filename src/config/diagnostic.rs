//! Problems as text in the shape of rustc's.

use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::document::{Place, Problem};

/// How wide a terminal is taken to be; longer lines are cut around what they are shown for.
const WIDTH: usize = 140;

/// The problems, sorted by file and position, each with its line. What was found twice, for example on
/// two hosts, is shown once.
pub fn render(problems: &[Problem], color: bool) -> String {
    let mut sorted: Vec<&Problem> = Vec::new();
    for problem in problems {
        if !sorted.contains(&problem) {
            sorted.push(problem);
        }
    }
    sorted.sort_by(|a, b| order(a).cmp(&order(b)));
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(WIDTH);
    sorted.into_iter().map(|problem| one(problem, &renderer)).collect::<Vec<_>>().join("\n\n") + "\n"
}

/// What stands on the command line comes first, then file by file.
fn order(problem: &Problem) -> Option<(&std::path::Path, usize, usize)> {
    problem.place.as_ref().map(|place| (place.source.path.as_path(), place.span.start, place.span.end))
}

fn one(problem: &Problem, renderer: &Renderer) -> String {
    let path = problem.place.as_ref().map(|place| place.source.path.display().to_string());
    let mut group =
        Level::ERROR.primary_title(problem.message.as_str()).elements(problem.place.as_ref().map(|place| {
            let annotation = AnnotationKind::Primary.span(shown(place)).label(problem.label.as_deref());
            Snippet::source(place.source.text.as_str()).path(path.as_deref()).annotation(annotation)
        }));
    if problem.place.is_none() {
        group = group.elements(problem.label.as_deref().map(|label| Level::NOTE.message(label)));
    }
    let group = group.elements(problem.help.as_deref().map(|help| Level::HELP.message(help)));
    renderer.render(&[group])
}

/// The part of the first line: a table that spans half a file says no more than its first line.
fn shown(place: &Place) -> Range<usize> {
    let text = &place.source.text;
    let start = place.span.start.min(text.len());
    let end = place.span.end.clamp(start, text.len());
    let first = text.get(start..end).and_then(|spanned| spanned.lines().next());
    start..first.map_or(end, |line| start + line.len())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::document::Source;

    #[test]
    fn problems_are_sorted_and_shown_with_their_lines() {
        let text = "app = \"x\"\nhosts = 3\n[[prepare]]\nrun = '''\na\nb'''\n".to_owned();
        let source = Arc::new(Source { path: PathBuf::from("inventory.toml"), text });
        let at = |span| Some(Place { source: Arc::clone(&source), span });
        let problem = |place, message: &str, label: Option<&str>, help: Option<&str>| Problem {
            place,
            message: message.to_owned(),
            label: label.map(str::to_owned),
            help: help.map(str::to_owned),
        };
        let shown = render(
            &[
                problem(at(38..47), "the step is long", None, None),
                problem(at(18..19), "`hosts` is 3", Some("expected a table"), Some("did you mean `host`?")),
                problem(at(18..19), "`hosts` is 3", Some("expected a table"), Some("did you mean `host`?")),
                problem(None, "no environment `prdo`", None, Some("did you mean `prod`?")),
            ],
            false,
        );
        insta::assert_snapshot!(shown, @"
        error: no environment `prdo`
         |
         = help: did you mean `prod`?

        error: `hosts` is 3
         --> inventory.toml:2:9
          |
        2 | hosts = 3
          |         ^ expected a table
          |
          = help: did you mean `host`?

        error: the step is long
         --> inventory.toml:4:7
          |
        4 | run = '''
          |       ^^^
        ");
    }
}
