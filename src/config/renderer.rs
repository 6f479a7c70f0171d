//! Templates of one host become text: variables are looked up, checked and resolved when they are needed.
//!
//! Deliberately absent: which variables there are (`scope`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::value::Value;

use crate::config::cycles;
use crate::config::placeholders::{Name, expression_names, tags};
use crate::config::scope::{Mode, Rendered};
use crate::config::secret_values::{SecretValues, Tracker};
use crate::config::selection::Peer;
use crate::config::shell_text::{Where, misquoted};
use crate::config::template::{PLAIN, SHELL, engine, is_template};
use crate::config::template_problem;
use crate::document::{self, Node, Problem, Problems};

/// What a name in a template stands for.
#[derive(Clone, Debug)]
pub enum Variable {
    /// A value.
    Value(Value),
    /// A value of a file; strings in it are templates.
    Node(Node),
    /// All hosts of the environment.
    Peers(Arc<Vec<Peer>>),
}

/// The name under which templates find secrets.
pub const SECRETS: &str = "secrets";

/// The variables of one host, and what was made of them so far.
pub struct Renderer {
    variables: BTreeMap<String, Variable>,
    secrets: SecretValues,
    resolved: Mutex<BTreeMap<String, Result<Resolved, Problems>>>,
    used: Mutex<BTreeSet<String>>,
    /// Why names that exist elsewhere do not exist here.
    absent: fn(&str) -> Option<&'static str>,
}

#[derive(Clone)]
struct Resolved {
    value: Value,
    secrets: BTreeSet<String>,
}

impl Renderer {
    /// A renderer whose variables do not refer to themselves: everything after this relies on that.
    pub fn new(
        variables: BTreeMap<String, Variable>,
        secrets: SecretValues,
        absent: fn(&str) -> Option<&'static str>,
    ) -> Result<Self, Problems> {
        let problems = cycles::find(&variables);
        let renderer = Self { variables, secrets, resolved: Mutex::default(), used: Mutex::default(), absent };
        if problems.is_empty() { Ok(renderer) } else { Err(problems) }
    }

    /// What is wrong with the templates in variables, also in those that nothing uses.
    pub fn check_variables(&self) -> Problems {
        let nodes = self.variables.values().filter_map(|variable| match variable {
            Variable::Node(node) => Some(node),
            _ => None,
        });
        nodes.flat_map(|node| self.check(node, Mode::Plain)).collect()
    }

    /// The names of all secrets that anything rendered so far has used.
    pub fn used(&self) -> BTreeSet<String> {
        lock(&self.used).clone()
    }

    /// Renders `text`, which stands at `node`.
    pub fn render(&self, text: &str, node: &Node, mode: Mode) -> Result<Rendered, Problems> {
        let rendered = self.render_unrecorded(text, node, mode)?;
        lock(&self.used).extend(rendered.secrets.iter().cloned());
        Ok(rendered)
    }

    /// As [`Renderer::render`], for variables: what they use counts only where they are used.
    fn render_unrecorded(&self, text: &str, node: &Node, mode: Mode) -> Result<Rendered, Problems> {
        if !is_template(text) {
            return Ok(Rendered { text: text.to_owned(), secrets: BTreeSet::new() });
        }
        let problems = self.check_text(text, node, mode);
        if !problems.is_empty() {
            return Err(problems);
        }
        let failed = |error: minijinja::Error| vec![self.problem(&error, text, node)];
        let template = engine().template_from_named_str(name(mode), text).map_err(failed)?;
        let (context, mut secrets, tracker) = self.context(template.undeclared_variables(false))?;
        let text = template.render(Value::from(context)).map_err(failed)?;
        secrets.extend(tracker.used());
        Ok(Rendered { text, secrets })
    }

    /// Whether the expression `text`, which stands at `node`, is true.
    pub fn truth(&self, text: &str, node: &Node) -> Result<bool, Problems> {
        let failed = |error: minijinja::Error| vec![self.problem(&error, text, node)];
        let problems = self.check_expression(text, node);
        if !problems.is_empty() {
            return Err(problems);
        }
        let expression = engine().compile_expression(text).map_err(failed)?;
        let (context, mut secrets, tracker) = self.context(expression.undeclared_variables(false))?;
        let value = expression.eval(Value::from(context)).map_err(failed)?;
        secrets.extend(tracker.used());
        lock(&self.used).extend(secrets);
        if value.is_undefined() {
            return Err(vec![Problem::at(&node.place, "this expression has no value").label("expected true or false")]);
        }
        Ok(value.is_true())
    }

