//! `packages`: Debian packages that are installed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::ground::{Change, Ground, Noun};
use super::link::wrong;
use crate::document::{Node, Problems, Value};

/// One line for the documentation.
pub const SUMMARY: &str = "installs the Debian packages that are missing, before all other steps";
/// An example in TOML.
pub const EXAMPLE: &str = r#"packages = ["nginx", "redis-server"]"#;

/// Mirrors may be slow.
const LIMIT: Duration = Duration::from_secs(1800);

/// A rendered `packages` step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packages {
    /// Their names.
    pub names: Vec<String>,
}

impl Packages {
    /// Reads the body: an array of names.
    pub fn read(body: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.len();
        let items = match &body.value {
            Value::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(body),
        };
        let mut names = Vec::new();
        for item in items {
            match &item.value {
                Value::String(name) if name.contains("{{") || valid(name) => names.push(name.clone()),
                Value::String(name) => problems.push(wrong(&item.place, format!("{name:?} is no name of a package"))),
                other => problems.push(wrong(&item.place, format!("a package is {}", other.kind()))),
            }
        }
        (problems.len() == before).then_some(Self { names })
    }
}

/// Names as Debian's policy has them (5.6.7).
fn valid(name: &str) -> bool {
    name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
}

/// Installs those of `names` that are missing, all at once.
pub fn install(ground: &Ground<'_>, names: &BTreeSet<String>) -> Result<Option<Change>, String> {
    let missing: Vec<&str> =
        names.iter().filter(|name| !ground.found.packages.contains(*name)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(None);
    }
    if ground.context.facts.program("apt-get").is_none() {
        return Err(format!(
            "these packages are wanted, and the host has no apt-get: {} (install what they bring by hand, and say \
             `--skip packages`)",
            missing.join(", ")
        ));
    }
    // Without the progress that dpkg paints on a terminal of apt's making.
    let quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet=2", "--option=Dpkg::Use-Pty=0"];
    let update = ground.root("Read the lists of packages".to_owned(), &[&quiet[..], &["update"]].concat());
    let words = [&quiet[..], &["install", "--yes", "--no-install-recommends", "--"], &missing[..]].concat();
    let install = ground.root(format!("Install {}", missing.join(", ")), &words);
    let mut change = Change::new(Noun::Package, format!("install {}", missing.join(", "))).task(update).task(install);
    change.count = missing.len();
    change.tasks = change.tasks.into_iter().map(|task| task.limited(LIMIT)).collect();
    Ok(Some(change))
}
