//! Reads what a command works on: inventory, recipe, hosts, options, secrets. All problems come at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::{Global, SelectArgs};
use super::machine::{LocalSources, Machine};
use crate::artifact::MemoryFile;
use crate::config::diagnostic;
use crate::config::inventory::Inventory;
use crate::config::names::inside;
use crate::config::options::{self, OptionValue};
use crate::config::placement;
use crate::config::recipe::{Origin, Recipe};
use crate::config::recipe_files;
use crate::config::scope::{Ingredients, KnownSecrets, RunFacts, Scope};
use crate::config::secrets;
use crate::config::selection::{Choice, Host, Selection, select};
use crate::config::step_file::check_roles;
use crate::config::template::is_template;
use crate::document::{self, Place, Problem, Problems};
use crate::error::Error;
use crate::event::Phase;
use crate::layout::{Layout, ReleaseId};
use crate::plan::env_files;
use crate::plan::render::{Filter, PlannedStep, steps};
use crate::plan::setup::SetupStep;
use crate::secret::Secret;
use crate::step::compose::Compose;
use crate::step::diff::Contents;
use crate::step::link::Link;
use crate::step::settings::Source;
use crate::step::upload::Part;
use crate::step::{Kind, Step};
use crate::target::Target;

/// The inventory's file name where none is given.
const INVENTORY: &str = "inventory.toml";

/// Everything that a command works on, checked.
pub struct Project {
    /// The inventory.
    pub inventory: Inventory,
    /// The recipe.
    pub recipe: Recipe,
    /// The chosen hosts.
    pub selection: Selection,
    /// The values of the recipe's options.
    pub options: BTreeMap<String, OptionValue>,
    /// `--set`.
    pub set: Vec<(String, String)>,
    /// Which steps.
    pub filter: Filter,
    /// The secrets that something uses.
    pub secrets: BTreeMap<String, Secret>,
}

/// What is known of the release when templates are rendered.
#[derive(Clone, Debug, Default)]
pub struct ReleaseFacts {
    /// Its id.
    pub release: Option<ReleaseId>,
    /// The full commit id, or the digest of an artifact.
    pub revision: Option<String>,
    /// The branch.
    pub branch: Option<String>,
    /// The author of the commit.
    pub author: Option<String>,
    /// The title of the commit.
    pub title: Option<String>,
    /// Who made it.
    pub by: Option<String>,
}

/// The inventory file: the one given, or the nearest upward from the working directory.
pub fn inventory_path(global: &Global, machine: &Machine) -> Result<PathBuf, Error> {
    if let Some(path) = &global.inventory {
        return Ok(machine.directory.join(path));
    }
    machine.directory.ancestors().map(|folder| folder.join(INVENTORY)).find(|path| path.is_file()).ok_or_else(|| {
        Error::usage(format!("no {INVENTORY} in {} or any folder above it", machine.directory.display()))
            .hint("`ship init` writes one; `--inventory FILE` names one; `ship demo` needs none")
    })
}

/// The path as the user would type it: relative to the working directory where it is below it.
fn shown(path: &Path, machine: &Machine) -> PathBuf {
    path.strip_prefix(&machine.directory).map_or_else(|_| path.to_owned(), Path::to_owned)
}

/// The text of `path`, or an error that names it.
fn read(path: &Path, machine: &Machine) -> Result<String, Error> {
    std::fs::read(path)
        .map_err(|error| error.to_string())
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned()))
        .map_err(|reason| Error::usage(format!("{} cannot be read: {reason}", shown(path, machine).display())))
}

/// Problems as an error with their diagnostics.
pub fn problems(problems: &[Problem], color: bool) -> Error {
    Error::usage(diagnostic::render(problems, color).trim_end().to_owned())
}

/// Inventory and recipe, for commands and flags that need no hosts.
pub fn definitions(global: &Global, machine: &Machine) -> Result<(Inventory, Recipe), Error> {
    let color = super::reporters::color(global, machine);
    let path = inventory_path(global, machine)?;
    let text = read(&path, machine)?;
    let mut inventory = Inventory::read(&shown(&path, machine), text).map_err(|found| problems(&found, color))?;
    // The folder is used for files, so it must not depend on how the path was typed.
    inventory.folder = path.parent().map_or_else(|| machine.directory.clone(), Path::to_owned);
    let recipe = recipe_files::find(&inventory.folder, &inventory.recipe).map_err(|found| problems(&found, color))?;
    Ok((inventory, recipe))
}

