//! Where secrets come from.
//!
//! Deliberately absent: reading the environment or running commands; the caller gives [`Sources`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::config::keys;
use crate::config::names::is_identifier;
use crate::document::{Entry, Place, Problem, Problems, Reader, Value};
use crate::secret::Secret;

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable of ship.
    Env(String),
    /// A file; relative paths are already joined to the project's folder.
    File(PathBuf),
    /// What a command prints, run in the project's folder.
    Command(String),
    /// An age-encrypted file; relative paths are already joined to the project's folder.
    Age(PathBuf),
}

/// A secret of the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretSpec {
    /// Its name in templates: `secrets.NAME`.
    pub name: String,
    /// Where it comes from.
    pub source: SecretSource,
    /// Where it stands in the inventory.
    pub place: Place,
}

/// What can be asked for secrets. An error is a sentence without its full stop.
pub trait Sources {
    /// The value of an environment variable.
    fn environment(&self, name: &str) -> Option<String>;
    /// The text of a file.
    fn file(&self, path: &Path) -> Result<String, String>;
    /// What a command prints.
    fn command(&self, command: &str) -> Result<String, String>;
    /// The text of an age-encrypted file.
    fn age(&self, path: &Path) -> Result<String, String>;
}

/// Reads the table `entries` of secrets. Relative paths are joined to `folder`.
pub fn read(entries: &[Entry], folder: &Path, problems: &mut Problems) -> Vec<SecretSpec> {
    entries.iter().filter_map(|entry| read_one(entry, folder, problems)).collect()
}

fn read_one(entry: &Entry, folder: &Path, problems: &mut Problems) -> Option<SecretSpec> {
    let what = format!("the secret `{}`", entry.key);
    if !is_identifier(&entry.key) {
        problems.push(
            Problem::at(&entry.key_place, format!("`{}` cannot be the name of a secret", entry.key))
                .label("expected letters, digits and `_`, beginning with a letter"),
        );
    }
    if let Value::String(_) = &entry.node.value {
        problems.push(in_the_clear(
            &what,
            &entry.node.place,
            "say where it comes from: `{ env = \"NAME\" }`, `{ file = \"PATH\" }` …",
        ));
        return None;
    }
    let mut reader = Reader::of(&keys::SECRET, what.clone(), &entry.node, problems)?;
    let written = reader.entries().len();
    let sources = [
        reader.string("env").map(SecretSource::Env),
        reader.string("file").map(|path| SecretSource::File(folder.join(path))),
        reader.string("command").map(SecretSource::Command),
        reader.string("age").map(|path| SecretSource::Age(folder.join(path))),
    ];
    reader.finish();
    let mut sources = sources.into_iter().flatten();
    let source = sources.next();
    if written == 0 || sources.next().is_some() {
        let expected = "expected exactly one of `env`, `file`, `command` and `age`";
        problems.push(
            Problem::at(
                &entry.node.place,
                format!("{what} comes from {}", if written == 0 { "nowhere" } else { "several sources" }),
            )
            .label(expected),
        );
        return None;
    }
    Some(SecretSpec { name: entry.key.clone(), source: source?, place: entry.key_place.clone() })
}

/// A value that should be secret stands in the inventory. The line is not shown, for it may end in a log.
pub fn in_the_clear(what: &str, place: &Place, help: &str) -> Problem {
    Problem::without_place(format!("{what} stands in the clear at {place}")).help(help.to_owned())
}

/// Reads those of `secrets` that are `used`, which is all of them where it is `None`.
///
/// One line break at the end of a file or of what a command prints is not part of the secret. An empty
/// secret is a problem: it is what a CI gives for a secret that nobody has set.
pub fn resolve(
    secrets: &[SecretSpec],
    used: Option<&BTreeSet<String>>,
    sources: &dyn Sources,
) -> Result<BTreeMap<String, Secret>, Problems> {
    let mut resolved = BTreeMap::new();
    let mut problems = Problems::new();
    for spec in secrets.iter().filter(|spec| used.is_none_or(|used| used.contains(&spec.name))) {
        match value(&spec.source, sources) {
            Ok(value) => {
                resolved.insert(spec.name.clone(), Secret::new(value));
            }
            Err(why) => {
                problems.push(Problem::at(&spec.place, format!("the secret `{}` cannot be read: {why}", spec.name)));
            }
        }
    }
    if problems.is_empty() { Ok(resolved) } else { Err(problems) }
}

