//! Options that a recipe declares: they become flags of `ship deploy` and variables of templates.

use std::collections::BTreeMap;

use crate::config::keys;
use crate::config::names::variable;
use crate::document::{Entry, Place, Problem, Problems, Reader, Value, nearest};

/// What an option takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// A flag without a value.
    Bool,
    /// Any text.
    String,
    /// A whole number.
    Integer,
    /// One of these.
    Choice(Vec<String>),
}

/// The value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionValue {
    /// Of a flag.
    Bool(bool),
    /// Of a string or a choice.
    String(String),
    /// Of an integer.
    Integer(i64),
}

/// An option of a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionSpec {
    /// Its name in templates: `[a-z][a-z0-9_]*`.
    pub name: String,
    /// What it takes.
    pub kind: OptionKind,
    /// Its value where the command line gives none; flags have `false`.
    pub default: Option<OptionValue>,
    /// The help of its flag.
    pub help: Option<String>,
    /// Where it is declared.
    pub place: Place,
}

impl OptionSpec {
    /// The flag without its dashes: `skip-front-build`.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }
}

/// Flags of `ship deploy` itself, which no option may take.
pub const RESERVED_FLAGS: &[&str] = &[
    "artifact",
    "batch",
    "branch",
    "color",
    "dry-run",
    "group",
    "help",
    "host",
    "inventory",
    "lock-wait",
    "max-failures",
    "no-color",
    "only",
    "out",
    "output",
    "overwrite",
    "plan",
    "quiet",
    "reason",
    "revision",
    "role",
    "set",
    "skip",
    "ssh-config",
    "timeout",
    "timing",
    "to",
    "user",
    "verbose",
    "version",
    "yes",
];

/// Reads the table `entries` of options.
pub fn read(entries: &[Entry], problems: &mut Problems) -> Vec<OptionSpec> {
    entries.iter().filter_map(|entry| read_one(entry, problems)).collect()
}

fn read_one(entry: &Entry, problems: &mut Problems) -> Option<OptionSpec> {
    let name = entry.key.as_str();
    if let Err(expected) = check_name(name) {
        problems
            .push(Problem::at(&entry.key_place, format!("`{name}` cannot be the name of an option")).label(expected));
    }
    let what = format!("the option `{name}`");
    let mut reader = Reader::of(&keys::OPTION, what.clone(), &entry.node, problems)?;
    reader.required("type", Some("add `type = \"bool\"`, `\"string\"`, `\"integer\"` or `\"choice\"`"));
    let kind = reader.located("type");
    let choices = reader.located_strings("choices");
    let default = reader.node("default");
    let help = reader.string("help");
    reader.finish();
    let kind = kind?;
    let known = match kind.value.as_str() {
        "bool" => OptionKind::Bool,
        "string" => OptionKind::String,
        "integer" => OptionKind::Integer,
        "choice" => OptionKind::Choice(choices.iter().flatten().map(|choice| choice.value.clone()).collect()),
        other => {
            let kinds = ["bool", "string", "integer", "choice"];
            problems.push(
                Problem::at(&kind.place, format!("{what} has the unknown type {other:?}"))
                    .label("expected `bool`, `string`, `integer` or `choice`")
                    .help(nearest(other, kinds).map(|near| format!("did you mean `{near}`?"))),
            );
            return None;
        }
    };
    match (&known, &choices) {
        (OptionKind::Choice(choices), _) if choices.is_empty() => problems.push(
            Problem::at(&kind.place, format!("{what} is a choice of nothing"))
                .help("add `choices = [\"one\", \"other\"]`".to_owned()),
        ),
        (OptionKind::Choice(_), _) | (_, None) => {}
        (_, Some(_)) => problems.push(
            Problem::at(&kind.place, format!("{what} has `choices`, but is no choice"))
                .label("expected `choice`, or no `choices`"),
        ),
    }
    let default = match default {
        Some(node) => match typed(&known, &node.value) {
            Ok(value) => Some(value),
            Err(expected) => {
                let message = format!("the default of {what} does not fit its type");
                problems.push(Problem::at(&node.place, message).label(expected));
                None
            }
        },
        None if known == OptionKind::Bool => Some(OptionValue::Bool(false)),
        None => None,
    };
    Some(OptionSpec { name: name.to_owned(), kind: known, default, help, place: entry.key_place.clone() })
}