impl Project {
    /// Reads and checks everything, for the chosen hosts. Nothing is attempted when anything is wrong.
    pub fn load(
        global: &Global,
        machine: &Machine,
        choice: &SelectArgs,
        filter: Filter,
        given_options: &[(String, Option<String>)],
    ) -> Result<Self, Error> {
        let color = super::reporters::color(global, machine);
        let (inventory, recipe) = definitions(global, machine)?;
        let sources = LocalSources { machine: machine.clone(), folder: inventory.folder.clone() };
        let wanted = Choice {
            environment: choice.environment.clone(),
            hosts: choice.host.clone(),
            roles: choice.role.clone(),
            groups: choice.group.clone(),
        };
        let mut found = Problems::new();
        let options = options::values(&recipe.options, given_options).unwrap_or_else(|more| {
            found.extend(more);
            BTreeMap::new()
        });
        let unknown = filter.unknown(&recipe.steps);
        if !unknown.is_empty() {
            return Err(Error::usage(format!("the recipe has no step or tag {}", unknown.join(", "))));
        }
        let selection = select(&inventory, &wanted, &|command| sources.shell(command)).map_err(|more| {
            found.extend(more);
            problems(&found, color)
        })?;
        let mut project =
            Self { inventory, recipe, selection, options, set: choice.set.clone(), filter, secrets: BTreeMap::new() };
        project.place().map_err(|more| {
            found.extend(more);
            problems(&found, color)
        })?;
        if let Origin::Project(_) = project.recipe.origin {
            let inventory = &project.inventory;
            let roles = inventory.hosts.iter().flat_map(|host| &host.roles);
            let roles = roles.chain(inventory.groups.iter().flat_map(|group| &group.roles));
            let roles: BTreeSet<&str> =
                roles.chain(project.selection.hosts.iter().flat_map(|host| &host.roles)).map(String::as_str).collect();
            check_roles(&project.recipe.steps, roles.iter().copied(), &mut found);
        }
        let used = project.check(&mut found);
        if !found.is_empty() {
            return Err(problems(&found, color));
        }
        let used = &used | &project.selection.password_secrets();
        project.secrets = secrets::resolve(&project.selection.secrets, Some(&used), &sources)
            .map_err(|found| problems(&found, color))?;
        let secrets = project.secrets.clone();
        project.selection.give_passwords(&secrets);
        Ok(project)
    }

    /// Makes templates of `deploy_to` paths.
    fn place(&mut self) -> Result<(), Problems> {
        let names = self.selection.secrets.iter().map(|secret| secret.name.clone()).collect();
        let (run, known) = (self.run_facts(&ReleaseFacts::default()), KnownSecrets::Names(names));
        let scope = |host: &Host| self.scope(Some(host), &run, &known);
        self.selection.hosts = placement::placed(&self.inventory, self.selection.hosts.clone(), &scope)?;
        Ok(())
    }

    /// Renders everything once with stand-ins, so that every undefined variable and every wrong step is found
    /// before anything is attempted. Gives back the secrets that are used.
    fn check(&self, found: &mut Problems) -> BTreeSet<String> {
        let names = self.selection.secrets.iter().map(|secret| secret.name.clone()).collect();
        let known = KnownSecrets::Names(names);
        let mut used = BTreeSet::new();
        for host in self.selection.hosts.iter().map(Some).chain([None]) {
            let run = RunFacts { checking: true, ..self.run_facts(&ReleaseFacts::default()) };
            match self.scope(host, &run, &known) {
                Ok(scope) => {
                    let result = match host {
                        Some(host) => self.host_steps(&scope, host).and_then(|planned| {
                            self.settings(&scope, &planned)?;
                            planned.iter().try_for_each(|planned| self.contents(&scope, planned).map(|_| ()))
                        }),
                        None => self.local_steps(&scope).map(|_| ()),
                    };
                    if let Err(more) = result {
                        found.extend(more);
                    }
                    // Variables may need a release as long as no step of `setup` needs them.
                    if !run.setup {
                        found.extend(scope.problems());
                    }
                    used.extend(scope.used_secrets());
                }
                Err(more) => found.extend(more),
            }
        }
        // The same recipe is rendered for every host: each problem once.
        let mut seen: Vec<Problem> = Vec::new();
        found.retain(|problem| {
            let new = !seen.contains(problem);
            if new {
                seen.push(problem.clone());
            }
            new
        });
        used
    }

