//! What follows from what a host answers: the decisions about a release of Compose, each a value.

use std::collections::{BTreeMap, BTreeSet};

use super::Images;
use super::containers::{self};
use super::docker::{self, SEPARATOR, record};
use super::freeze;
use super::freezing::Freezing;
use super::owner;
use super::ready::Ready;
use super::replace::{follow, replace, settle, watch};
use super::service::{Seen, Service, Services};
use super::site::Site;
use crate::command::Command;
use crate::layout::ReleaseId;
use crate::secret::Secret;
use crate::step::Task;
use crate::step::detach::Detached;

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

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
