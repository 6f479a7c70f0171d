//! `compose`: freezes a release of Docker Compose in `prepare`, publishes it in `publish`.
//!
//! A release freezes the resolved configuration, its settings and the ids of its images (`freeze`); everything
//! afterwards works on that alone, so that publishing an older release needs no registry and no build. What is
//! replaced, and how, follows from what the host answers (`decide`, `freezing`, `replace`). Deliberately absent: volumes, which no
//! release owns.

use std::collections::BTreeSet;
use std::time::Duration;

use super::link::{inside, wrong};
use super::{Context, Task};
use crate::command::{Command, quote, split};
use crate::document::{Node, Problems, Reader, Value};
use crate::event::Phase;
use crate::layout::ReleaseId;

pub mod containers;
mod decide;
pub mod docker;
mod freeze;
mod freezing;
mod owner;
mod ready;
mod replace;
pub mod service;
mod site;

pub use containers::Watch;
pub use decide::Decide;
pub use ready::Ready;

use docker::{Docker, project_name, record};
use freezing::Freezing;
use service::{Choice, Services};
use site::Site;

/// One line for the documentation.
pub const SUMMARY: &str = "in `prepare`, builds or pulls the images of a Docker Compose project and freezes its configuration; in `publish`, replaces what changed, start-first where that can be; with `run`, a one-off command";
/// An example in TOML.
pub const EXAMPLE: &str =
    r#"compose = { project = "shop", files = ["docker-compose.yml"], env_files = [".env"], images = "build" }"#;

/// How long services have to come up when the recipe does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);

/// Where images come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Images {
    /// What has `build` is built on the host; the rest is pulled where it is missing.
    #[default]
    Build,
    /// All are pulled where they are missing; nothing is built.
    Pull,
    /// What has `build` was built elsewhere and sent by an `images` step before, under the name that Compose gives it;
    /// the rest is pulled where it is missing.
    Push,
}

/// What Compose means by its statuses where it reads files, as of version 2.
const UNRESOLVED: &[(i32, &str)] = &[
    (
        14,
        "a file that the Compose files name is not in the release: is it committed? Settings are those of `env_file` in the recipe",
    ),
    (15, "Compose cannot make sense of the Compose files; its last line says where"),
];

impl Images {
    const ALL: &[(&str, Self)] = &[("build", Self::Build), ("pull", Self::Pull), ("push", Self::Push)];
}

/// A rendered `compose` step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compose {
    /// The project; empty for the name of the folder that is deployed to.
    pub project: String,
    /// The Compose files, relative to the release; none for those that Compose finds itself.
    pub files: Vec<String>,
    /// Files of settings, relative to the release and to `shared/`, from where they are copied.
    pub env_files: Vec<String>,
    /// Profiles to enable.
    pub profiles: Vec<String>,
    /// Where images come from.
    pub images: Images,
    /// Whether Docker is called through sudo.
    pub sudo: bool,
    /// Services by name.
    pub choice: Choice,
    /// How long services have to come up.
    pub wait: Option<Duration>,
    /// The service of a one-off command.
    pub run: Option<String>,
    /// The one-off command.
    pub command: Vec<String>,
}

impl Compose {
    /// Reads the body.
    pub fn read(body: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.len();
        let mut reader = Reader::new("`compose`", body, problems)?;
        let project = reader.string("project").unwrap_or_default();
        let images = reader.typed("images", "expected \"build\", \"pull\" or \"push\"", |value| match value {
            Value::String(text) if text.contains("{{") => Some(Images::default()),
            Value::String(text) => Images::ALL.iter().find(|(name, _)| name == text).map(|(_, images)| *images),
            _ => None,
        });
        let sudo = reader.typed("sudo", "expected true or false", boolean);
        let mut words = |key| reader.strings(key).map(|items| list(&items)).unwrap_or_default();
        let (files, env_files, profiles) = (words("files"), words("env_files"), words("profiles"));
        let choice = Choice {
            one_shot: words("one_shot"),
            single: words("single"),
            start_first: words("start_first"),
            uses: words("uses"),
        };
        let wait = reader.duration("wait");
        let run = reader.string("run").filter(|run| !run.is_empty());
        let command = reader.node("command").map(|node| match &node.value {
            Value::String(text) if text.contains("{{") => Ok(Vec::new()),
            Value::String(text) => split(text).map_err(|reason| (reason, node.place.clone())),
            _ => Ok(Vec::new()),
        });
        let command = match command {
            Some(Ok(words)) if words.is_empty() => reader.strings("command").unwrap_or_default(),
            Some(Ok(words)) => words,
            Some(Err((reason, place))) => {
                reader.problem(&place, format!("`command` cannot be one command: {reason}"), None, None);
                Vec::new()
            }
            None => Vec::new(),
        };
        reader.finish();
        for path in files.iter().chain(&env_files) {
            if let Err(reason) = inside(path) {
                problems.push(wrong(&body.place, format!("`compose` cannot use {path:?}: {reason}")));
            }
        }
        if !project.contains("{{") && !project.is_empty() && project_name(&project).is_empty() {
            problems.push(wrong(&body.place, format!("{project:?} has no letter or digit for the name of a project")));
        }
        (problems.len() == before).then_some(Self {
            project,
            files,
            env_files,
            profiles,
            images: images.unwrap_or_default(),
            sudo: sudo.unwrap_or_default(),
            choice,
            wait,
            run,
            command,
        })
    }