    fn run_facts(&self, release: &ReleaseFacts) -> RunFacts {
        RunFacts {
            app: self.inventory.app.clone(),
            environment: self.selection.environment.clone(),
            deploy_to: placement::common(&self.selection.hosts),
            release: release.release.as_ref().map(ToString::to_string),
            revision: release.revision.clone(),
            branch: release.branch.clone(),
            author: release.author.clone(),
            title: release.title.clone(),
            time: release.release.as_ref().map(ReleaseId::time),
            by: release.by.clone(),
            checking: false,
            setup: self.filter.setup,
        }
    }

    fn scope(&self, host: Option<&Host>, run: &RunFacts, secrets: &KnownSecrets) -> Result<Scope, Problems> {
        let names: Vec<String> = self.recipe.options.iter().map(|option| option.name.clone()).collect();
        Scope::new(Ingredients {
            recipe: &self.recipe.vars,
            vars: &self.selection.vars,
            host,
            hosts: &self.selection.hosts,
            set: &self.set,
            options: &self.options,
            option_names: &names,
            run,
            secrets,
        })
    }

    fn host_steps(&self, scope: &Scope, host: &Host) -> Result<Vec<PlannedStep>, Problems> {
        let specs: Vec<_> = self.recipe.steps.iter().filter(|spec| spec.kind != Kind::Local).cloned().collect();
        steps(&specs, &self.filter, scope, host, &self.selection.hosts)
    }

    fn local_steps(&self, scope: &Scope) -> Result<Vec<PlannedStep>, Problems> {
        let specs: Vec<_> = self.recipe.steps.iter().filter(|spec| spec.kind == Kind::Local).cloned().collect();
        // Steps of this machine belong to no host; the first one lends its name and roles.
        let Some(first) = self.selection.hosts.first() else { return Ok(Vec::new()) };
        steps(&specs, &self.filter, scope, first, &self.selection.hosts)
    }

    /// The steps of `host` for a release.
    pub fn steps(&self, host: &Host, release: &ReleaseFacts) -> Result<Vec<PlannedStep>, Problems> {
        let known = KnownSecrets::Values(self.secrets.clone());
        let scope = self.scope(Some(host), &self.run_facts(release), &known)?;
        self.host_steps(&scope, host)
    }

    /// The steps of `host` before a release is chosen: what they need is known, their paths are stand-ins.
    pub fn steps_to_check(&self, host: &Host) -> Result<Vec<PlannedStep>, Problems> {
        let known = KnownSecrets::Values(self.secrets.clone());
        let run = RunFacts { checking: true, ..self.run_facts(&ReleaseFacts::default()) };
        self.host_steps(&self.scope(Some(host), &run, &known)?, host)
    }

    /// The steps of this machine.
    pub fn build_steps(&self, release: &ReleaseFacts) -> Result<Vec<PlannedStep>, Problems> {
        let known = KnownSecrets::Values(self.secrets.clone());
        let scope = self.scope(None, &self.run_facts(release), &known)?;
        self.local_steps(&scope)
    }

    /// The settings files of `host` for a release, in the order of their steps.
    pub fn settings_files(
        &self,
        host: &Host,
        release: &ReleaseFacts,
        planned: &[PlannedStep],
    ) -> Result<Vec<MemoryFile>, Problems> {
        let known = KnownSecrets::Values(self.secrets.clone());
        let scope = self.scope(Some(host), &self.run_facts(release), &known)?;
        self.settings(&scope, planned)
    }

    fn settings(&self, scope: &Scope, planned: &[PlannedStep]) -> Result<Vec<MemoryFile>, Problems> {
        let mut files = Vec::new();
        let mut found = Problems::new();
        for planned in planned {
            let Step::Settings(settings) = &planned.step else { continue };
            let Source::Template(template) = &settings.source else { continue };
            let template = self.template(template, &planned.place).map_err(|problem| vec![problem]);
            match template.and_then(|source| scope.file(&source)) {
                Ok(rendered) => {
                    files.push(MemoryFile::new(settings.to.as_bytes(), settings.mode, rendered.text.into_bytes()));
                }
                Err(more) => found.extend(more),
            }
        }
        if found.is_empty() { Ok(files) } else { Err(found) }
    }

