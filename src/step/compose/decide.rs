//! What follows from what a host answers: freezing, publishing and removing a release of Compose.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Images;
use super::containers::{self, Container, Watch};
use super::docker::{self, Docker, SEPARATOR, record};
use super::freeze::{self, Image, Paths, Resolved};
use super::owner;
use super::ready::Ready;
use super::service::{Choice, Seen, Service, Services, Way};
use crate::command::{Command, quote};
use crate::layout::{Layout, ReleaseId};
use crate::secret::Secret;
use crate::step::detach::Detached;
use crate::step::{Action, Derive, Feed, Judge, Poll, Task, sudo};

/// The pause between looks at containers.
const INTERVAL: Duration = Duration::from_millis(300);

/// How long containers must stay up.
const WINDOW: Duration = Duration::from_secs(2);

/// How many lines of a container's log are shown with a failure.
const LOG_LINES: &str = "20";

/// What a container that does not come up may mean.
const NOT_UP: &[(i32, &str)] = &[(
    1,
    "`wait` says how long it has to come up; if it ended because its work was done, name the service in `one_shot`",
)];

/// What the absence of an image means where images are sent.
const NOT_SENT: &[(i32, &str)] = &[(
    1,
    "with `images = \"push\"` an `images` step sends each image before, under this name (`send` of the recipe compose)",
)];

/// The host, the project and the release that all decisions of one step are about.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Docker.
    pub docker: Docker,
    /// Paths on the host.
    pub layout: Layout,
    /// The release.
    pub release: ReleaseId,
    /// How long a command may take.
    pub timeout: Option<Duration>,
    /// How long services have to come up.
    pub wait: Duration,
}

impl Site {
    /// A task of the project.
    pub fn task(&self, name: impl Into<String>, command: Command) -> Task {
        let limited = match self.timeout {
            Some(timeout) => command.timeout(timeout),
            None => command,
        };
        let sudo = limited.sudo_argv().is_some();
        let task = Task::new(name, Action::Command(limited));
        if sudo { task.meanings(&[(1, sudo::REFUSED)]) } else { task }
    }

    /// A question.
    pub fn ask(&self, name: impl Into<String>, question: Command, decide: Decide) -> Task {
        let sudo = question.sudo_argv().is_some();
        let decide = crate::step::Decide::Compose(Box::new(decide));
        let task = Task::new(name, Action::Derive(Derive { question, decide }));
        if sudo { task.meanings(&[(1, sudo::REFUSED)]) } else { task }
    }

