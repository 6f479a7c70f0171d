//! The reference in the README: tables in Markdown, made from the tables that the readers use.

use std::fmt::Write as _;

use crate::config::keys;
use crate::document::key::{Absent, Table};
use crate::step::Kind;

/// The keys of `inventory.toml`.
pub fn inventory() -> String {
    tables(&keys::INVENTORY)
}

/// The keys of a recipe, without its actions.
pub fn recipe() -> String {
    tables(&keys::RECIPE)
}

/// The actions of steps.
pub fn actions() -> String {
    let mut text = String::from("| action | phases | does | for example |\n|---|---|---|---|\n");
    for kind in Kind::ALL {
        let phases: Vec<String> = kind.phases().iter().map(|phase| format!("`{}`", phase.name())).collect();
        row(&mut text, &[&code(kind.name()), &phases.join(" "), kind.summary(), &code(kind.example())]);
    }
    text
}

fn tables(root: &'static Table) -> String {
    let mut text = String::new();
    for table in root.all() {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = write!(text, "**`{}`**: {}\n\n| key | takes | default | |\n|---|---|---|---|\n", table.name, table.doc);
        for key in table.keys {
            let absent = match key.absent {
                Absent::Required => "required",
                Absent::None => "",
                Absent::Default(default) => default,
            };
            row(&mut text, &[&code(key.name), &key.kind.words(), absent, key.doc]);
        }
    }
    text
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn row(text: &mut String, cells: &[&str]) {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_every_action_has_its_row() {
        let (inventory, recipe, actions) = (inventory(), recipe(), actions());
        for (text, root) in [(&inventory, &keys::INVENTORY), (&recipe, &keys::RECIPE)] {
            for key in root.all().into_iter().flat_map(|table| table.keys) {
                assert!(text.contains(&format!("| `{}` | ", key.name)), "{}", key.name);
            }
        }
        assert!(Kind::ALL.iter().all(|kind| actions.contains(&format!("| `{}` | ", kind.name()))));
        insta::assert_snapshot!(inventory.lines().take(8).collect::<Vec<_>>().join("\n"), @"
        **`inventory.toml`**: who is deployed to

        | key | takes | default | |
        |---|---|---|---|
        | `recipe` | string | required | a recipe in the binary, or `recipes/NAME.toml` beside this file, which wins |
        | `app` | string | required | the application's name, made of `[A-Za-z0-9._-]` |
        | `deploy_to` | string | required | where releases live on each host: an absolute path; a template: `/srv/{{ app }}/{{ environment }}` |
        | `default` | string | the only environment, if there is one | the environment that is meant where none is named |
        ");
    }
}