    /// The steps of `setup` on `host`, with the texts that they want somewhere.
    pub fn setup_steps(&self, host: &Host) -> Result<Vec<SetupStep>, Problems> {
        let known = KnownSecrets::Values(self.secrets.clone());
        let scope = self.scope(Some(host), &self.run_facts(&ReleaseFacts::default()), &known)?;
        let steps = self.host_steps(&scope, host)?;
        steps.into_iter().map(|planned| Ok(SetupStep { contents: self.contents(&scope, &planned)?, planned })).collect()
    }

    /// The steps of a deploy to `host`, for what they need; neither a release nor a secret is known.
    pub fn deploy_steps(&self, host: &Host) -> Result<Vec<PlannedStep>, Problems> {
        let names = self.selection.secrets.iter().map(|secret| secret.name.clone()).collect();
        let run = RunFacts { checking: true, setup: false, ..self.run_facts(&ReleaseFacts::default()) };
        let scope = self.scope(Some(host), &run, &KnownSecrets::Names(names))?;
        let specs: Vec<_> = self.recipe.steps.iter().filter(|spec| spec.kind != Kind::Local).cloned().collect();
        steps(&specs, &Filter::default(), &scope, host, &self.selection.hosts)
    }

    /// The text that a step of `setup` wants somewhere.
    fn contents(&self, scope: &Scope, planned: &PlannedStep) -> Result<Option<Contents>, Problems> {
        let (template, content) = match &planned.step {
            Step::File(step) => (&step.template, &step.content),
            Step::Nginx(step) => (&step.template, &step.content),
            _ => return Ok(None),
        };
        let Some(template) = template else { return Ok(content.clone().map(Contents::plain)) };
        let source = self.template(template, &planned.place).map_err(|problem| vec![problem])?;
        let rendered = scope.file(&source)?;
        let secrets = rendered.secrets.iter().filter_map(|name| self.secrets.get(name)).cloned().collect();
        Ok(Some(Contents { text: Secret::new(rendered.text), secrets }))
    }

    fn template(&self, file: &str, place: &Place) -> Result<Arc<document::Source>, Problem> {
        recipe_files::template(&self.inventory.folder, &self.recipe.name, file, place)
    }

    /// The shared files and folders of the recipe, rendered for `host`.
    pub fn shared(&self, host: &Host, release: &ReleaseFacts) -> Result<Link, Problems> {
        let known = KnownSecrets::Values(self.secrets.clone());
        let run = RunFacts { checking: release.release.is_none(), ..self.run_facts(release) };
        let scope = self.scope(Some(host), &run, &known)?;
        let mut found = Problems::new();
        let mut texts = |nodes: &[document::Node]| -> Vec<String> {
            nodes.iter().filter_map(|node| scope.text(node).map_err(|problem| found.push(problem)).ok()).collect()
        };
        let link = Link { files: texts(&self.recipe.shared.files), dirs: texts(&self.recipe.shared.dirs) };
        if found.is_empty() { Ok(link) } else { Err(found) }
    }

    /// What `upload` steps of a host take, where each host may take something else.
    pub fn parts(planned: &[PlannedStep]) -> Vec<Part> {
        planned
            .iter()
            .filter(|planned| planned.phase == Phase::Prepare)
            .filter_map(|planned| match &planned.step {
                Step::Upload(upload) => Some(upload.parts.clone()),
                _ => None,
            })
            .flatten()
            .collect()
    }

    /// The units that the recipe names as services of `host`. A name that comes out empty is none:
    /// `"{{ worker if 'worker' in roles else '' }}"`.
    pub fn services(&self, host: &Host) -> Result<Vec<String>, Error> {
        let known = KnownSecrets::Values(self.secrets.clone());
        let run = RunFacts { checking: true, ..self.run_facts(&ReleaseFacts::default()) };
        let scope = self.scope(Some(host), &run, &known).map_err(|found| problems(&found, false))?;
        let texts = self.recipe.services.iter().map(|node| scope.text(node));
        let names: Vec<String> = texts.collect::<Result<_, _>>().map_err(|problem| problems(&[problem], false))?;
        Ok(names.into_iter().filter(|name| !name.is_empty()).collect())
    }

