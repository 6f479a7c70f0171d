//! `file`: a file of the host that a recipe writes: units, log rotation, cron, settings.

use super::ground::{Change, Ground, Placed};
use super::link::wrong;
use super::owned::{Owned, check_path};
use super::systemd::valid_unit;
use crate::command::split;
use crate::document::{Node, Problems, Reader};

/// One line for the documentation.
pub const SUMMARY: &str = "writes a file from a `template` (which may hold secrets) or from `content`; unit files are read again by \
     systemd, `restart` and `reload` name units for which a change matters, `check` is one exact command as root: where it \
     fails, the former file comes back";
/// An example in TOML.
pub const EXAMPLE: &str = r#"file = { template = "app.service.j2", to = "/etc/systemd/system/app.service" }"#;

/// A rendered `file` step. The text of a template is rendered by `config`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// The template, relative to the project folder.
    pub template: Option<String>,
    /// The text itself.
    pub content: Option<String>,
    /// The absolute path.
    pub to: String,
    /// Whose it is.
    pub owned: Owned,
    /// One command that judges the file where it stands.
    pub check: Vec<String>,
    /// Units that are restarted after a change, if they run.
    pub restart: Vec<String>,
    /// Units that are reloaded after a change, if they run.
    pub reload: Vec<String>,
}

impl File {
    /// Reads the body.
    pub fn read(body: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.len();
        let mut reader = Reader::new("`file`", body, problems)?;
        let (template, content) = (reader.string("template"), reader.string("content"));
        let to = reader.required_string("to");
        let owned = Owned::read(&mut reader);
        let check = reader.string("check");
        let restart = reader.strings("restart").unwrap_or_default();
        let reload = reader.strings("reload").unwrap_or_default();
        reader.finish();
        if template.is_some() == content.is_some() {
            problems.push(wrong(&body.place, "`file` needs exactly one of `template` and `content`".to_owned()));
        }
        let check = match check.as_deref().map(split) {
            None => Vec::new(),
            Some(Ok(words)) => words,
            // A template is split after it is rendered.
            Some(Err(_)) if check.as_ref().is_some_and(|text| text.contains("{{")) => Vec::new(),
            Some(Err(reason)) => {
                problems.push(wrong(&body.place, format!("`check` cannot be one command: {reason}")));
                Vec::new()
            }
        };
        let to = to?;
        check_path("file", &to, body, problems);
        for unit in restart.iter().chain(&reload) {
            if !unit.contains("{{") && !valid_unit(unit) {
                problems.push(wrong(&body.place, format!("{unit:?} is no name of a unit")));
            }
        }
        (problems.len() == before).then_some(Self { template, content, to, owned, check, restart, reload })
    }

    /// What has to change.
    pub fn changes(&self, ground: &Ground<'_>) -> Result<Vec<Change>, String> {
        let contents = ground.contents()?;
        let (owner, group) = ground.owner_of(&self.to, &self.owned)?;
        let mode = self.owned.mode.unwrap_or(if contents.secrets.is_empty() { 0o644 } else { 0o600 });
        let mut placed = Placed::new(&self.to, owner, group, mode, contents);
        placed.check.clone_from(&self.check);
        if is_unit_file(&self.to) {
            placed.then.push(vec!["systemctl".to_owned(), "daemon-reload".to_owned()]);
        }
        for (verb, units) in [("try-restart", &self.restart), ("try-reload-or-restart", &self.reload)] {
            placed.then.extend(units.iter().map(|unit| vec!["systemctl".to_owned(), verb.to_owned(), unit.clone()]));
        }
        Ok(ground.place(&placed)?.into_iter().collect())
    }
}

/// Whether systemd reads `path` as a unit file, or a part of one.
fn is_unit_file(path: &str) -> bool {
    ["/etc/systemd/system/", "/usr/local/lib/systemd/system/", "/usr/lib/systemd/system/", "/lib/systemd/system/"]
        .iter()
        .any(|folder| path.starts_with(folder))
}
