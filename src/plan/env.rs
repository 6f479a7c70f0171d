//! What `ship env` makes of the settings file of a host, and the commands that put it there.
//!
//! Every change is staged beside the file on all hosts before the first file is replaced.

use crate::command::{Command, quote};
use crate::dotenv::{File, Refused};
use crate::layout::Layout;
use crate::secret::Secret;

/// What a person wants changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These values.
    Set(Vec<(String, Secret)>),
    /// None of these.
    Unset(Vec<String>),
    /// Exactly this file.
    Push {
        /// The name that it has here.
        name: String,
        /// The file.
        file: File,
        /// Whether what only a host has may go.
        prune: bool,
    },
}

impl Change {
    /// The name here of the file that is pushed.
    pub fn pushed(&self) -> Option<&str> {
        match self {
            Self::Push { name, .. } => Some(name),
            Self::Set(_) | Self::Unset(_) => None,
        }
    }

    /// What `file` becomes.
    pub fn applied(&self, file: &File) -> Result<File, (String, Refused)> {
        match self {
            Self::Set(values) => values.iter().try_fold(file.clone(), |file, (key, value)| {
                file.with(key, value.expose()).map_err(|refused| (key.clone(), refused))
            }),
            Self::Unset(keys) => Ok(keys.iter().fold(file.clone(), |file, key| file.without(key))),
            Self::Push { file, .. } => Ok(file.clone()),
        }
    }

    /// The variables that would go though nobody said so: a file of this machine need not know all that a host has.
    pub fn unasked<'a>(&self, difference: &'a Difference) -> &'a [String] {
        match self {
            Self::Push { prune: false, .. } => &difference.unset,
            _ => &[],
        }
    }
}

/// How two files differ, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// New, or with another value.
    pub set: Vec<String>,
    /// Gone.
    pub unset: Vec<String>,
}

impl Difference {
    /// From `before` to `after`.
    pub fn between(before: &File, after: &File) -> Self {
        let value = |file: &File, key: &str| file.get(key).map(|entry| (entry.value.clone(), entry.refers));
        let names = |file: &File| -> Vec<String> { file.effective().iter().map(|entry| entry.key.clone()).collect() };
        Self {
            set: names(after).into_iter().filter(|key| value(before, key) != value(after, key)).collect(),
            unset: names(before).into_iter().filter(|key| after.get(key).is_none()).collect(),
        }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = |word: &str, keys: &[String]| (!keys.is_empty()).then(|| format!("{word} {}", keys.join(", ")));
        let parts: Vec<String> = part("set", &self.set).into_iter().chain(part("unset", &self.unset)).collect();
        f.write_str(&if parts.is_empty() { "only comments and order".to_owned() } else { parts.join("; ") })
    }
}

/// The settings file of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    path: String,
}

/// What [`Place::read`] ends with where there is no file.
pub const MISSING: i32 = 66;

/// What the statuses of [`Place::stage`] mean.
pub const STAGING: &[(i32, &str)] = &[(74, "what arrived on the host is not what was sent")];

impl Place {
    /// `file` below the shared folder.
    pub fn new(layout: &Layout, file: &str) -> Self {
        Self { path: format!("{}/{file}", layout.shared()) }
    }

    /// Its path on the host.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Sets `$f` to the file that a link leads to, and `$n` to the new one beside it.
    fn named(&self) -> String {
        format!("f={}; [ ! -L \"$f\" ] || f=$(readlink -f \"$f\"); n=$f.ship-new", quote(&self.path))
    }

    /// Prints the file.
    pub fn read(&self) -> Command {
        let path = quote(&self.path);
        Command::shell(format!("[ -e {path} ] || exit {MISSING}; exec cat {path}"))
    }

    /// Succeeds where everybody on the host may read the file.
    pub fn is_open(&self) -> Command {
        Command::shell(format!("[ -n \"$(find -L {} -prune -perm -004 2>/dev/null)\" ]", quote(&self.path)))
    }

