//! What templates of one host can refer to, and their rendering.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::command::EnvValue;
use crate::config::located::Vars;
use crate::config::options::OptionValue;
use crate::config::recipe::StepSpec;
use crate::config::selection::Host;
use crate::document::{Node, Problem, Problems, Source};
use crate::secret::Secret;

/// What is known of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFacts {
    /// `app`.
    pub app: String,
    /// `environment`.
    pub environment: Option<String>,
    /// `deploy_to` where there is no host.
    pub deploy_to: String,
    /// `release`, from which `release_path` follows.
    pub release: Option<String>,
    /// `revision`.
    pub revision: Option<String>,
    /// `branch`.
    pub branch: Option<String>,
    /// Nothing of the release is known yet: it, the revision and the branch get stand-ins.
    pub checking: bool,
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
    /// All hosts of the run: `hosts`.
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
#[derive(Debug)]
pub struct Scope {}

/// A text and the secrets that went into it.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// The names of the secrets in it.
    pub secrets: BTreeSet<String>,
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
    /// Whether `when` and `unless` let it happen.
    pub wanted: bool,
}

impl Scope {
    /// Names and checks everything that templates can refer to.
    pub fn new(_ingredients: Ingredients<'_>) -> Result<Self, Problems> {
        Err(Problems::new())
    }

    /// The plain text of a template; secrets are refused.
    pub fn text(&self, _node: &Node) -> Result<String, Problem> {
        Ok(String::new())
    }

    /// Shell text: every inserted value is quoted as one word, unless the template says `|safe`.
    /// Secrets are refused, because the text shows in process lists and logs.
    pub fn shell(&self, _node: &Node) -> Result<String, Problem> {
        Ok(String::new())
    }

    /// `node` with every string in it rendered; secrets are refused.
    pub fn node(&self, node: &Node, _mode: Mode) -> Result<Node, Problems> {
        Ok(node.clone())
    }

    /// The value of an environment variable; one that contains a secret is a secret.
    pub fn env_value(&self, _node: &Node) -> Result<EnvValue, Problem> {
        Ok(EnvValue::Plain(String::new()))
    }

    /// A settings file; it may contain secrets.
    pub fn file(&self, _source: &Arc<Source>) -> Result<Rendered, Problem> {
        Ok(Rendered { text: String::new(), secrets: BTreeSet::new() })
    }

    /// Whether an expression such as `not options.skip_front_build` is true.
    pub fn truth(&self, _node: &Node) -> Result<bool, Problem> {
        Ok(true)
    }

    /// A step with all that is a template in it rendered. All problems are returned at once.
    pub fn step(&self, _step: &StepSpec) -> Result<RenderedStep, Problems> {
        Err(Problems::new())
    }

    /// The names of all secrets that anything rendered so far has used.
    pub fn used_secrets(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }
}
