//! `cargo xtask layers`: checks which module of `src/` uses which, and the shape of every file.
//!
//! What is inside `mod tests` may use any room: a test of a plan may read a recipe, and nothing is built on it.

mod paths;
mod shape;
mod table;
mod token;

use std::path::{Path, PathBuf};

use crate::failure::{During as _, Failure, Result};
use crate::workspace;
use paths::Reference;

/// Checks the whole repository; says everything that is wrong before it fails.
pub fn check() -> Result<()> {
    let root = workspace::root()?;
    let mut problems = Vec::new();
    let mut count = 0;
    for folder in ["src", "tests", "xtask/src"] {
        for file in rust_files(&root.join(folder))? {
            let text = std::fs::read_to_string(&file).during(format_args!("read {}", file.display()))?;
            let relative = file.strip_prefix(&root).unwrap_or(&file);
            let shown = relative.display().to_string();
            let parts: Vec<&str> = relative.iter().filter_map(|part| part.to_str()).collect();
            count += 1;
            problems.extend(shape::problems(&parts, &text).into_iter().map(|problem| format!("{shown}:1: {problem}")));
            problems.extend(crate_problems(&parts, &shown, &text));
            if let Some(lines) = shape::too_long(&text) {
                println!("note: {shown} has {lines} lines; more than {} usually hold two purposes.", shape::LONG);
            }
        }
    }
    for problem in &problems {
        println!("{problem}");
    }
    if problems.is_empty() {
        println!("The layers hold in {count} files.");
        return Ok(());
    }
    Err(Failure::new(format!("Problems with layers or files: {}.", problems.len())))
}

/// What is wrong with the paths of a file. The layer rule is for `src/`; the rest is for every file.
fn crate_problems(parts: &[&str], shown: &str, text: &str) -> Vec<String> {
    let module = module_of(parts);
    let room = if parts.first() == Some(&"src") { module.first().map(String::as_str) } else { None };
    let own_name = (room == Some("main")).then_some("ship");
    let mut problems = Vec::new();
    for reference in paths::references(text, &module, own_name) {
        if reference.in_tests {
            continue;
        }
        if reference.written.first().is_some_and(|word| word == "super")
            && reference.written.last().is_some_and(|word| word == "*")
        {
            let written = reference.written.join("::");
            problems.push(format!("{shown}:{}: `{written}` hides what this file needs; name it.", reference.line));
        }
        if let Some(problem) = room.and_then(|room| layer_problem(room, &reference)) {
            problems.push(format!("{shown}:{}: {problem}", reference.line));
        }
    }
    if let Some(room) = room.filter(|room| *room != "lib" && table::room(room).is_none()) {
        problems
            .push(format!("{shown}:1: The room `{room}` is not in the table; add it in xtask/src/layers/table.rs."));
    }
    problems
}

fn layer_problem(room: &str, reference: &Reference) -> Option<String> {
    let used = reference.resolved.first()?;
    // `lib` is the map, which names every room; a room that is not in the table is told of once, for its file.
    let rule = table::room(room)?;
    if used == room || rule.may_use.contains(&used.as_str()) {
        return None;
    }
    let written = reference.written.join("::");
    if table::room(used).is_none() {
        return Some(format!("`{written}`: the crate has no room `{used}`; name the room that the thing is in."));
    }
    let allowed = if rule.may_use.is_empty() { "nothing".to_owned() } else { rule.may_use.join(", ") };
    Some(format!("`{written}`: {room} may not use {used}. It may use {allowed}."))
}

/// Where a file is in its crate: `src/step/upload.rs` is `step::upload`, `src/step/mod.rs` is `step`. The files
/// `lib.rs` and `main.rs` are taken for modules of these names, so that the table can speak of them.
fn module_of(parts: &[&str]) -> Vec<String> {
    let inside = parts.iter().skip_while(|part| **part != "src" && **part != "tests").skip(1);
    inside.map(|part| part.trim_end_matches(".rs")).filter(|name| *name != "mod").map(str::to_owned).collect()
}

/// All Rust files in a folder and below, in the order of their names.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(files) };
    for entry in entries {
        let path = entry.during(format_args!("list {}", folder.display()))?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::{crate_problems, module_of};

    fn problems(file: &str, text: &str) -> Vec<String> {
        crate_problems(&file.split('/').collect::<Vec<_>>(), file, text)
    }

    #[test]
    fn a_file_knows_its_module() {
        assert_eq!(module_of(&["src", "step", "upload.rs"]), ["step", "upload"]);
        assert_eq!(module_of(&["src", "step", "mod.rs"]), ["step"]);
        assert_eq!(module_of(&["xtask", "src", "lab", "mod.rs"]), ["lab"]);
    }

    #[test]
    fn a_broken_layer_names_file_line_path_and_rule() {
        let found = problems("src/report/plain.rs", "//! X.\nuse crate::event::Event;\nuse crate::plan::Plan;\n");
        assert_eq!(
            found,
            ["src/report/plain.rs:3: `crate::plan::Plan`: report may not use plan. It may use event, secret, output."]
        );
    }

    #[test]
    fn a_layer_is_not_got_around_through_super() {
        assert_eq!(problems("src/plan.rs", "use super::execute::run;").len(), 1);
        assert_eq!(problems("src/step/run.rs", "use super::super::session;").len(), 1);
        assert!(problems("src/step/run.rs", "use super::Step;\nuse self::inner::X;").is_empty());
    }

    #[test]
    fn tests_may_use_any_room() {
        assert!(problems("src/plan.rs", "mod tests { use super::*; use crate::session::Session; }").is_empty());
        assert!(problems("src/plan/tests.rs", "use crate::session::Session;").is_empty());
    }

    #[test]
    fn globs_of_the_parent_are_refused_everywhere() {
        assert_eq!(problems("src/plan/deploy.rs", "use super::*;").len(), 1);
        assert_eq!(problems("xtask/src/lab/mod.rs", "use super::super::*;").len(), 1);
    }

    #[test]
    fn rooms_and_things_outside_of_the_table_are_refused() {
        assert!(problems("src/garden.rs", "").iter().any(|problem| problem.contains("add it in")));
        assert!(problems("src/plan.rs", "use crate::Thing;").iter().any(|problem| problem.contains("no room `Thing`")));
    }

    #[test]
    fn the_binary_sees_the_command_line_only() {
        assert!(problems("src/main.rs", "fn main() { ship::cli::run(); ship::error::exit(); }").is_empty());
        assert_eq!(problems("src/main.rs", "use ship::plan::Plan;").len(), 1);
    }

    #[test]
    fn the_map_may_name_everything() {
        assert!(problems("src/lib.rs", "pub use crate::plan::Plan;").is_empty());
    }
}