    /// Where to reach each chosen host, with the password for sudo where `sudo` says that it is needed there.
    pub fn targets(&self, sudo: impl Fn(&Host) -> bool) -> Vec<(Target, Layout)> {
        let target = |host: &Host| {
            let password = host.target.sudo.clone().filter(|_| sudo(host));
            (Target { sudo: password, ..host.target.clone() }, Self::layout(host))
        };
        self.selection.hosts.iter().map(target).collect()
    }

    /// The step that deploys `host`'s Compose project, where the recipe has one.
    pub fn compose(&self, host: &Host) -> Option<Compose> {
        let steps = self.steps_to_check(host).ok()?;
        steps.into_iter().find_map(|planned| match planned.step {
            Step::Compose(step) if step.run.is_none() => Some(step),
            _ => None,
        })
    }

    /// Whether a deploy runs anything through sudo on `host`.
    pub fn needs_sudo(&self, host: &Host) -> bool {
        self.any_step(host, Step::needs_sudo)
    }

    /// Whether the plan of a deploy needs an answer that sudo gives on `host`.
    pub fn looks_through_sudo(&self, host: &Host) -> bool {
        self.any_step(host, |step| matches!(step, Step::Images(images) if images.sudo))
    }

    fn any_step(&self, host: &Host, holds: impl Fn(&Step) -> bool) -> bool {
        let of_deploy = |planned: &&PlannedStep| planned.phase != Phase::Setup;
        self.steps_to_check(host).is_ok_and(|steps| steps.iter().filter(of_deploy).any(|planned| holds(&planned.step)))
    }

    /// The settings file of `ship env` on `host`, relative to `shared/`; `pushed` is the file that is to replace it.
    pub fn env_file(&self, host: &Host, pushed: Option<&str>) -> Result<String, Error> {
        let Some(node) = &self.recipe.env_file else {
            let steps = self.steps_to_check(host).map_err(|found| problems(&found, false))?;
            return env_files::chosen(&steps, pushed).map_err(Error::usage);
        };
        let known = KnownSecrets::Values(self.secrets.clone());
        let run = RunFacts { checking: true, ..self.run_facts(&ReleaseFacts::default()) };
        let scope = self.scope(Some(host), &run, &known).map_err(|found| problems(&found, false))?;
        let path = scope.text(node).map_err(|problem| problems(&[problem], false))?;
        inside(&path).map_err(|expected| Error::usage(format!("the recipe's `env_file` is {path:?}: {expected}")))?;
        Ok(path)
    }

    /// The chosen host of this name.
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.selection.hosts.iter().find(|host| host.name == name)
    }

    /// What the sudo rules of an app at these paths are named for: the app, and the instance where the inventory
    /// may have several on one host, each with rules of its own.
    pub fn rules_name(&self, layout: &Layout) -> String {
        let app = &self.inventory.app;
        let several = is_template(&self.inventory.deploy_to.value)
            || self.inventory.environments.iter().any(|environment| environment.deploy_to.is_some());
        match layout.root().rsplit('/').next().filter(|last| several && last != app) {
            Some(instance) => format!("{app}-{instance}"),
            None => app.clone(),
        }
    }

    /// The paths of `host`.
    pub fn layout(host: &Host) -> Layout {
        Layout::new(&host.deploy_to)
    }

    /// Where this project's own records are: transcripts, build checkouts, the index of digests.
    pub fn records(&self) -> PathBuf {
        self.inventory.folder.join(".ship")
    }

    /// [`Project::records`], made and kept out of the project's own repository.
    pub fn own_records(&self) -> Result<PathBuf, Error> {
        let records = self.records();
        let ignore = records.join(".gitignore");
        std::fs::create_dir_all(&records)
            .and_then(|()| if ignore.exists() { Ok(()) } else { std::fs::write(&ignore, "*\n") })
            .map_err(|error| Error::usage(format!("{} cannot be made: {error}", records.display())))?;
        Ok(records)
    }
}
