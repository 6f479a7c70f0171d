//! What templates of one host can refer to, and their rendering.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::command::EnvValue;
use crate::config::located::Vars;
use crate::config::options::OptionValue;
use crate::config::placeholders::tags;
use crate::config::recipe::StepSpec;
use crate::config::renderer::{Renderer, SECRETS};
use crate::config::secret_values::SecretValues;
use crate::config::selection::Host;
use crate::config::template::is_template;
use crate::config::variables::{self, Variables, absent_before_placement, absent_here, absent_in_setup};
use crate::document::{self, Entry, Node, Place, Problem, Problems, Source};
use crate::secret::{MASK, Secret};
use crate::step::Kind;

/// What is known of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFacts {
    /// `app`.
    pub app: String,
    /// `environment`.
    pub environment: Option<String>,
    /// `deploy_to` where there is no host: what all hosts have in common.
    pub deploy_to: Option<String>,
    /// `release`, from which `release_path` follows.
    pub release: Option<String>,
    /// `revision`.
    pub revision: Option<String>,
    /// `branch`.
    pub branch: Option<String>,
    /// `time`: when the release was made, as RFC 3339 in UTC.
    pub time: Option<String>,
    /// `by`: who made the release.
    pub by: Option<String>,
    /// Nothing of the release is known yet: it, the revision and the branch get stand-ins.
    pub checking: bool,
    /// The run is a setup, which belongs to no release: nothing of one is defined.
    pub setup: bool,
}

/// The secrets as templates see them.
#[derive(Clone, Debug)]
pub enum KnownSecrets {
    /// Only the names: each value is a stand-in. For checking, and for finding out which are used.
    Names(BTreeSet<String>),
    /// The values.
    Values(BTreeMap<String, Secret>),
}

/// All that a [`Scope`] is made of.
#[derive(Clone, Copy, Debug)]
pub struct Ingredients<'a> {
    /// The recipe's variables.
    pub recipe: &'a Vars,
    /// Variables where there is no host: [`crate::config::selection::Selection::vars`].
    pub vars: &'a Vars,
    /// The host; `None` for what happens on this machine.
    pub host: Option<&'a Host>,
    /// All hosts of the run, for what happens on this machine.
    pub hosts: &'a [Host],
    /// `--set KEY=VALUE`.
    pub set: &'a [(String, String)],
    /// The values of the recipe's options.
    pub options: &'a BTreeMap<String, OptionValue>,
    /// The names of all options of the recipe, also of those without a value.
    pub option_names: &'a [String],
    /// The run.
    pub run: &'a RunFacts,
    /// The secrets.
    pub secrets: &'a KnownSecrets,
}

/// How a value is put into text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As it is.
    Plain,
    /// As one word of shell, unless the template says `|safe`.
    Shell,
}

/// What templates of one host, or of this machine, can refer to.
pub struct Scope {
    renderer: Renderer,
    /// The names of what is known only by a stand-in.
    stand_ins: BTreeSet<&'static str>,
    /// Whether it belongs to a host, and not to this machine.
    is_host: bool,
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("stand_ins", &self.stand_ins).finish_non_exhaustive()
    }
}

/// A text and the secrets that went into it.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// The names of the secrets in it.
    pub secrets: BTreeSet<String>,
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if self.secrets.is_empty() { self.text.as_str() } else { MASK };
        f.debug_struct("Rendered").field("text", &text).field("secrets", &self.secrets).finish()
    }
}

/// A step with all templates rendered for one host.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedStep {
    /// Its name.
    pub name: Option<String>,
    /// The value of its action key.
    pub body: Node,
    /// Where commands run.
    pub cwd: Option<String>,
    /// The environment of commands.
    pub env: Vec<(String, EnvValue)>,
    /// In `setup`: what is there once the step is done.
    pub creates: Option<String>,
    /// In `setup`: what says that the step is done.
    pub done_when: Option<String>,
    /// Whether `when` and `unless` let it happen.
    pub wanted: bool,
}

impl Scope {
    /// Names everything that templates can refer to. What is wrong with variables that nothing uses is
    /// left to [`Scope::problems`].
    pub fn new(ingredients: Ingredients<'_>) -> Result<Self, Problems> {
        let Variables { known, stand_ins, mut problems } = variables::of(&ingredients);
        let is_host = ingredients.host.is_some();
        let absent: fn(&str) -> _ = match ingredients.host {
            None => absent_here,
            Some(host) if is_template(&host.deploy_to) => absent_before_placement,
            Some(_) if ingredients.run.setup => absent_in_setup,
            Some(_) => |_| None,
        };
        match Renderer::new(known, SecretValues::new(ingredients.secrets), absent) {
            Ok(renderer) if problems.is_empty() => Ok(Self { renderer, stand_ins, is_host }),
            Ok(_) => Err(problems),
            Err(found) => {
                problems.extend(found);
                Err(problems)
            }
        }
    }

