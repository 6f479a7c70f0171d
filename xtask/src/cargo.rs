//! Starts cargo: the one that started us.

use crate::process::Program;

/// A `cargo` command.
pub fn cargo<W: Into<String>>(words: impl IntoIterator<Item = W>) -> Program {
    // cargo names itself to the programs that it runs; a plain `cargo` might be another one.
    let name = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    Program::new(name).args(words)
}

/// Whether this runs on a CI server, where nothing may be left out.
pub fn on_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}
