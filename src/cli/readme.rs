//! The tables of README.md, made from what the program itself uses. A test fails when the file is stale.

use clap::CommandFactory;

use super::args::Cli;
use crate::config::reference;
use crate::error::exit_code_table;
use crate::report;

/// Each generated section: the name in its markers, and its text.
pub fn sections() -> Vec<(&'static str, String)> {
    vec![
        ("commands", commands()),
        ("exit-codes", exit_code_table()),
        ("steps", reference::actions()),
        ("inventory", reference::inventory()),
        ("recipe", reference::recipe()),
        ("events", report::docs()),
    ]
}

/// Every command with the first line of its help.
fn commands() -> String {
    let mut table = String::from("| command | does |\n|---|---|\n");
    for command in Cli::command().get_subcommands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        table.push_str(&format!("| `ship {}` | {} |\n", command.get_name(), about.replace('|', "\\|")));
    }
    table
}

/// `text` with what stands between each pair of markers replaced by its section.
pub fn refresh(text: &str) -> Result<String, String> {
    let mut out = text.to_owned();
    for (name, section) in sections() {
        let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
        let (before, rest) = out.split_once(&begin).ok_or_else(|| format!("README.md has no {}", begin.trim()))?;
        let (_, after) = rest.split_once(&end).ok_or_else(|| format!("README.md has no {end}"))?;
        out = format!("{before}{begin}{}\n{end}{after}", section.trim_end());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_README=1 cargo test readme` writes the file anew.
    #[test]
    fn the_readme_is_not_stale() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let text = std::fs::read_to_string(&path).expect("README.md");
        let fresh = refresh(&text).expect("markers");
        if std::env::var_os("UPDATE_README").is_some() {
            std::fs::write(&path, &fresh).expect("README.md");
        } else {
            assert!(text == fresh, "README.md is stale: UPDATE_README=1 cargo test readme");
        }
    }
}