    /// The name of a step whose author gave it none.
    pub fn title(&self) -> String {
        match &self.run {
            Some(service) => format!("{service}: {}", self.command.join(" ")),
            None => "Compose".to_owned(),
        }
    }

    /// The programs that the host needs.
    pub fn programs(&self) -> Vec<String> {
        let sudo = self.sudo.then(|| "sudo".to_owned());
        std::iter::once("docker".to_owned()).chain(sudo).collect()
    }

    fn site(&self, context: &Context<'_>) -> Result<Site, String> {
        Ok(Site {
            docker: docker_of(&self.project, self.sudo, context)?,
            layout: context.layout.clone(),
            release: context.release.clone(),
            timeout: context.timeout,
            wait: self.wait.unwrap_or(DEFAULT_WAIT),
        })
    }

    /// Freezes in `prepare`, publishes in `publish`, or runs its command.
    pub fn tasks(&self, context: &Context<'_>) -> Result<Vec<Task>, String> {
        let site = self.site(context)?;
        let record = Command::argv(["cat", &record::services(context.layout, context.release)]);
        let no_record: &[(i32, &str)] = &[(1, "the release was not prepared by a `compose` step")];
        if let Some(service) = &self.run {
            let file = match context.phase {
                Phase::Prepare => record::prepared(context.layout, context.release),
                _ => record::frozen(context.layout, context.release),
            };
            let run = Decide::Run { site: site.clone(), file, service: service.clone(), words: self.command.clone() };
            return Ok(vec![site.ask(context.name, record, run).meanings(no_record)]);
        }
        if context.phase != Phase::Prepare {
            let known = service::Seen::of(context.facts, context.release);
            return Ok(vec![site.ask(context.name, record, Decide::Publish(site.clone(), known)).meanings(no_record)]);
        }
        let mut tasks = Vec::new();
        if context.facts.live().is_none() {
            tasks.push(owner::ask(&site, "Look for containers of the project", Decide::Adopt(site.clone())));
        }
        tasks.extend(self.copy_settings(context));
        let freezing = Freezing {
            flags: self.flags(context),
            images: self.images,
            choice: self.choice.clone(),
            detached: context.detached(Command::shell(":")),
            site: site.clone(),
        };
        let resolve = site.ask("Resolve the configuration", freezing.resolve(), Decide::Freeze(freezing));
        tasks.push(if self.sudo { resolve } else { resolve.meanings(UNRESOLVED) });
        Ok(tasks)
    }

    /// The release has its own copy of its settings: they change together with the code.
    fn copy_settings(&self, context: &Context<'_>) -> Option<Task> {
        let copies: Vec<String> = self
            .env_files
            .iter()
            .filter(|path| context.facts.shared.contains(*path))
            .map(|path| {
                let from = format!("{}/{path}", context.layout.shared());
                let parent = path.rsplit_once('/').map_or(".", |(parent, _)| parent);
                format!(
                    "mkdir -p {} && rm -f {to} && cp {from} {to}",
                    quote(parent),
                    from = quote(&from),
                    to = quote(path)
                )
            })
            .collect();
        if copies.is_empty() {
            return None;
        }
        let text = format!("umask 077; {}", copies.join(" && "));
        let command = Command::shell(text).directory(context.layout.release(context.release));
        Some(Task::own("Copy the settings into the release", command))
    }

    /// The flags that name files and profiles. Paths are absolute: what Compose resolves begins with them.
    fn flags(&self, context: &Context<'_>) -> Vec<String> {
        let release = context.layout.release(context.release);
        let mut flags = Vec::new();
        if self.files.is_empty() {
            flags.extend(["--project-directory".to_owned(), release.clone()]);
        }
        for (flag, paths) in [("--file", &self.files), ("--env-file", &self.env_files)] {
            flags.extend(paths.iter().flat_map(|path| [flag.to_owned(), format!("{release}/{path}")]));
        }
        flags.extend(self.profiles.iter().flat_map(|profile| ["--profile".to_owned(), profile.clone()]));
        flags
    }

