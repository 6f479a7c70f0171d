//! `settings`: a file rendered from a template into the release, so that code and settings change together.

use super::link::{inside, wrong};
use crate::document::{Node, Problems, Reader};

/// One line for the documentation.
pub const SUMMARY: &str = "renders a template of the project into the release, 0600 before any content";
/// An example in TOML.
pub const EXAMPLE: &str = r#"settings = { template = "settings.py.j2", to = "app/settings_local.py", mode = "0600" }"#;

/// A rendered `settings` step: its paths. The template's text is rendered by `config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The template, relative to the project folder.
    pub template: String,
    /// Where the file goes, relative to the release.
    pub to: String,
    /// The permission bits; 0600 unless the recipe says otherwise.
    pub mode: u32,
}

impl Settings {
    /// Reads the body.
    pub fn read(body: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.len();
        let mut reader = Reader::new("`settings`", body, problems)?;
        let template = reader.required_string("template");
        let to = reader.required_string("to");
        let mode = match reader.string("mode") {
            Some(text) => match u32::from_str_radix(&text, 8) {
                Ok(mode) if mode <= 0o777 => mode,
                _ => {
                    let place = reader.node("mode").map_or_else(|| body.place.clone(), |node| node.place.clone());
                    reader.problem(
                        &place,
                        format!("{text:?} is no file mode"),
                        Some("expected octal digits such as \"0600\""),
                        None,
                    );
                    0o600
                }
            },
            None => 0o600,
        };
        reader.finish();
        let (template, to) = (template?, to?);
        if let Err(reason) = inside(&to) {
            problems.push(wrong(&body.place, format!("`settings` cannot write {to:?}: {reason}")));
        }
        (problems.len() == before).then_some(Self { template, to, mode })
    }
}
