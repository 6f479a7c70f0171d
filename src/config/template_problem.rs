//! Errors of the template engine, in the words and places of the recipe.

use minijinja::{Error, ErrorKind};

use crate::config::template::NO_VALUE;
use crate::document::{Node, Problem};
use crate::secret::Masker;

/// `error` of the template `text` at `node`. What the engine quotes is masked.
pub fn problem(error: &Error, text: &str, node: &Node, masker: &Masker) -> Problem {
    let range = error.range().filter(|range| range.end <= text.len());
    let place = range.as_ref().map_or_else(|| node.place.clone(), |range| node.inside(range));
    let said = range
        .and_then(|range| text.get(range))
        .map(|said| said.trim_matches(['{', '}', '%', '-', ' ']))
        .filter(|said| !said.is_empty() && !said.contains('\n'));
    let detail = error.detail().map(|detail| masker.mask(detail));
    let what = said.map_or_else(|| "the template".to_owned(), |said| format!("`{said}`"));
    match error.kind() {
        ErrorKind::SyntaxError => {
            let help = text.contains("{#").then(|| {
                "`{#` begins a comment; for the shell's length, write `{% raw %}${#name}{% endraw %}`".to_owned()
            });
            let problem = Problem::at(&place, "the template cannot be read").help(help);
            Problem { label: detail, ..problem }
        }
        ErrorKind::UndefinedError => Problem { label: detail, ..Problem::at(&place, format!("{what} is not defined")) },
        ErrorKind::InvalidOperation if error.detail() == Some(NO_VALUE) => {
            Problem::at(&place, format!("{what} has no value in this run")).label("expected a value").help(
                "write `|default('…')` where it may be left out, or keep the step from happening with `when`"
                    .to_owned(),
            )
        }
        ErrorKind::InvalidOperation => {
            Problem { label: detail, ..Problem::at(&place, format!("{what} cannot be used like this")) }
        }
        ErrorKind::OutOfFuel => {
            Problem::at(&place, "this template does not come to an end").label("expected less work")
        }
        kind => Problem::at(&place, format!("{what} fails: {kind}")).label(detail.unwrap_or_else(|| kind.to_string())),
    }
}
