//! `settings`: a settings file in the release, so that code and settings change together: rendered from a template
//! of the project, or copied from a file of the host.

use super::link::{inside, wrong};
use super::{Action, Context, Task};
use crate::command::{Command, quote};
use crate::document::{Node, Problems, Reader};

/// One line for the documentation.
pub const SUMMARY: &str = "renders a template of the project into the release, 0600 before any content; \
                           or copies a file of the host, `host_file`";
/// An example in TOML.
pub const EXAMPLE: &str = r#"settings = { template = "settings.py.j2", to = "app/settings_local.py", mode = "0600" }"#;

/// A rendered `settings` step. A template's text is rendered by `config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the text comes from.
    pub source: Source,
    /// Where the file goes, relative to the release.
    pub to: String,
    /// The permission bits; 0600 unless the recipe says otherwise.
    pub mode: u32,
}

/// Where the text of a settings file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A template, relative to the project folder.
    Template(String),
    /// A file of the host, an absolute path. It must be there before a deploy begins.
    HostFile(String),
}

impl Settings {
    /// Reads the body: `{ template, to, mode }` or `{ host_file, to, mode }`.
    pub fn read(body: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.len();
        let mut reader = Reader::new("`settings`", body, problems)?;
        let host_file = reader.string("host_file");
        let template = if host_file.is_some() { reader.string("template") } else { reader.required_string("template") };
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
        let source = match (template, host_file) {
            (Some(_), Some(_)) => {
                problems.push(wrong(&body.place, "`settings` has a `template` and a `host_file`".to_owned()));
                return None;
            }
            (Some(template), None) => Source::Template(template),
            (None, file) => Source::HostFile(file?),
        };
        if let Source::HostFile(file) = &source
            && !file.starts_with('/')
        {
            let message = format!("`settings` cannot copy {file:?}: it must be an absolute path on the host");
            problems.push(wrong(&body.place, message));
        }
        // A template such as `{{ folder }}/local.py` may have `.` as its folder.
        let to = to?;
        let to = to.strip_prefix("./").map_or_else(|| to.clone(), str::to_owned);
        if let Err(reason) = inside(&to) {
            problems.push(wrong(&body.place, format!("`settings` cannot write {to:?}: {reason}")));
        }
        (problems.len() == before).then_some(Self { source, to, mode })
    }

    /// The file of the host that the survey has to look for.
    pub fn host_file(&self) -> Option<&str> {
        match &self.source {
            Source::Template(_) => None,
            Source::HostFile(file) => Some(file),
        }
    }

    /// Copies the file of the host; what is rendered from a template comes with the release's other files.
    pub fn tasks(&self, context: &Context<'_>) -> Result<Vec<Task>, String> {
        let Some(file) = self.host_file() else { return Ok(Vec::new()) };
        if !context.facts.readable.contains(file) {
            return Err(format!(
                "the step \"{}\" needs the file {file}, which is not there or not readable for {}",
                context.name, context.facts.user
            ));
        }
        let to = quote(&self.to);
        // Nobody else can read it at any moment, and a file of the upload in its place never lends it its mode.
        let text = format!("umask 077; rm -f {to} && cat {} >{to} && chmod {:o} {to}", quote(file), self.mode);
        let command = Command::shell(text).directory(context.layout.release(context.release));
        Ok(vec![context.task(Action::Command(context.limited(command)))])
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::document::parse;
    use crate::facts::Facts;
    use crate::layout::{Layout, ReleaseId};
    use crate::step::swap::Expected;

    fn read(text: &str) -> Result<Settings, String> {
        let body = parse(Path::new("r.toml"), text.to_owned()).expect("TOML");
        let mut problems = Problems::new();
        let step = Settings::read(&body, &mut problems);
        step.ok_or_else(|| problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn a_template_or_a_file_of_the_host_and_never_both() {
        assert!(matches!(read("template = 'a.j2'\nto = 'a'").map(|step| step.source), Ok(Source::Template(_))));
        assert!(matches!(read("host_file = '/etc/a'\nto = 'a'").map(|step| step.source), Ok(Source::HostFile(_))));
        insta::assert_snapshot!(
            ["to = 'a'", "template = 'a'\nhost_file = '/b'\nto = 'c'", "host_file = 'b'\nto = '/c'"]
                .map(|text| read(text).expect_err("a problem"))
                .join("\n"),
            @r#"
        `settings` has no `template`
        `settings` has a `template` and a `host_file`
        `settings` cannot copy "b": it must be an absolute path on the host; `settings` cannot write "/c": it is absolute, and must be relative to the release
        "#
        );
    }

    #[test]
    fn a_file_of_the_host_is_looked_for_before_and_copied_without_ever_being_readable_for_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let (layout, release) = (
            Layout::new(&folder.path().to_string_lossy()),
            ReleaseId::parse("20261121T101500Z-1a2b3c4").expect("an id"),
        );
        let file = folder.path().join("it's local").to_string_lossy().into_owned();
        std::fs::write(&file, "KEY = 1").expect("a file");
        std::fs::create_dir_all(format!("{}/app", layout.release(&release))).expect("a release");
        let written = format!("{}/app/local.py", layout.release(&release));
        std::fs::write(&written, "uploaded, and open to all").expect("a file");
        let mut facts = Facts { user: "deployer".to_owned(), ..Facts::default() };
        let step = Settings { source: Source::HostFile(file.clone()), to: "app/local.py".to_owned(), mode: 0o640 };
        let tasks = |facts: &Facts| {
            step.tasks(&Context {
                layout: &layout,
                facts,
                release: &release,
                expected: &Expected::default(),
                phase: crate::event::Phase::Prepare,
                put_back: false,
                name: "Take the settings",
                directory: "/",
                environment: &[],
                timeout: None,
                attempts: 1,
            })
        };
        let lacking = tasks(&facts).expect_err("it is not there");
        assert!(lacking.ends_with("it's local, which is not there or not readable for deployer"), "{lacking}");
        facts.readable.insert(file);
        let tasks = tasks(&facts).expect("a task");
        let command = tasks.first().and_then(Task::command).expect("a command").to_shell();
        assert!(std::process::Command::new("/bin/sh").arg("-c").arg(command).status().expect("sh").success());
        assert_eq!(std::fs::read_to_string(&written).expect("the copy"), "KEY = 1");
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&written).expect("the copy"));
        assert_eq!(mode & 0o777, 0o640);
    }
}
