//! `directory`: folders that are there, and whose they are.

use super::ground::{Change, Ground, Noun};
use super::owned::{Owned, check_path};
use crate::document::{Node, Problems, Reader};
use crate::facts::found::Thing;

/// One line for the documentation.
pub const SUMMARY: &str = "makes folders; their owner is the deploy user inside `deploy_to`, root elsewhere";
/// An example in TOML.
pub const EXAMPLE: &str = r#"directory = { path = "/var/log/app", owner = "{{ deploy_user }}", mode = "0750" }"#;

/// A rendered `directory` step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Absolute paths.
    pub paths: Vec<String>,
    /// Whose they are.
    pub owned: Owned,
}

impl Directory {
    /// Reads the body: `{ path, owner, group, mode }`, where `path` is one or several.
    pub fn read(body: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.len();
        let mut reader = Reader::new("`directory`", body, problems)?;
        reader.required("path", None);
        let paths = reader.strings("path").unwrap_or_default();
        let owned = Owned::read(&mut reader);
        reader.finish();
        for path in &paths {
            check_path("directory", path, body, problems);
        }
        let paths = paths.iter().map(|path| path.trim_end_matches('/').to_owned()).collect();
        (problems.len() == before).then_some(Self { paths, owned })
    }

    /// What has to change, folder by folder.
    pub fn changes(&self, ground: &Ground<'_>) -> Result<Vec<Change>, String> {
        let mut changes = Vec::new();
        for path in &self.paths {
            let (owner, group) = ground.owner_of(path, &self.owned)?;
            let wanted = self.owned.mode.unwrap_or(0o755);
            match ground.found.entries.get(path) {
                None => {
                    let mode = format!("{wanted:04o}");
                    let make = ["install", "-d", "-o", &owner, "-g", &group, "-m", &mode, path];
                    changes.push(
                        Change::new(Noun::Directory, format!("{path}: make it, {owner}:{group} {mode}"))
                            .task(ground.act(format!("Make {path}"), path, &owner, &make)),
                    );
                }
                Some(entry) if entry.thing == Thing::Directory => {
                    // What the recipe does not say is left as it is.
                    let owner = self.owned.owner.as_ref().map(|_| owner.as_str());
                    let group = self.owned.group.as_ref().map(|_| group.as_str());
                    changes.extend(ground.attributes(Noun::Directory, path, entry, owner, group, self.owned.mode));
                }
                Some(_) => return Err(format!("{path} is there and is no folder")),
            }
        }
        Ok(changes)
    }
}
