//! Freezing a release: from the resolved configuration to images on the host and a record that needs no registry.

use std::collections::BTreeMap;

use super::Images;
use super::decide::Decide;
use super::docker::record;
use super::freeze::{self, Image, Paths, Resolved};
use super::service::Choice;
use super::site::Site;
use crate::command::Command;
use crate::secret::Secret;
use crate::step::detach::Detached;
use crate::step::{Action, Task};

/// What the absence of an image means where images are sent.
const NOT_SENT: &[(i32, &str)] = &[(
    1,
    "with `images = \"push\"` an `images` step sends each image before, under this name (`send` of the recipe compose)",
)];
/// What is frozen, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Freezing {
    /// Where.
    pub site: Site,
    /// The flags of `docker compose` that name files and profiles.
    pub flags: Vec<String>,
    /// Where images come from.
    pub images: Images,
    /// What the recipe says of services.
    pub choice: Choice,
    /// What a build that goes on when the connection is gone is made from; none for one that does not.
    pub detached: Option<Detached>,
}

impl Freezing {
    /// The question that begins it.
    pub fn resolve(&self) -> Command {
        let directory = self.site.layout.release(&self.site.release);
        self.site.docker.compose_with(self.flags.clone(), ["config", "--format", "json"]).directory(directory)
    }

    /// Gets the images onto the host and gives each the release's tag.
    pub(super) fn images(&self, config: &Secret) -> Result<Vec<Task>, String> {
        let resolved = Resolved::read(config.expose())?;
        resolved.knows(&self.choice)?;
        let Site { docker, layout, release, .. } = &self.site;
        let (mut built, mut pulled, mut tags) = (Vec::new(), Vec::new(), Vec::new());
        for (name, builds, image) in resolved.images() {
            match (self.images, builds, image) {
                (Images::Build, true, _) => built.push(name.to_owned()),
                // They were sent under the names that Compose gives to what it builds.
                (Images::Push, true, image) => {
                    let own = format!("{}-{name}", docker.project);
                    tags.push((name, image.map_or(own, str::to_owned)));
                }
                (_, _, Some(image)) => {
                    pulled.push(name.to_owned());
                    tags.push((name, image.to_owned()));
                }
                (_, _, None) => return Err(format!("{name} names no image to pull")),
            }
        }
        let mut tasks = Vec::new();
        let file = record::build(layout, release);
        let names = built.iter().map(|name| (name.clone(), docker.image(name, release))).collect();
        if !built.is_empty() || !pulled.is_empty() {
            let text = resolved.clone().named(&names);
            tasks.push(self.site.write("Name the images of the release", &file, text));
        }
        if !built.is_empty() {
            tasks.extend(self.build(&built));
        }
        if !pulled.is_empty() {
            let words = ["pull", "--policy", "missing"].into_iter().chain(pulled.iter().map(String::as_str));
            let name = format!("Pull missing images of {}", pulled.join(", "));
            tasks.push(self.site.task(name, docker.compose(&file, words)));
        }
        for (name, image) in tags {
            let command = docker.command(["image", "tag", &image, &docker.image(name, release)]);
            let task = self.site.task(format!("Keep the image of {name}"), command);
            let sent = self.images == Images::Push && !docker.sudo;
            tasks.push(Task { own: true, ..if sent { task.meanings(NOT_SENT) } else { task } });
        }
        let folder = layout.release(release);
        let paths = resolved.mounted(&folder);
        let question = freeze::ask_mounted(&folder, &paths);
        let next = Decide::Mounted(self.clone(), config.clone(), paths);
        tasks.push(Task { own: true, ..self.site.ask("Look at the mounted files", question, next) });
        Ok(tasks)
    }

    /// Builds. One that was begun for another release of the same files gave its images that release's names: then
    /// it is gone through again, with every layer from the engine's cache.
    pub(super) fn build(&self, services: &[String]) -> Vec<Task> {
        let Site { docker, layout, release, .. } = &self.site;
        let words = std::iter::once("build").chain(services.iter().map(String::as_str));
        let command = docker.compose(&record::build(layout, release), words);
        let build = self.site.task(format!("Build {}", services.join(", ")), command);
        let (Some(detached), Action::Command(command)) = (&self.detached, &build.action) else { return vec![build] };
        let action = Action::Detached(Box::new(detached.running(&build.name, command.clone())));
        let named = services.iter().map(|name| docker.image(name, release)).collect();
        let again =
            Task { name: "Give the images that were built the names of this release".to_owned(), ..build.clone() };
        let look = Decide::Built(named, Box::new(again));
        let look = self.site.ask("Look at what was built", docker.images(Some(release)), look);
        vec![Task { action, ..build }, Task { own: true, ..look }]
    }

    pub(super) fn look_at_images(
        &self,
        config: &Secret,
        mounted: BTreeMap<String, freeze::Mounted>,
    ) -> Result<Vec<Task>, String> {
        let resolved = Resolved::read(config.expose())?;
        let names: Vec<String> = resolved.images().into_iter().map(|(name, _, _)| name.to_owned()).collect();
        let docker = &self.site.docker;
        let tags: Vec<String> = names.iter().map(|name| docker.image(name, &self.site.release)).collect();
        let words = ["image", "inspect", "--format", "{{.Id}}|{{json .Config.Volumes}}"].into_iter().map(str::to_owned);
        let question = docker.command(words.chain(tags));
        let next = Decide::Images(self.clone(), config.clone(), mounted, names);
        let task = self.site.ask("Look at the images", question, next);
        Ok(vec![Task { own: true, ..task }.meanings(&[(1, "an image of the release is not on the host")])])
    }

    pub(super) fn seal(
        &self,
        config: &Secret,
        mounted: &BTreeMap<String, freeze::Mounted>,
        names: &[String],
        answer: &str,
    ) -> Result<Vec<Task>, String> {
        let images: BTreeMap<String, Image> = names
            .iter()
            .zip(answer.lines())
            .filter_map(|(name, line)| {
                let (id, volumes) = line.split_once('|')?;
                let volumes = !matches!(volumes.trim(), "null" | "{}" | "");
                Some((name.clone(), Image { id: id.to_owned(), volumes }))
            })
            .collect();
        let Site { layout, release, .. } = &self.site;
        let (folder, current) = (layout.release(release), layout.current());
        let paths = Paths { release: &folder, current: &current };
        let frozen = Resolved::read(config.expose())?.freeze(paths, &self.choice, &images, mounted)?;
        let mut services = serde_json::to_string(&frozen.services).map_err(|error| error.to_string())?;
        services.push('\n');
        Ok(vec![
            self.site.write("Freeze the configuration", &record::frozen(layout, release), frozen.frozen),
            self.site.write("Freeze it for one-off commands", &record::prepared(layout, release), frozen.prepared),
            self.site.write("Note how services are replaced", &record::services(layout, release), services),
        ])
    }
}