    /// Whether the expression depends, also through variables, on a name for which `is` is true.
    pub fn depends_on(&self, text: &str, is: &dyn Fn(&str) -> bool) -> bool {
        let Ok(expression) = engine().compile_expression(text) else { return false };
        let mut seen = BTreeSet::new();
        let mut next: Vec<String> = expression.undeclared_variables(false).into_iter().collect();
        while let Some(name) = next.pop() {
            if is(&name) {
                return true;
            }
            if seen.insert(name.clone())
                && let Some(Variable::Node(node)) = self.variables.get(&name)
            {
                next.extend(cycles::references(node));
            }
        }
        false
    }

    /// What is wrong with the templates in `node`, whatever values they get: syntax, names that do not
    /// exist, values between quotes.
    pub fn check(&self, node: &Node, mode: Mode) -> Problems {
        match &node.value {
            document::Value::String(text) if is_template(text) => self.check_text(text, node, mode),
            document::Value::Array(items) => items.iter().flat_map(|item| self.check(item, mode)).collect(),
            document::Value::Table(entries) => entries.iter().flat_map(|entry| self.check(&entry.node, mode)).collect(),
            _ => Problems::new(),
        }
    }

    /// As [`Renderer::check`], for an expression.
    pub fn check_expression(&self, text: &str, node: &Node) -> Problems {
        match engine().compile_expression(text) {
            Err(error) => vec![self.problem(&error, text, node)],
            Ok(expression) => {
                let paths = expression.undeclared_variables(true);
                self.check_names(paths.into_iter().collect(), &expression_names(text), node)
            }
        }
    }

    fn check_text(&self, text: &str, node: &Node, mode: Mode) -> Problems {
        let template = match engine().template_from_named_str(name(mode), text) {
            Ok(template) => template,
            Err(error) => return vec![self.problem(&error, text, node)],
        };
        let tags = tags(text);
        let names: Vec<Name> = tags.iter().flat_map(|tag| tag.names.iter().cloned()).collect();
        let paths = template.undeclared_variables(true);
        let mut problems = self.check_names(paths.into_iter().collect(), &names, node);
        if mode == Mode::Shell {
            problems.extend(misquoted(text, &tags).into_iter().map(|(range, wrong)| {
                let (message, label, help) = match wrong {
                    Where::Quotes => (
                        "a quoted value between quotes",
                        "ship quotes the value; remove the quotes around it",
                        "to put the value into a longer word, write it beside the quotes: \"a \"{{ x }}\" b\"",
                    ),
                    Where::HereDocument => (
                        "a quoted value in a here-document",
                        "ship quotes the value, and its quotes would stay",
                        "write the file with a `settings` step",
                    ),
                };
                Problem::at(&node.inside(&range), message).label(label).help(help.to_owned())
            }));
        }
        problems
    }

