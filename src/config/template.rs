//! The template language: minijinja, with the habits that settings files and commands need.
//!
//! `true` is written `true` (not `True`), an absent value is an error (not `None`), a list is an error
//! until the template says how to write it, nothing is escaped for HTML, and the last line break stays.

use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior};

use crate::command;
use crate::document::{self, Node};

/// The name under which shell text is compiled: every value in it becomes one quoted word.
pub const SHELL: &str = "shell";
/// The name under which all other text is compiled.
pub const PLAIN: &str = "plain";

/// Why a value that is there, but empty, cannot be written.
pub const NO_VALUE: &str = "it has no value in this run";

/// How many steps a template may take: enough for a list of thousands of hosts, and an end to loops that
/// have none.
const FUEL: u64 = 5_000_000;

/// Whether a string has anything to render. `${#list}` of the shell is no comment.
pub fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || (text.contains("{#") && text.contains("#}"))
}

/// Whether any string in `node` has anything to render.
pub fn has_template(node: &Node) -> bool {
    match &node.value {
        document::Value::String(text) => is_template(text),
        document::Value::Array(items) => items.iter().any(has_template),
        document::Value::Table(entries) => entries.iter().any(|entry| has_template(&entry.node)),
        _ => false,
    }
}

/// The one environment of all templates; it holds no variables.
pub fn engine() -> &'static Environment<'static> {
    static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(build);
    &ENGINE
}

fn build() -> Environment<'static> {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_auto_escape_callback(
        |name| {
            if name == SHELL { AutoEscape::Custom(SHELL.into()) } else { AutoEscape::None }
        },
    );
    engine.set_formatter(format);
    // Ranges of errors are kept only in debug mode.
    engine.set_debug(true);
    engine.set_fuel(Some(FUEL));
    if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
        engine.set_syntax(syntax);
    }
    // It prints every variable, secrets included.
    engine.remove_global("debug");
    engine.add_filter("tojson", to_json);
    engine.add_filter("words", words);
    engine
}

fn format(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let shell = matches!(state.auto_escape(), AutoEscape::Custom(name) if *name == SHELL);
    let text = match value.kind() {
        // `{{ "x" if condition }}` without `else`; other undefined values never get here.
        ValueKind::Undefined => return Ok(()),
        ValueKind::None => return Err(wrong(NO_VALUE)),
        ValueKind::Bool => (if value.is_true() { "true" } else { "false" }).to_owned(),
        ValueKind::Number | ValueKind::String => value.to_string(),
        ValueKind::Seq | ValueKind::Iterable if shell => {
            return Err(wrong(
                "it is a list; say `|words` for one word each, or `|join(',')` or `|tojson` for one word",
            ));
        }
        ValueKind::Seq | ValueKind::Iterable => {
            return Err(wrong("it is a list; say how to write it: `|join(', ')` or `|tojson`"));
        }
        ValueKind::Map => return Err(wrong("it is a table; name one of its keys, or say `|tojson`")),
        _ => return Err(wrong("it cannot be written as text")),
    };
    let written = if shell && !value.is_safe() { out.write_str(&command::quote(&text)) } else { out.write_str(&text) };
    written.map_err(|_| Error::from(ErrorKind::WriteFailure))
}

fn wrong(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

/// `|tojson`, `|tojson(indent=2)`: plain JSON, without HTML's escapes.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    let json = match indent {
        None => serde_json::to_string(value),
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            let mut bytes = Vec::new();
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
            serde::Serialize::serialize(value, &mut serializer)
                .and_then(|()| String::from_utf8(bytes).map_err(serde::ser::Error::custom))
        }
    };
    json.map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

/// `|words`: the items of a list as words of a command, each quoted.
fn words(value: &Value) -> Result<Value, Error> {
    let mut words = Vec::new();
    for item in value.try_iter()? {
        match item.kind() {
            ValueKind::String | ValueKind::Number => words.push(item.to_string()),
            _ => return Err(wrong("its items are not all strings or numbers")),
        }
    }
    Ok(Value::from_safe_string(command::join(words.iter().map(String::as_str))))
}
