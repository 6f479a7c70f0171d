//! `cargo xtask ci`: everything that a change must pass, in the order in which it is cheapest to fail.

use std::time::{Duration, Instant};

use crate::cargo::cargo;
use crate::failure::{Failure, Result};
use crate::{layers, test};

/// The version of cargo-deny that reads `.deny.toml`.
const CARGO_DENY: &str = "0.20.2";

/// One check, and what it is called.
struct Check {
    name: &'static str,
    run: fn() -> Result<()>,
}

const CHECKS: [Check; 5] = [
    Check { name: "fmt", run: format },
    Check { name: "clippy", run: clippy },
    Check { name: "layers", run: layers::check },
    Check { name: "deny", run: deny },
    Check { name: "test", run: all_tests },
];

/// Runs every check, also after one has failed, and says at the end what became of each.
pub fn run() -> Result<()> {
    let mut ended: Vec<(&str, Result<()>, Duration)> = Vec::new();
    for check in CHECKS {
        println!("\n==== {} ====", check.name);
        let started = Instant::now();
        let result = (check.run)();
        if let Err(failure) = &result {
            println!("{failure}");
        }
        ended.push((check.name, result, started.elapsed()));
    }
    println!("\n==== Checks ====");
    for (name, result, time) in &ended {
        let outcome = result.as_ref().map_or_else(|failure| format!("FAILED: {failure}"), |()| "passed".to_owned());
        println!("{name:8} {:6.1} s  {outcome}", time.as_secs_f64());
    }
    let failed: Vec<&str> = ended.iter().filter(|(_, result, _)| result.is_err()).map(|(name, ..)| *name).collect();
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(format!("These checks failed: {}.", failed.join(", ")))) }
}

fn format() -> Result<()> {
    cargo(["fmt", "--all", "--check"]).show()
}

fn clippy() -> Result<()> {
    cargo(["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"]).show()
}

fn all_tests() -> Result<()> {
    test::run(None)
}

/// Licences, bans and sources need no network. The advisories need their database, which not every machine can fetch.
fn deny() -> Result<()> {
    if !cargo(["deny", "--version"]).succeeds() {
        println!("Installing cargo-deny {CARGO_DENY} with cargo install (about two minutes).");
        // It runs for a second: the time to optimise it would not come back.
        cargo(["install", "cargo-deny", "--locked", "--quiet", "--version", CARGO_DENY])
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .show()?;
    }
    cargo(["deny", "--locked", "check", "licenses", "bans", "sources"]).show()?;
    match cargo(["deny", "fetch", "db"]).read() {
        Ok(_) => cargo(["deny", "--locked", "check", "--disable-fetch", "advisories"]).show(),
        Err(failure) => {
            println!("SKIPPED: the advisories. Their database cannot be fetched from this machine:\n{failure}");
            Ok(())
        }
    }
}