    /// `paths` are what minijinja says is referred to, `names` where it stands.
    fn check_names(&self, paths: BTreeSet<String>, names: &[Name], node: &Node) -> Problems {
        let mut problems = Problems::new();
        for path in paths {
            let mut parts = path.split('.');
            let Some(root) = parts.next() else { continue };
            let below = |path: &str, name: &Name| {
                name.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            let Some((missing, help)) = self.missing(root, parts) else { continue };
            // `x is defined` also provides for `x.y`.
            if names.iter().any(|name| {
                name.guarded
                    && (below(&missing, name) || below(&name.path, &Name { path: missing.clone(), ..name.clone() }))
            }) {
                continue;
            }
            for name in names.iter().filter(|name| below(&missing, name)) {
                let range = name.range.start..name.range.start + missing.len();
                let message = format!("`{missing}` is not defined");
                problems.push(Problem::at(&node.inside(&range), message).label("no such variable").help(help.clone()));
            }
            if !names.iter().any(|name| below(&missing, name)) {
                problems.push(Problem::at(&node.place, format!("`{missing}` is not defined")).help(help));
            }
        }
        problems.dedup();
        problems
    }

    /// The first part of `root` and `attributes` that does not exist, as a path, with what might be meant.
    fn missing<'a>(&self, root: &str, attributes: impl Iterator<Item = &'a str>) -> Option<(String, Option<String>)> {
        let near = |name: &str, existing: &mut dyn Iterator<Item = String>| {
            let existing: Vec<String> = existing.collect();
            document::nearest(name, existing.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"))
        };
        if root == SECRETS {
            let first = attributes.into_iter().next()?;
            let known = self.secrets.names();
            return (!known.contains(first)).then(|| {
                let help = near(first, &mut known.iter().map(|name| format!("{SECRETS}.{name}")))
                    .or_else(|| near(first, &mut known.iter().cloned()))
                    .unwrap_or_else(|| format!("say in `[secrets]` of the inventory where `{first}` comes from"));
                (format!("{SECRETS}.{first}"), Some(help))
            });
        }
        if !self.variables.contains_key(root) {
            if engine().globals().any(|(name, _)| name == root) {
                return None;
            }
            let help = (self.absent)(root)
                .map(str::to_owned)
                .or_else(|| near(root, &mut self.variables.keys().cloned()))
                .unwrap_or_else(|| {
                    "variables stand in `[vars]` of the recipe and the inventory, or come by `--set`".to_owned()
                });
            return Some((root.to_owned(), Some(help)));
        }
        // A variable with a problem of its own is reported where it stands.
        let mut value = self.resolve(root).ok()?.value;
        let mut path = root.to_owned();
        for attribute in attributes {
            if value.kind() != minijinja::value::ValueKind::Map {
                return None;
            }
            let next = value.get_attr(attribute).ok()?;
            if next.is_undefined() {
                let keys = value.try_iter().into_iter().flatten().map(|key| key.to_string());
                let help = near(attribute, &mut keys.collect::<Vec<_>>().into_iter());
                return Some((format!("{path}.{attribute}"), help));
            }
            path.push('.');
            path.push_str(attribute);
            value = next;
        }
        None
    }

    /// The values of `names`, and the secrets in them.
    #[expect(clippy::type_complexity, reason = "a tuple of three that goes to two callers")]
    fn context(
        &self,
        names: impl IntoIterator<Item = String>,
    ) -> Result<(BTreeMap<String, Value>, BTreeSet<String>, Arc<Tracker>), Problems> {
        let tracker = self.secrets.tracker();
        let mut context = BTreeMap::new();
        let mut secrets = BTreeSet::new();
        let mut problems = Problems::new();
        for name in names {
            if name == SECRETS {
                context.insert(name, Value::from_dyn_object(tracker.clone()));
            } else if self.variables.contains_key(&name) {
                match self.resolve(&name) {
                    Ok(resolved) => {
                        secrets.extend(resolved.secrets);
                        context.insert(name, resolved.value);
                    }
                    Err(found) => problems.extend(found),
                }
            }
        }
        if problems.is_empty() { Ok((context, secrets, tracker)) } else { Err(problems) }
    }

    /// The value of the variable `name`. Ends, because there are no cycles.
    fn resolve(&self, name: &str) -> Result<Resolved, Problems> {
        if let Some(resolved) = lock(&self.resolved).get(name) {
            return resolved.clone();
        }
        let mut secrets = BTreeSet::new();
        let value = match self.variables.get(name) {
            None => Ok(Value::UNDEFINED),
            Some(Variable::Value(value)) => Ok(value.clone()),
            Some(Variable::Peers(peers)) => Ok(peers.iter().map(peer).collect()),
            Some(Variable::Node(node)) => self.value(node, &mut secrets),
        };
        let resolved = value.map(|value| Resolved { value, secrets });
        lock(&self.resolved).insert(name.to_owned(), resolved.clone());
        resolved
    }

    fn value(&self, node: &Node, secrets: &mut BTreeSet<String>) -> Result<Value, Problems> {
        Ok(match &node.value {
            document::Value::String(text) => {
                let rendered = self.render_unrecorded(text, node, Mode::Plain)?;
                secrets.extend(rendered.secrets);
                Value::from(rendered.text)
            }
            document::Value::Integer(number) => Value::from(*number),
            document::Value::Float(number) => Value::from(*number),
            document::Value::Boolean(boolean) => Value::from(*boolean),
            document::Value::Array(items) => {
                items.iter().map(|item| self.value(item, secrets)).collect::<Result<Vec<Value>, Problems>>()?.into()
            }
            // Collecting pairs into a value would make a list of pairs.
            document::Value::Table(entries) => Value::from_pairs(
                entries
                    .iter()
                    .map(|entry| Ok((entry.key.clone(), self.value(&entry.node, secrets)?)))
                    .collect::<Result<Vec<(String, Value)>, Problems>>()?,
            ),
        })
    }

    fn problem(&self, error: &minijinja::Error, text: &str, node: &Node) -> Problem {
        template_problem::problem(error, text, node, &self.secrets.masker())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panicking thread left is still whole: every change is one insertion.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Plain => PLAIN,
        Mode::Shell => SHELL,
    }
}

fn peer(peer: &Peer) -> Value {
    Value::from_pairs([
        ("name", Value::from(peer.name.as_str())),
        ("address", Value::from(peer.address.as_str())),
        ("roles", Value::from(peer.roles.clone())),
        ("groups", Value::from(peer.groups.clone())),
    ])
}