    /// `docker compose` on the frozen configuration.
    fn compose<S: Into<String>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        self.docker.compose(&record::frozen(&self.layout, &self.release), words)
    }

    /// Removes images without the tags of releases that are `kept`.
    pub fn remove_images(&self, kept: BTreeSet<String>) -> Task {
        let decide = Decide::RemoveImages(self.clone(), kept);
        let look = self.ask("Look for images of removed releases", self.docker.images(None), decide);
        Task { own: true, ..look }.tolerated()
    }

    fn poll(&self, name: String, probe: Command, watch: Watch, within: Duration) -> Task {
        let poll = Poll {
            probe: probe.timeout(Duration::from_secs(20)),
            judge: Judge::Compose(watch),
            interval: INTERVAL,
            within,
        };
        Task::new(name, Action::Poll(poll))
    }

    fn logs(&self, services: &[String]) -> Command {
        let words = ["logs", "--no-color", "--tail", LOG_LINES].into_iter().map(str::to_owned);
        self.compose(words.chain(services.iter().cloned())).timeout(Duration::from_secs(15))
    }

    fn up(&self, name: String, flags: &[&str], services: &[String]) -> Task {
        let wait = self.wait.as_secs().max(1).to_string();
        let fixed = ["up", "--detach", "--wait", "--wait-timeout", &wait, "--no-build"];
        let words = fixed.iter().chain(flags).map(|word| (*word).to_owned()).chain(services.iter().cloned());
        let mut task = self.task(name, self.compose(words)).meanings(NOT_UP);
        task.explain = Some(self.logs(services));
        task
    }

    /// Writes `text`, which may be secret, into a file of the record.
    fn write(&self, name: &str, path: &str, text: String) -> Task {
        let command = Command::shell(format!(
            "umask 077 && cat >{new} && mv -f {new} {path}",
            new = quote(&format!("{path}.new")),
            path = quote(path)
        ));
        Task { own: true, ..Task::new(name, Action::Feed(Feed { command, text: Secret::new(text) })) }
    }
}

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
    fn images(&self, config: &Secret) -> Result<Vec<Task>, String> {
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
    fn build(&self, services: &[String]) -> Vec<Task> {
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

    fn look_at_images(&self, config: &Secret, mounted: BTreeMap<String, freeze::Mounted>) -> Result<Vec<Task>, String> {
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

    fn seal(
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

/// A release to remove.
#[derive(Clone, Debug, PartialEq)]
pub struct Removal {
    /// Which.
    pub release: ReleaseId,
    /// Its services that mount a folder of it.
    pub mounts: BTreeSet<String>,
    /// What removes it.
    pub task: Task,
}

/// A decision, with what it needs beside the answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Decide {
    /// The answer is whose the containers of the project are, before the first release.
    Adopt(Site),
    /// The answer is the resolved configuration.
    Freeze(Freezing),
    /// The answer is what the mounted paths of the release are.
    Mounted(Freezing, Secret, Vec<String>),
    /// The answer is images: unless these are among them, this task makes them.
    Built(BTreeSet<String>, Box<Task>),
    /// The answer is the ids of the images of these services.
    Images(Freezing, Secret, BTreeMap<String, freeze::Mounted>, Vec<String>),
    /// The answer is the release's services: publish them. What is known of them before is for plans.
    Publish(Site, Option<Seen>),
    /// The answer is the containers of the project: replace what changed.
    Replace(Site, Services),
    /// The answer is the containers of the project: this one-shot service runs to its end.
    Follow(Site, Service),
    /// The answer is the containers of the project: once those of this service with this configuration are up,
    /// these others go.
    Settle(Site, Service, Vec<String>),
    /// The answer is the containers of the project: those of these services must stay up.
    Watch(Site, Vec<String>),
    /// The answer is the release's services: run a one-off command in one of them, on this configuration.
    Run {
        /// Where.
        site: Site,
        /// The configuration.
        file: String,
        /// The service.
        service: String,
        /// The command.
        words: Vec<String>,
    },
    /// The answer is the containers of the project: one of them is to log that it is ready.
    Ready(Ready),
    /// The answer is when its containers were started.
    Started(Ready),
    /// The answer is all containers that Compose made: of these releases, those go of which none of these services
    /// has a folder mounted, and then the images without the tags of those that stay.
    RemoveReleases(Site, Vec<Removal>, BTreeSet<String>),
    /// The answer is images: those of releases without these tags go.
    RemoveImages(Site, BTreeSet<String>),
    /// The answer is whose the containers of the project are: those of a first release go, but for their volumes.
    Down(Site),
}

impl Decide {
    /// See [`crate::step::Decide::tasks`].
    pub fn tasks(&self, answer: &str) -> Result<Vec<Task>, String> {
        match self {
            Self::Adopt(site) => owner::adopt(site, answer),
            Self::Freeze(freezing) => freezing.images(&Secret::new(answer.to_owned())),
            Self::Built(named, again) => {
                let found: BTreeSet<String> = answer.lines().map(str::to_owned).collect();
                Ok(if named.is_subset(&found) { Vec::new() } else { vec![again.as_ref().clone()] })
            }
            Self::Mounted(freezing, config, paths) => {
                freezing.look_at_images(config, freeze::read_mounted(paths, answer))
            }
            Self::Images(freezing, config, mounted, names) => freezing.seal(config, mounted, names, answer),
            Self::Publish(site, _) => {
                let question = site.docker.containers();
                let task = site.ask("Look at the containers", question, Self::Replace(site.clone(), services(answer)?));
                Ok(vec![Task { own: true, ..task }])
            }
            Self::Replace(site, services) => Ok(replace(site, services, &containers::parse(answer))),
            Self::Follow(site, service) => follow(site, service, &containers::parse(answer)),
            Self::Settle(site, service, old) => settle(site, service, old, &containers::parse(answer)),
            Self::Watch(site, names) => Ok(watch(site, names, &containers::parse(answer)).into_iter().collect()),
            Self::Run { site, file, service, words } => {
                let known = services(answer)?;
                if !known.services.iter().any(|own| own.name == *service) {
                    let names: Vec<&str> = known.services.iter().map(|own| own.name.as_str()).collect();
                    return Err(format!("the release has no service {service}; it has {}", names.join(", ")));
                }
                let mut tasks = Vec::new();
                let needed = known.needed_by(service);
                if !needed.is_empty() {
                    let wait = site.wait.as_secs().max(1).to_string();
                    let up = ["up", "--detach", "--wait", "--wait-timeout", &wait, "--no-build", "--no-recreate"];
                    let all = up.into_iter().map(str::to_owned).chain(needed.iter().cloned());
                    let name = format!("Have {} running", needed.join(", "));
                    tasks.push(site.task(name, site.docker.compose(file, all)));
                }
                let run = ["run", "--rm", "--no-deps", "--no-TTY", service.as_str()].into_iter().map(str::to_owned);
                let command = site.docker.compose(file, run.chain(words.iter().cloned()));
                tasks.push(site.task(format!("{service}: {}", words.join(" ")), command));
                Ok(tasks)
            }
            Self::Ready(ready) => ready.started(answer),
            Self::Started(ready) => ready.poll(answer),
            Self::RemoveReleases(site, all, kept) => {
                let used: BTreeSet<(&str, ReleaseId)> = answer
                    .lines()
                    .filter_map(|line| line.split_once(SEPARATOR))
                    .filter_map(|(service, file)| Some((service, record::release_of(&site.layout, file)?)))
                    .collect();
                let is_used =
                    |old: &&Removal| used.iter().any(|(name, id)| *id == old.release && old.mounts.contains(*name));
                let (used, gone): (Vec<&Removal>, Vec<&Removal>) = all.iter().partition(is_used);
                let kept = used.iter().map(|old| docker::tag(&old.release)).chain(kept.iter().cloned()).collect();
                Ok(gone.into_iter().map(|old| old.task.clone()).chain([site.remove_images(kept)]).collect())
            }
            Self::RemoveImages(site, kept) => {
                let old: Vec<&str> = answer.lines().filter(|image| is_old(image, kept)).collect();
                if old.is_empty() {
                    return Ok(Vec::new());
                }
                let command = site.docker.command(["image", "rm"].into_iter().chain(old));
                Ok(vec![Task { own: true, ..site.task("Remove images of removed releases", command) }.tolerated()])
            }
            Self::Down(site) => Ok(owner::down(site, answer)),
        }
    }

    /// See [`crate::step::Decide::shown`].
    pub fn shown(&self, line: &str) -> Option<String> {
        let Self::Freeze(_) = self else { return Some(line.to_owned()) };
        // `KEY=a$b` makes Compose warn of `b`, a part of the value.
        if line.contains("variable is not set") {
            return None;
        }
        // What it cannot read it quotes.
        let quoted = ["failed to read ", "unexpected character", "nvalid template", "nvalid interpolation"];
        match quoted.iter().find_map(|words| line.find(words).map(|at| at + words.len())) {
            Some(end) => {
                let file = line.get(end..).and_then(|rest| rest.split(':').next()).filter(|rest| rest.starts_with('/'));
                let begin = line.get(..end).unwrap_or_default().trim_end();
                let file = file.map(|file| format!(" {file}")).unwrap_or_default();
                Some(format!("{begin}{file} … (the rest may be a secret: run the command on the host to see it)"))
            }
            None => Some(line.to_owned()),
        }
    }

    /// See [`crate::step::Decide::follows`].
    pub fn follows(&self) -> Vec<String> {
        let lines: &[&str] = match self {
            Self::Adopt(_) => &["containers that ship did not make end the deploy here"],
            Self::Freeze(freezing) => match freezing.images {
                Images::Build => &[
                    "then: build what has `build`, pull the other images that are missing, tag each for this release,",
                    "and write the configuration with the ids of the images into the release's record (0600)",
                ],
                Images::Pull => &[
                    "then: pull the images that are missing, tag each for this release,",
                    "and write the configuration with the ids of the images into the release's record (0600)",
                ],
                Images::Push => &[
                    "then: take the images that were sent, pull the others that are missing, tag each for this release,",
                    "and write the configuration with the ids of the images into the release's record (0600)",
                ],
            },
            Self::Publish(_, seen) => {
                let mut lines = vec![
                    "then, for each service whose configuration, image or mounted files changed, in order of what needs what:".to_owned(),
                    "  one-shot (named so, or awaited with `service_completed_successfully`): run to its end".to_owned(),
                    "  start-first (no published port, no fixed name, no data of its own): new up and healthy, then old stopped".to_owned(),
                    "  recreated (all others, and those named as `single`): old stopped, then new started".to_owned(),
                    "what did not change goes on running, and what is gone from the files is removed".to_owned(),
                ];
                match seen {
                    Some(seen) => lines.extend(seen.lines()),
                    None => lines.push(
                        "which service is which is known once the configuration is resolved on the host; the deploy tells".to_owned(),
                    ),
                }
                return lines;
            }
            Self::Run { .. } => {
                &["then: bring up what the service needs, and run the command in a container of its own"]
            }
            Self::RemoveReleases(..) => &[
                "then: rm -rf, but for a release of which a container has a folder mounted; and images of those that are gone",
            ],
            Self::RemoveImages(..) => &["then: docker image rm, for those of removed releases"],
            Self::Down(_) => &["then: docker compose down, where all of them were made by ship; volumes stay"],
            Self::Ready(ready) => {
                return vec![format!(
                    "then: docker compose logs of its start, until a line matches {:?}, for at most {} s",
                    ready.pattern,
                    ready.within.as_secs_f32()
                )];
            }
            Self::Started(_)
            | Self::Built(..)
            | Self::Mounted(..)
            | Self::Images(..)
            | Self::Replace(..)
            | Self::Follow(..)
            | Self::Settle(..)
            | Self::Watch(..) => &[],
        };
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    /// See [`crate::step::Decide::detached`].
    pub fn detached(&mut self) -> Option<&mut Detached> {
        match self {
            Self::Freeze(freezing) => freezing.detached.as_mut(),
            _ => None,
        }
    }

    /// See [`crate::step::Decide::by_hand`].
    pub fn by_hand(&self) -> Vec<Command> {
        match self {
            Self::Publish(site, _) => vec![site.compose(["up", "--detach", "--no-build", "--remove-orphans"])],
            Self::Down(site) => vec![site.docker.down(false)],
            _ => Vec::new(),
        }
    }
}

/// The services of a release from its record.
fn services(answer: &str) -> Result<Services, String> {
    serde_json::from_str(answer).map_err(|_| "the record of the release's services cannot be read".to_owned())
}

/// Whether `image` has the tag of a release that is not kept. Tags of another form are not ours.
fn is_old(image: &str, kept: &BTreeSet<String>) -> bool {
    let Some((_, tag)) = image.rsplit_once(':') else { return false };
    let spelt: String =
        tag.chars().enumerate().map(|(at, c)| if at == 8 || at == 15 { c.to_ascii_uppercase() } else { c }).collect();
    ReleaseId::parse(&spelt).is_some() && !kept.contains(tag)
}

/// Replaces what changed, level by level.
fn replace(site: &Site, services: &Services, containers: &[Container]) -> Vec<Task> {
    let mut tasks = Vec::new();
    for level in services.levels() {
        let mut recreated: Vec<(&Service, &str)> = Vec::new();
        let mut started = Vec::new();
        let mut stopped = Vec::new();
        for service in level {
            let own: Vec<&Container> = containers.iter().filter(|own| own.service == service.name).collect();
            let (same, other): (Vec<&Container>, Vec<&Container>) =
                own.iter().copied().partition(|own| own.config == service.config);
            let wanted = usize::try_from(service.replicas).unwrap_or(usize::MAX);
            let enough = same.len() >= wanted;
            let up = same.iter().filter(|own| own.running()).count() >= wanted;
            match &service.way {
                Way::OneShot if same.iter().any(|own| own.ended() == Some(0)) => {}
                Way::OneShot => tasks.extend(one_shot(site, service)),
                // For what is wanted nowhere nobody waits.
                _ if wanted == 0 => tasks.extend(remove(site, service, &own)),
                // Made by a release that was not kept, or left over: the right ones are there beside them.
                _ if up => tasks.extend(remove(site, service, &other)),
                _ if enough && other.is_empty() => stopped.push(service.name.clone()),
                Way::StartFirst if other.iter().any(|own| own.running()) => {
                    let dead: Vec<&Container> = own.iter().copied().filter(|own| !own.running()).collect();
                    tasks.extend(remove(site, service, &dead));
                    let old: Vec<String> = other.iter().filter(|own| own.running()).map(|own| own.id.clone()).collect();
                    tasks.extend(start_first(site, service, old));
                }
                Way::Recreate(why) if !own.is_empty() => recreated.push((service, why)),
                Way::StartFirst | Way::Recreate(_) => started.push(service.name.clone()),
            }
        }
        if !stopped.is_empty() {
            let name = format!("Start what was stopped: {}", stopped.join(", "));
            tasks.push(site.up(name, &["--no-recreate", "--no-deps"], &stopped));
        }
        if !recreated.is_empty() {
            let names: Vec<String> = recreated.iter().map(|(service, _)| service.name.clone()).collect();
            let shown: Vec<String> =
                recreated.iter().map(|(service, why)| format!("{} ({why})", service.name)).collect();
            // What they depend on is up by now, and looking at it again would only make them be gone for longer.
            let flags = ["--force-recreate", "--no-deps"];
            tasks.push(site.up(format!("Recreate {}", shown.join(", ")), &flags, &names));
        }
        if !started.is_empty() {
            tasks.push(site.up(format!("Start {}", started.join(", ")), &["--force-recreate"], &started));
        }
    }
    let all = services.running();
    if !all.is_empty() {
        let flags = ["--no-recreate", "--remove-orphans"];
        tasks.push(site.up("Have all services running, and no other".to_owned(), &flags, &all));
        let next = Decide::Watch(site.clone(), all);
        tasks.push(Task { own: true, ..site.ask("Look at the containers", site.docker.containers(), next) });
    }
    tasks
}

fn one_shot(site: &Site, service: &Service) -> Vec<Task> {
    let name = &service.name;
    let up = ["up", "--detach", "--no-deps", "--no-build", "--force-recreate", name.as_str()];
    let next = Decide::Follow(site.clone(), service.clone());
    vec![
        site.task(format!("Run {name} to its end"), site.compose(up)),
        Task { own: true, ..site.ask(format!("Look for {name}"), site.docker.containers(), next) },
    ]
}

/// Shows what a one-shot service says until it ends. `docker compose logs --follow` would wait for ever where the
/// container ended before it was asked.
fn follow(site: &Site, service: &Service, containers: &[Container]) -> Result<Vec<Task>, String> {
    let name = &service.name;
    let own = containers.iter().find(|own| own.service == *name && own.config == service.config);
    let own = own.ok_or_else(|| format!("Compose made no container of {name}"))?;
    let ended = Watch::Ended { service: name.clone(), config: service.config.clone() };
    Ok(vec![
        site.task(format!("What {name} says"), site.docker.command(["container", "logs", "--follow", &own.id])),
        site.poll(format!("How {name} ended"), site.docker.containers(), ended, site.wait),
    ])
}

fn start_first(site: &Site, service: &Service, old: Vec<String>) -> Vec<Task> {
    let name = &service.name;
    let scale = format!("{name}={}", old.len().saturating_add(usize::try_from(service.replicas).unwrap_or(1)));
    let up = ["up", "--detach", "--no-build", "--no-recreate", "--scale", &scale, name];
    let next = Decide::Settle(site.clone(), service.clone(), old);
    vec![
        site.task(format!("Start {name} beside what is live"), site.compose(up)),
        Task { own: true, ..site.ask(format!("Look for {name}"), site.docker.containers(), next) },
    ]
}

/// Once the new containers of a service are up and healthy, its old ones go.
fn settle(site: &Site, service: &Service, old: &[String], containers: &[Container]) -> Result<Vec<Task>, String> {
    let new: Vec<&Container> =
        containers.iter().filter(|own| own.service == service.name && own.config == service.config).collect();
    if new.is_empty() {
        return Err(format!("Compose started no new container of {}", service.name));
    }
    let mut tasks = vec![steady(site, &service.name, &new)];
    let gone: Vec<&Container> = containers.iter().filter(|own| old.contains(&own.id)).collect();
    tasks.extend(remove(site, service, &gone));
    Ok(tasks)
}

/// Stops containers as their `stop_grace_period` says, and removes them.
fn remove(site: &Site, service: &Service, containers: &[&Container]) -> Vec<Task> {
    if containers.is_empty() {
        return Vec::new();
    }
    let ids = || containers.iter().map(|own| own.id.as_str());
    let stop = site.docker.command(["container", "stop"].into_iter().chain(ids()));
    let rm = site.docker.command(["container", "rm"].into_iter().chain(ids()));
    vec![
        site.task(format!("Stop the old {}", service.name), stop),
        Task { own: true, ..site.task(format!("Remove the old {}", service.name), rm) },
    ]
}

fn watch(site: &Site, names: &[String], containers: &[Container]) -> Option<Task> {
    let all: Vec<&Container> = containers.iter().filter(|own| names.contains(&own.service)).collect();
    (!all.is_empty()).then(|| steady(site, &names.join(", "), &all))
}

fn steady(site: &Site, what: &str, containers: &[&Container]) -> Task {
    let ids: Vec<String> = containers.iter().map(|own| own.id.clone()).collect();
    let names: BTreeSet<String> = containers.iter().map(|own| own.service.clone()).collect();
    let services = containers.iter().map(|own| (own.id.clone(), own.service.clone())).collect();
    let watch = Watch::Steady { services, window: WINDOW };
    let mut task = site.poll(
        format!("Watch {what} for {} s", WINDOW.as_secs()),
        site.docker.inspect(&ids),
        watch,
        site.wait + WINDOW,
    );
    task.explain = Some(site.logs(&names.into_iter().collect::<Vec<_>>()));
    task
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