fn check_name(name: &str) -> Result<(), String> {
    let shaped = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let flag = name.replace('_', "-");
    if !shaped || flag.ends_with('-') || flag.contains("--") {
        Err("expected small letters, digits and single `_`, beginning with a letter".to_owned())
    } else if RESERVED_FLAGS.contains(&flag.as_str()) {
        Err(format!("`ship deploy` has a flag `--{flag}` of its own"))
    } else {
        variable(name)
    }
}

fn typed(kind: &OptionKind, value: &Value) -> Result<OptionValue, String> {
    match (kind, value) {
        (OptionKind::Bool, Value::Boolean(value)) => Ok(OptionValue::Bool(*value)),
        (OptionKind::Integer, Value::Integer(value)) => Ok(OptionValue::Integer(*value)),
        (OptionKind::String, Value::String(value)) => Ok(OptionValue::String(value.clone())),
        (OptionKind::Choice(choices), Value::String(value)) if choices.contains(value) => {
            Ok(OptionValue::String(value.clone()))
        }
        _ => Err(expected(kind)),
    }
}

fn expected(kind: &OptionKind) -> String {
    match kind {
        OptionKind::Bool => "expected true or false".to_owned(),
        OptionKind::String => "expected a string".to_owned(),
        OptionKind::Integer => "expected a whole number".to_owned(),
        OptionKind::Choice(choices) => {
            format!(
                "expected one of {}",
                choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ")
            )
        }
    }
}