    /// Puts standard input beside the file, 0600 before it has content. A file that is there keeps its group and
    /// mode. `bytes` tells a whole text from one whose connection was lost.
    pub fn stage(&self, bytes: usize) -> Command {
        Command::shell(format!(
            "{}; umask 022; mkdir -p \"${{f%/*}}\" && umask 077 && rm -f \"$n\" && cat >\"$n\" || exit; \
             [ \"$(wc -c <\"$n\")\" -eq {bytes} ] || {{ rm -f \"$n\"; exit 74; }}; \
             if [ -e \"$f\" ]; then chgrp \"$(stat -c %g \"$f\")\" \"$n\" 2>/dev/null && chmod \"$(stat -c %a \"$f\")\" \"$n\"; fi; \
             sync \"$n\" 2>/dev/null || sync",
            self.named()
        ))
    }

    /// Replaces the file by what was staged, in one rename(2).
    pub fn replace(&self) -> Command {
        Command::shell(format!("{}; exec mv -f \"$n\" \"$f\"", self.named()))
    }

    /// Removes what was staged.
    pub fn discard(&self) -> Command {
        Command::shell(format!("{}; exec rm -f \"$n\"", self.named()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Output;

    use super::super::on_shell;
    use super::*;

    fn run(command: &Command, input: &str) -> Output {
        on_shell::run(command, input.as_bytes())
    }

    fn mode(path: &std::path::Path) -> u32 {
        std::fs::metadata(path).expect("the file").permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_staged_and_replaced_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(&folder.path().join("it's").to_string_lossy());
        let place = Place::new(&layout, "conf/.env");
        let path = folder.path().join("it's/shared/conf/.env");
        assert_eq!(run(&place.read(), "").status.code(), Some(MISSING));
        // Half of a text never becomes the file.
        assert_eq!(run(&place.stage(9), "A=1\n").status.code(), Some(74));
        assert!(!path.exists() && !path.with_file_name(".env.ship-new").exists());
        for (text, expected) in [("A=1\n", 0o600), ("A='2\n3'\n", 0o640)] {
            assert!(run(&place.stage(text.len()), text).status.success());
            assert_ne!(run(&place.read(), "").stdout, text.as_bytes());
            assert!(run(&place.replace(), "").status.success());
            assert_eq!(run(&place.read(), "").stdout, text.as_bytes());
            assert_eq!(mode(&path), expected);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("a mode");
        }
        assert_eq!(run(&place.is_open(), "").status.code(), Some(1));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("a mode");
        assert_eq!(run(&place.is_open(), "").status.code(), Some(0));
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(&folder.path().to_string_lossy());
        std::fs::create_dir_all(folder.path().join("shared")).expect("shared");
        std::fs::write(folder.path().join("real"), "A=1\n").expect("the file");
        std::os::unix::fs::symlink("../real", folder.path().join("shared/.env")).expect("a link");
        let place = Place::new(&layout, ".env");
        assert!(run(&place.stage(4), "A=2\n").status.success() && run(&place.replace(), "").status.success());
        assert_eq!(std::fs::read(folder.path().join("real")).expect("the file"), b"A=2\n");
        assert!(folder.path().join("shared/.env").is_symlink());
    }

    #[test]
    fn what_changed_is_said_by_name_alone() {
        let file = |text: &str| File::parse(text.as_bytes()).expect("a file");
        let before = file("# c\nA=1\nB=2\n");
        let secret = |text: &str| Secret::new(text.to_owned());
        let set =
            Change::Set(vec![("A".into(), secret("hunter2")), ("B".into(), secret("2")), ("C".into(), secret(""))]);
        let after = set.applied(&before).expect("a change");
        assert_eq!(Difference::between(&before, &after).to_string(), "set A, C");
        let unset = Change::Unset(vec!["A".into(), "none".into()]).applied(&before).expect("a change");
        assert_eq!(Difference::between(&before, &unset).to_string(), "unset A");
        let push = Change::Push { name: ".env".to_owned(), file: file("B=2\nA=3\n"), prune: false }
            .applied(&before)
            .expect("a change");
        assert_eq!(Difference::between(&before, &push).to_string(), "set A");
        let wrong = Change::Set(vec![("A".into(), secret("a\0b"))]).applied(&before);
        assert_eq!(wrong, Err(("A".to_owned(), Refused::Nul)));
    }
}