    /// What is wrong with the variables themselves, whether anything uses them or not. On this machine
    /// nothing, for there a variable may need what only hosts have, as long as nobody needs it.
    pub fn problems(&self) -> Problems {
        if self.is_host { self.renderer.check_variables() } else { Problems::new() }
    }

    /// The plain text of a template; secrets are refused.
    pub fn text(&self, node: &Node) -> Result<String, Problem> {
        self.string(node, Mode::Plain).map_err(|problems| first(problems, node))
    }

    /// Shell text: every inserted value is quoted as one word, unless the template says `|safe`.
    /// Secrets are refused, because the text shows in process lists and logs.
    pub fn shell(&self, node: &Node) -> Result<String, Problem> {
        self.string(node, Mode::Shell).map_err(|problems| first(problems, node))
    }

    /// `node` with every string in it rendered; secrets are refused.
    pub fn node(&self, node: &Node, mode: Mode) -> Result<Node, Problems> {
        let mut problems = Problems::new();
        let rendered = self.tree(node, &|_| mode, &mut problems);
        if problems.is_empty() { Ok(rendered) } else { Err(problems) }
    }

    /// The value of an environment variable; one that contains a secret is a secret.
    pub fn env_value(&self, node: &Node) -> Result<EnvValue, Problem> {
        self.environment_value(node).map_err(|problems| first(problems, node))
    }

    /// A settings file; it may contain secrets. All problems are returned at once.
    pub fn file(&self, source: &Arc<Source>) -> Result<Rendered, Problems> {
        let place = Place { source: Arc::clone(source), span: 0..source.text.len() };
        let node = Node { place, value: document::Value::String(source.text.clone()) };
        self.renderer.render(&source.text, &node, Mode::Plain)
    }

    /// Whether an expression such as `not options.skip_front_build` is true.
    pub fn truth(&self, node: &Node) -> Result<bool, Problem> {
        self.condition(node).map_err(|problems| first(problems, node))
    }