/// The value of every option, from what the command line gave: name (of the flag or in templates) → text,
/// `None` for a flag without a value. Options without value and default are left out.
pub fn values(
    options: &[OptionSpec],
    given: &[(String, Option<String>)],
) -> Result<BTreeMap<String, OptionValue>, Problems> {
    let mut values: BTreeMap<String, OptionValue> =
        options.iter().filter_map(|option| Some((option.name.clone(), option.default.clone()?))).collect();
    let mut problems = Problems::new();
    for (name, text) in given {
        let Some(option) = options.iter().find(|option| option.name == *name || option.flag() == *name) else {
            let flags: Vec<String> = options.iter().map(OptionSpec::flag).collect();
            let help = nearest(&name.replace('_', "-"), flags.iter().map(String::as_str))
                .map(|near| format!("did you mean `--{near}`?"));
            problems.push(Problem::without_place(format!("the recipe has no option `--{name}`")).help(help));
            continue;
        };
        match from_text(&option.kind, text.as_deref()) {
            Ok(value) => {
                values.insert(option.name.clone(), value);
            }
            Err(expected) => problems.push(
                Problem::without_place(match text {
                    Some(text) => format!("`--{}` cannot be {text:?}", option.flag()),
                    None => format!("`--{}` needs a value", option.flag()),
                })
                .label(expected),
            ),
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}

fn from_text(kind: &OptionKind, text: Option<&str>) -> Result<OptionValue, String> {
    let value = match (kind, text) {
        (OptionKind::Bool, None | Some("true")) => return Ok(OptionValue::Bool(true)),
        (OptionKind::Bool, Some("false")) => return Ok(OptionValue::Bool(false)),
        (OptionKind::Integer, Some(text)) => text.parse().ok().map(Value::Integer),
        (OptionKind::String | OptionKind::Choice(_), Some(text)) => Some(Value::String(text.to_owned())),
        _ => None,
    };
    value.map_or_else(|| Err(expected(kind)), |value| typed(kind, &value))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::diagnostic;
    use crate::document::parse;

    fn options(text: &str) -> Result<Vec<OptionSpec>, String> {
        let node = parse(Path::new("recipes/x.toml"), text.to_owned()).expect("valid TOML");
        let Value::Table(entries) = &node.value else { panic!("a table") };
        let mut problems = Problems::new();
        let options = read(entries, &mut problems);
        if problems.is_empty() { Ok(options) } else { Err(diagnostic::render(&problems, false)) }
    }

    const GOOD: &str = r#"
        skip_front_build = { type = "bool", help = "use what is there" }
        workers = { type = "integer", default = 4 }
        level = { type = "choice", choices = ["low", "high"], default = "low" }
        note = { type = "string" }
    "#;

    #[test]
    fn the_command_line_is_stronger_than_the_default() {
        let options = options(GOOD).expect("options");
        assert_eq!(options[0].flag(), "skip-front-build");
        let given = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        let values = values(&options, &[given("skip-front-build", None), given("level", Some("high"))]);
        assert_eq!(
            values,
            Ok(BTreeMap::from([
                ("level".to_owned(), OptionValue::String("high".to_owned())),
                ("skip_front_build".to_owned(), OptionValue::Bool(true)),
                ("workers".to_owned(), OptionValue::Integer(4)),
            ]))
        );
    }

    #[test]
    fn values_that_do_not_fit() {
        let options = options(GOOD).expect("options");
        let given = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        let problems = values(
            &options,
            &[
                given("workers", Some("many")),
                given("level", Some("middle")),
                given("note", None),
                given("skip_frnt_build", None),
            ],
        );
        insta::assert_snapshot!(diagnostic::render(&problems.expect_err("problems"), false), @r#"
        error: `--workers` cannot be "many"
         |
         = note: expected a whole number

        error: `--level` cannot be "middle"
         |
         = note: expected one of `low`, `high`

        error: `--note` needs a value
         |
         = note: expected a string

        error: the recipe has no option `--skip_frnt_build`
         |
         = help: did you mean `--skip-front-build`?
        "#);
    }

    #[test]
    fn options_that_cannot_be() {
        insta::assert_snapshot!(options("Bad-Name = { type = \"bool\" }\nbranch = { type = \"bool\" }\na = {}\nb = { type = \"boolean\" }\nc = { type = \"choice\" }\nd = { type = \"integer\", default = \"4\", choices = [\"1\"] }\n").expect_err("problems"), @r#"
        error: `Bad-Name` cannot be the name of an option
         --> recipes/x.toml:1:1
          |
        1 | Bad-Name = { type = "bool" }
          | ^^^^^^^^ expected small letters, digits and single `_`, beginning with a letter

        error: `branch` cannot be the name of an option
         --> recipes/x.toml:2:1
          |
        2 | branch = { type = "bool" }
          | ^^^^^^ `ship deploy` has a flag `--branch` of its own

        error: the option `a` has no `type`
         --> recipes/x.toml:3:5
          |
        3 | a = {}
          |     ^^
          |
          = help: add `type = "bool"`, `"string"`, `"integer"` or `"choice"`

        error: the option `b` has the unknown type "boolean"
         --> recipes/x.toml:4:14
          |
        4 | b = { type = "boolean" }
          |              ^^^^^^^^^ expected `bool`, `string`, `integer` or `choice`
          |
          = help: did you mean `bool`?

        error: the option `c` is a choice of nothing
         --> recipes/x.toml:5:14
          |
        5 | c = { type = "choice" }
          |              ^^^^^^^^
          |
          = help: add `choices = ["one", "other"]`

        error: the option `d` has `choices`, but is no choice
         --> recipes/x.toml:6:14
          |
        6 | d = { type = "integer", default = "4", choices = ["1"] }
          |              ^^^^^^^^^ expected `choice`, or no `choices`

        error: the default of the option `d` does not fit its type
         --> recipes/x.toml:6:35
          |
        6 | d = { type = "integer", default = "4", choices = ["1"] }
          |                                   ^^^ expected a whole number
        "#);
    }
}
