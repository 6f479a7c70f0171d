//! `link`: links shared files and folders, which outlive releases, into the release.

use super::{Action, Context, Task};
use crate::command::{Command, join, quote};
use crate::document::{Node, Place, Problem, Problems, Reader, Value};

/// One line for the documentation.
pub const SUMMARY: &str = "links files and folders of `shared/`, which outlive releases, into the release";
/// An example in TOML.
pub const EXAMPLE: &str = r#"link = { files = [".env"], dirs = ["media", "log"] }"#;

/// A rendered `link` step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Files, relative to the release and to `shared/`. They must exist before a deploy begins.
    pub files: Vec<String>,
    /// Folders, likewise. They are made where they do not exist.
    pub dirs: Vec<String>,
}

impl Link {
    /// Reads the body: `{ files, dirs }`, or an array in which folders end with `/`.
    pub fn read(body: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.len();
        let link = if let Value::Array(items) = &body.value {
            let mut link = Self::default();
            for item in items {
                match &item.value {
                    Value::String(path) => match path.strip_suffix('/') {
                        Some(folder) => link.dirs.push(folder.to_owned()),
                        None => link.files.push(path.clone()),
                    },
                    other => problems.push(wrong(&item.place, format!("a path of `link` is {}", other.kind()))),
                }
            }
            link
        } else {
            let mut reader = Reader::new("`link`", body, problems)?;
            let link = Self {
                files: reader.strings("files").unwrap_or_default(),
                dirs: reader.strings("dirs").unwrap_or_default(),
            };
            reader.finish();
            link
        };
        for path in link.files.iter().chain(&link.dirs) {
            if let Err(reason) = inside(path) {
                problems.push(wrong(&body.place, format!("`link` cannot link {path:?}: {reason}")));
            }
        }
        (problems.len() == before).then_some(link)
    }

    /// One command that makes the folders and every link.
    pub fn tasks(&self, context: &Context<'_>) -> Vec<Task> {
        if self.files.is_empty() && self.dirs.is_empty() {
            return Vec::new();
        }
        let mut made = Vec::new();
        for dir in &self.dirs {
            let shared = quote(&format!("{}/{dir}", context.layout.shared())).into_owned();
            made.push(format!("{{ [ -d {shared} ] || mkdir -p {shared}; }}"));
        }
        // What goes into one folder is linked by one program.
        let mut folders: Vec<(&str, Vec<String>)> = Vec::new();
        for path in self.dirs.iter().chain(&self.files) {
            let parent = path.rsplit_once('/').map_or(".", |(parent, _)| parent);
            // Relative, so that the tree stays right in chroots and bind mounts.
            let target = format!("{}shared/{path}", "../".repeat(2 + path.matches('/').count()));
            made.push(format!("{{ [ ! -d {p} ] || [ -L {p} ] || rmdir {p}; }}", p = quote(path)));
            match folders.iter_mut().find(|(folder, _)| *folder == parent) {
                // What was linked just now is not linked again by GNU's.
                Some((_, targets)) if targets.contains(&target) => {}
                Some((_, targets)) => targets.push(target),
                None => folders.push((parent, vec![target])),
            }
        }
        for (folder, targets) in folders {
            if folder != "." {
                made.push(format!("mkdir -p {}", quote(folder)));
            }
            let targets = join(targets.iter().map(String::as_str));
            made.push(format!("ln -sfn {targets} {}", quote(&format!("{folder}/"))));
        }
        let release = context.layout.release(context.release);
        let command = context.limited(Command::subshell(made.join(" && ")).directory(release));
        vec![context.task(Action::Command(command)).meanings(&[(
            1,
            "a folder of the release stands where a shared one is to be linked: leave it out of the upload with `exclude`",
        )])]
    }
}

/// Whether `path` stays inside the folder that it is relative to.
pub(super) fn inside(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        Err("it is empty")
    } else if path.starts_with('/') {
        Err("it is absolute, and must be relative to the release")
    } else if path.split('/').any(|part| part == "..") {
        Err("it leaves the release through `..`")
    } else if path.split('/').any(|part| part.is_empty() || part == ".") {
        Err("it has an empty part")
    } else {
        Ok(())
    }
}

pub(super) fn wrong(place: &Place, message: String) -> Problem {
    Problem { place: Some(place.clone()), message, label: None, help: None }
}