    /// Removes the images of a release that was not prepared to its end, and, where no other was live, what was
    /// started for it.
    pub fn discard(&self, context: &Context<'_>, first: bool) -> Result<Vec<Task>, String> {
        if self.run.is_some() {
            return Ok(Vec::new());
        }
        let site = self.site(context)?;
        let question = site.docker.images(Some(context.release));
        let remove = Decide::RemoveImages(site.clone(), BTreeSet::new());
        let images = Task { own: true, ..site.ask("Look for images of the release", question, remove) };
        let mut tasks = if first { self.unpublish(context)? } else { Vec::new() };
        tasks.push(images);
        Ok(tasks)
    }

    /// Takes the containers of a first release down again.
    pub fn unpublish(&self, context: &Context<'_>) -> Result<Vec<Task>, String> {
        if self.run.is_some() {
            return Ok(Vec::new());
        }
        let site = self.site(context)?;
        Ok(vec![Task { own: true, ..owner::ask(&site, "Look at the containers", Decide::Down(site.clone())) }])
    }

    /// Removes `old` releases, and images of releases that are not `kept`.
    ///
    /// A release of which a container has a folder mounted stays: a container whose configuration did not change
    /// outlives the release that made it, and would be left with an empty folder.
    pub fn prune(
        &self,
        context: &Context<'_>,
        kept: &[ReleaseId],
        old: &[(ReleaseId, Task)],
    ) -> Result<Vec<Task>, String> {
        if self.run.is_some() {
            return Ok(Vec::new());
        }
        let site = self.site(context)?;
        let kept = kept.iter().map(docker::tag).collect();
        if old.is_empty() {
            return Ok(vec![site.remove_images(kept)]);
        }
        let mounts = |release: &ReleaseId| {
            let services = Services::of(context.facts, release).map_or_else(Vec::new, |known| known.services);
            services.into_iter().filter(|own| own.folders).map(|own| own.name).collect()
        };
        let removal = |(release, task): &(ReleaseId, Task)| {
            let (release, task) = (release.clone(), task.clone());
            decide::Removal { mounts: mounts(&release), release, task }
        };
        let decide = Decide::RemoveReleases(site.clone(), old.iter().map(removal).collect(), kept);
        let task = site.ask("Look for containers of old releases", site.docker.made(), decide);
        Ok(vec![Task { own: true, ..task }.tolerated()])
    }
}

/// Docker on the host, for a project. The error says that it is missing.
pub fn docker_of(project: &str, sudo: bool, context: &Context<'_>) -> Result<Docker, String> {
    Ok(Docker::new(context.program("docker")?, sudo, project, context.layout))
}

/// A boolean, or the text of a rendered template.
pub(super) fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Boolean(value) => Some(*value),
        Value::String(text) => match text.as_str() {
            "true" => Some(true),
            text => (text == "false" || text.is_empty() || text.contains("{{")).then_some(false),
        },
        _ => None,
    }
}

/// A list may also be one text with blanks or commas between its items: a variable of the inventory.
pub(super) fn list(items: &[String]) -> Vec<String> {
    let words =
        items.iter().flat_map(|item| if item.contains("{{") { vec![] } else { item.split([' ', ',', '\n']).collect() });
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Compose, String> {
        let node = crate::document::parse(std::path::Path::new("x"), format!("compose = {text}")).expect("TOML");
        let Value::Table(entries) = &node.value else { panic!("a table") };
        let mut problems = Problems::new();
        let step = Compose::read(&entries[0].node, &mut problems);
        step.ok_or_else(|| problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn rendered_variables_are_lists_and_booleans() {
        let step = read(r#"{ files = "a.yml, b.yml", sudo = "true", single = ["x y"], images = "pull", run = "" }"#);
        let step = step.expect("a step");
        assert_eq!(
            (step.files, step.choice.single),
            (vec!["a.yml".into(), "b.yml".into()], vec!["x".into(), "y".into()])
        );
        assert!(step.sudo && step.images == Images::Pull && step.run.is_none());
    }

    #[test]
    fn wrong_bodies_are_told() {
        assert_eq!(
            read(r#"{ files = ["../x"] }"#),
            Err("`compose` cannot use \"../x\": it leaves the release through `..`".into())
        );
        assert_eq!(read(r#"{ images = "never" }"#), Err("`images` of `compose` is \"never\"".into()));
        let piped = read(r#"{ run = "web", command = "a | b" }"#).expect_err("a pipe");
        assert!(piped.starts_with("`command` cannot be one command: `|` needs a shell"), "{piped}");
    }
}