    /// A step with all that is a template in it rendered. All problems are returned at once.
    ///
    /// Where `when` or `unless` keep it from happening, its templates are only checked, for they may
    /// need values that are there only when it happens.
    pub fn step(&self, step: &StepSpec) -> Result<RenderedStep, Problems> {
        let mut problems = Problems::new();
        let mut wanted = true;
        for (condition, expected) in [(&step.modifiers.when, true), (&step.modifiers.unless, false)] {
            let Some(condition) = condition else { continue };
            match self.condition(condition) {
                // With stand-ins nobody knows; a step that may happen is taken to happen.
                Ok(_) if self.is_unknown(condition) => {}
                Ok(truth) => wanted &= truth == expected,
                Err(found) => problems.extend(found),
            }
        }
        let mode = |key: Option<&str>| body_mode(step.kind, &step.body, key);
        let name = step
            .name
            .as_ref()
            .map(|name| Node { place: name.place.clone(), value: document::Value::String(name.value.clone()) });
        if !wanted {
            problems.extend(self.check_tree(&step.body, &mode));
            let plain = name.iter().chain(&step.modifiers.cwd).chain(&step.modifiers.creates);
            let plain = plain.chain(step.modifiers.env.iter().map(|(_, node)| node));
            problems.extend(plain.flat_map(|node| self.renderer.check(node, Mode::Plain)));
            problems.extend(step.modifiers.done_when.iter().flat_map(|node| self.renderer.check(node, Mode::Shell)));
            let unrendered = RenderedStep {
                name: None,
                body: step.body.clone(),
                cwd: None,
                env: Vec::new(),
                creates: None,
                done_when: None,
                wanted,
            };
            return if problems.is_empty() { Ok(unrendered) } else { Err(problems) };
        }
        let body = self.tree(&step.body, &mode, &mut problems);
        let mut plain = |node: Option<&Node>| {
            node.and_then(|node| self.string(node, Mode::Plain).map_err(|found| problems.extend(found)).ok())
        };
        let name = plain(name.as_ref());
        let cwd = plain(step.modifiers.cwd.as_ref());
        let creates = plain(step.modifiers.creates.as_ref());
        let done_when = step
            .modifiers
            .done_when
            .as_ref()
            .and_then(|node| self.string(node, Mode::Shell).map_err(|found| problems.extend(found)).ok());
        let mut env = Vec::new();
        for (name, node) in &step.modifiers.env {
            match self.environment_value(node) {
                Ok(value) => env.push((name.clone(), value)),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() {
            Ok(RenderedStep { name, body, cwd, env, creates, done_when, wanted })
        } else {
            Err(problems)
        }
    }

    /// The names of all secrets that anything rendered so far has used.
    pub fn used_secrets(&self) -> BTreeSet<String> {
        self.renderer.used()
    }

    fn string(&self, node: &Node, mode: Mode) -> Result<String, Problems> {
        let Some(text) = scalar(node) else {
            return Err(vec![
                Problem::at(&node.place, format!("this is {}", node.value.kind())).label("expected a string"),
            ]);
        };
        let rendered = self.renderer.render(&text, node, mode)?;
        match rendered.secrets.first() {
            None => Ok(rendered.text),
            Some(secret) => Err(vec![
                Problem::at(
                    &place_of(&format!("{SECRETS}.{secret}"), &text, node),
                    format!("the secret `{secret}` would show here, in process lists and logs"),
                )
                .label("a secret may stand only in a settings file and in `env`")
                .help(format!(
                    "write `env = {{ {} = \"{{{{ {SECRETS}.{secret} }}}}\" }}`, and \"${0}\" in the command",
                    secret.to_uppercase()
                )),
            ]),
        }
    }

    fn environment_value(&self, node: &Node) -> Result<EnvValue, Problems> {
        let text = scalar(node).unwrap_or_default();
        let rendered = self.renderer.render(&text, node, Mode::Plain)?;
        if rendered.secrets.is_empty() {
            Ok(EnvValue::Plain(rendered.text))
        } else {
            Ok(EnvValue::Secret(Secret::new(rendered.text)))
        }
    }

    fn condition(&self, node: &Node) -> Result<bool, Problems> {
        match &node.value {
            document::Value::Boolean(boolean) => Ok(*boolean),
            document::Value::String(text) => self.renderer.truth(text, node),
            other => {
                Err(vec![Problem::at(&node.place, format!("this is {}", other.kind())).label("expected an expression")])
            }
        }
    }

    fn is_unknown(&self, node: &Node) -> bool {
        match &node.value {
            document::Value::String(text) => self.renderer.depends_on(text, &|name| self.stand_ins.contains(name)),
            _ => false,
        }
    }

    /// Renders a tree; `mode` says how for the strings below a key of the outermost table.
    fn tree(&self, node: &Node, mode: &dyn Fn(Option<&str>) -> Mode, problems: &mut Problems) -> Node {
        let value = match &node.value {
            document::Value::String(_) => match self.string(node, mode(None)) {
                Ok(text) => document::Value::String(text),
                Err(found) => {
                    problems.extend(found);
                    node.value.clone()
                }
            },
            document::Value::Array(items) => {
                document::Value::Array(items.iter().map(|item| self.tree(item, mode, problems)).collect())
            }
            document::Value::Table(entries) => document::Value::Table(
                entries
                    .iter()
                    .map(|entry| {
                        let below = mode(Some(&entry.key));
                        Entry { node: self.tree(&entry.node, &|_| below, problems), ..entry.clone() }
                    })
                    .collect(),
            ),
            other => other.clone(),
        };
        Node { place: node.place.clone(), value }
    }

    fn check_tree(&self, node: &Node, mode: &dyn Fn(Option<&str>) -> Mode) -> Problems {
        match &node.value {
            document::Value::Table(entries) => {
                entries.iter().flat_map(|entry| self.renderer.check(&entry.node, mode(Some(&entry.key)))).collect()
            }
            _ => self.renderer.check(node, mode(None)),
        }
    }
}

/// How the strings of a step's body are rendered, those below `key` where it is a table.
fn body_mode(kind: Kind, body: &Node, key: Option<&str>) -> Mode {
    let shell = match kind {
        Kind::Wait => key == Some("command"),
        // One string is split into words as a shell would; an array has them split already.
        Kind::Sudo => matches!(body.value, document::Value::String(_)),
        kind => kind.is_shell(),
    };
    if shell { Mode::Shell } else { Mode::Plain }
}

/// Where `path` stands in the template `text`; the whole of it where it comes by a variable.
fn place_of(path: &str, text: &str, node: &Node) -> Place {
    let found = tags(text).into_iter().flat_map(|tag| tag.names).find(|name| name.path == path);
    found.map_or_else(|| node.place.clone(), |name| node.inside(&name.range))
}

/// A string, or a number or boolean as it would be written.
fn scalar(node: &Node) -> Option<String> {
    match &node.value {
        document::Value::String(text) => Some(text.clone()),
        document::Value::Integer(number) => Some(number.to_string()),
        document::Value::Float(number) => Some(number.to_string()),
        document::Value::Boolean(boolean) => Some(boolean.to_string()),
        _ => None,
    }
}

fn first(problems: Problems, node: &Node) -> Problem {
    problems.into_iter().next().unwrap_or_else(|| Problem::at(&node.place, "this cannot be rendered"))
}
