//! A recipe: what is done, phase by phase.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::located::{Located, Vars};
use crate::config::options::OptionSpec;
use crate::config::recipe_file;
use crate::document::{Node, Place, Problems, parse};
use crate::event::Phase;
use crate::step::Kind;

/// A checked recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Its name.
    pub name: String,
    /// What it is for, in one line.
    pub description: String,
    /// The options that it declares, in the order of the file.
    pub options: Vec<OptionSpec>,
    /// Its variables: the weakest.
    pub vars: Vars,
    /// What outlives releases.
    pub shared: Shared,
    /// Patterns of files that are never uploaded.
    pub exclude: Vec<String>,
    /// Folders of the checkout that are kept between builds.
    pub caches: Vec<String>,
    /// Whether no program changes an uploaded file, so that releases may share them.
    pub read_only: bool,
    /// systemd units for `ship status`, `ship logs` and `ship service`; templates.
    pub services: Vec<Node>,
    /// The settings file of `ship env` below `shared/`, where it is not `.env`; a template.
    pub env_file: Option<Node>,
    /// The steps: phases in the order of a run, steps in the order of the file.
    pub steps: Vec<StepSpec>,
    /// Where it comes from.
    pub origin: Origin,
    /// The file as a place, for problems of the whole.
    pub place: Place,
}

/// Where a recipe comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The binary.
    Embedded,
    /// A file of the project.
    Project(PathBuf),
}

/// Files and folders that outlive releases; templates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shared {
    /// Files.
    pub files: Vec<Node>,
    /// Folders.
    pub dirs: Vec<Node>,
}

/// A step of a recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct StepSpec {
    /// When it is done.
    pub phase: Phase,
    /// Its name, a template.
    pub name: Option<Located<String>>,
    /// What it does.
    pub kind: Kind,
    /// The value of its action key; templates.
    pub body: Node,
    /// How it is done.
    pub modifiers: Modifiers,
    /// Where it begins.
    pub place: Place,
}

/// How a step is done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Modifiers {
    /// Names for `--skip` and `--only`.
    pub tags: Vec<String>,
    /// Only on hosts that have one of these roles; on all where it is empty.
    pub roles: Vec<Located<String>>,
    /// Only where this expression is true.
    pub when: Option<Node>,
    /// Only where this expression is false.
    pub unless: Option<Node>,
    /// Only on the first of its hosts.
    pub once: bool,
    /// Where commands run, relative to the release or the checkout; a template.
    pub cwd: Option<Node>,
    /// The environment of commands; templates.
    pub env: Vec<(String, Node)>,
    /// How long a command may take.
    pub timeout: Option<Duration>,
    /// How often a command may be tried in all; 0 where the recipe does not say.
    pub attempts: u32,
    /// A failure is reported and the run goes on.
    pub tolerate: bool,
    /// Commands go on when the connection is gone.
    pub detach: bool,
    /// In `setup`: what is there once the step is done, an absolute path; a template.
    pub creates: Option<Node>,
    /// In `setup`: shell text whose status 0 says that the step is done; a template.
    pub done_when: Option<Node>,
}

impl Recipe {
    /// Reads the `text` of the recipe `name` at `path`. All problems are returned at once.
    pub fn read(name: &str, path: &Path, text: String) -> Result<Self, Problems> {
        recipe_file::read(name, Origin::Project(path.to_owned()), parse(path, text)?)
    }

    /// Reads the `text` of the recipe `name` in the binary.
    pub fn read_embedded(name: &str, text: &str) -> Result<Self, Problems> {
        let path = PathBuf::from(format!("ship:recipes/{name}.toml"));
        recipe_file::read(name, Origin::Embedded, parse(&path, text.to_owned())?)
    }

    /// The names of its options, for [`crate::config::scope::Ingredients`].
    pub fn option_names(&self) -> Vec<String> {
        self.options.iter().map(|option| option.name.clone()).collect()
    }
}