fn value(source: &SecretSource, sources: &dyn Sources) -> Result<String, String> {
    let value = match source {
        SecretSource::Env(name) => {
            sources.environment(name).ok_or_else(|| format!("the environment variable `{name}` is not set"))?
        }
        SecretSource::File(path) => one_line_break_less(sources.file(path)?),
        SecretSource::Command(command) => one_line_break_less(sources.command(command)?),
        SecretSource::Age(path) => one_line_break_less(sources.age(path)?),
    };
    if value.is_empty() {
        return Err("its value is empty".to_owned());
    }
    if value.contains('\0') {
        return Err("its value contains a NUL character, which no file name, argument or variable can carry".to_owned());
    }
    Ok(value)
}

fn one_line_break_less(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic;
    use crate::document::parse;

    struct Fake;

    impl Sources for Fake {
        fn environment(&self, name: &str) -> Option<String> {
            match name {
                "SET" => Some("value".to_owned()),
                "EMPTY" => Some(String::new()),
                _ => None,
            }
        }
        fn file(&self, path: &Path) -> Result<String, String> {
            Ok(format!("{}\nsecond\n", path.display()))
        }
        fn command(&self, command: &str) -> Result<String, String> {
            Err(format!("`{command}` ended with status 1"))
        }
        fn age(&self, _: &Path) -> Result<String, String> {
            Ok("decrypted".to_owned())
        }
    }

    fn specs(text: &str) -> Result<Vec<SecretSpec>, String> {
        let node = parse(Path::new("inventory.toml"), text.to_owned()).expect("valid TOML");
        let Value::Table(entries) = &node.value else { panic!("a table") };
        let mut problems = Problems::new();
        let specs = read(entries, Path::new("/project"), &mut problems);
        if problems.is_empty() { Ok(specs) } else { Err(diagnostic::render(&problems, false)) }
    }

    #[test]
    fn only_used_secrets_are_read() {
        let specs = specs(
            "a = { env = \"SET\" }\nb = { file = \"key\" }\nc = { command = \"op read x\" }\nd = { age = \"x.age\" }\n",
        )
        .expect("secrets");
        let used = ["a", "b", "d"].map(str::to_owned).into();
        let secrets = resolve(&specs, Some(&used), &Fake).expect("values");
        let shown: Vec<(&str, &str)> = secrets.iter().map(|(name, secret)| (name.as_str(), secret.expose())).collect();
        assert_eq!(shown, [("a", "value"), ("b", "/project/key\nsecond"), ("d", "decrypted")]);
    }

    #[test]
    fn secrets_that_cannot_be_read_are_all_named() {
        let specs = specs("a = { env = \"UNSET\" }\nb = { env = \"EMPTY\" }\nc = { command = \"op read x\" }\n")
            .expect("secrets");
        let problems = resolve(&specs, None, &Fake).expect_err("problems");
        insta::assert_snapshot!(diagnostic::render(&problems, false), @r#"
        error: the secret `a` cannot be read: the environment variable `UNSET` is not set
         --> inventory.toml:1:1
          |
        1 | a = { env = "UNSET" }
          | ^

        error: the secret `b` cannot be read: its value is empty
         --> inventory.toml:2:1
          |
        2 | b = { env = "EMPTY" }
          | ^

        error: the secret `c` cannot be read: `op read x` ended with status 1
         --> inventory.toml:3:1
          |
        3 | c = { command = "op read x" }
          | ^
        "#);
    }

    #[test]
    fn a_secret_has_exactly_one_source() {
        let problems = specs(
            "a = {}\nb = { env = \"X\", file = \"y\" }\nc = { evn = \"X\" }\nd-e = { env = \"X\" }\nf = \"hunter22\"\n",
        )
        .expect_err("problems");
        insta::assert_snapshot!(problems, @r#"
        error: the secret `f` stands in the clear at inventory.toml:5:5
         |
         = help: say where it comes from: `{ env = "NAME" }`, `{ file = "PATH" }` …

        error: the secret `a` comes from nowhere
         --> inventory.toml:1:5
          |
        1 | a = {}
          |     ^^ expected exactly one of `env`, `file`, `command` and `age`

        error: the secret `b` comes from several sources
         --> inventory.toml:2:5
          |
        2 | b = { env = "X", file = "y" }
          |     ^^^^^^^^^^^^^^^^^^^^^^^^^ expected exactly one of `env`, `file`, `command` and `age`

        error: the secret `c` has no key `evn`
         --> inventory.toml:3:7
          |
        3 | c = { evn = "X" }
          |       ^^^ unknown key
          |
          = help: did you mean `env`?

        error: `d-e` cannot be the name of a secret
         --> inventory.toml:4:1
          |
        4 | d-e = { env = "X" }
          | ^^^ expected letters, digits and `_`, beginning with a letter
        "#);
    }
}
