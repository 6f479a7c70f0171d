//! Container images that a deploy sends: onto this machine's disk after the build, and what hosts have of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::artifact::Archive;
use crate::command::Command;
use crate::error::Error;
use crate::facts::Facts;
use crate::fleet::{self, Member, Refused};
use crate::plan::render::PlannedStep;
use crate::step::images::Images;
use crate::step::{Action, Step, Task};

/// What a step takes its images from: the file in the checkout, or else the names in this machine's engine.
type Origin = (Option<String>, Vec<String>);

/// The images of a run, in files that are removed when it ends.
#[derive(Default)]
pub struct Sources {
    files: BTreeMap<Origin, PathBuf>,
    folder: Option<tempfile::TempDir>,
}

fn of(planned: &PlannedStep) -> Option<&Images> {
    match &planned.step {
        Step::Images(images) => Some(images),
        _ => None,
    }
}

fn origin(images: &Images) -> Origin {
    match &images.archive {
        Some(archive) => (Some(archive.clone()), Vec::new()),
        None => (None, images.push.iter().map(|push| push.from.clone()).collect()),
    }
}

impl Sources {
    /// What the steps of any host send, from the `checkout`. What an engine has goes into a folder of `records`.
    pub fn new(steps: &[Vec<PlannedStep>], checkout: &Path, records: &Path) -> Result<Self, Error> {
        let mut sources = Self::default();
        for images in steps.iter().flatten().filter_map(of) {
            let origin = origin(images);
            if sources.files.contains_key(&origin) {
                continue;
            }
            let file = match &origin.0 {
                Some(archive) => checkout.join(archive),
                None => sources.folder(records)?.join(format!("{}.tar", sources.files.len())),
            };
            sources.files.insert(origin, file);
        }
        Ok(sources)
    }

    fn folder(&mut self, records: &Path) -> Result<PathBuf, Error> {
        let made = match self.folder.take() {
            Some(folder) => folder,
            None => tempfile::Builder::new()
                .prefix("images")
                .tempdir_in(records)
                .map_err(|error| Error::usage(format!("{}: {error}", records.display())))?,
        };
        let path = made.path().to_owned();
        self.folder = Some(made);
        Ok(path)
    }

    /// The commands of this machine that write the files.
    pub fn saving(&self) -> Vec<Task> {
        let engine = self.files.iter().filter(|((archive, _), _)| archive.is_none());
        let saving = engine.map(|((_, names), file)| {
            let words = ["docker".to_owned(), "image".to_owned(), "save".to_owned(), "--output".to_owned()];
            let words = words.into_iter().chain([file.to_string_lossy().into_owned()]).chain(names.iter().cloned());
            Task::new(format!("Save {}", names.join(", ")), Action::Command(Command::argv(words)))
        });
        saving.collect()
    }

    /// Reads the files.
    pub fn read(&self) -> Result<Archives, Error> {
        let read = |(origin, file): (&Origin, &PathBuf)| match Archive::read(file) {
            Ok(archive) => Ok((origin.clone(), Arc::new(archive))),
            Err(problem) => Err(Error::usage(problem.to_string())),
        };
        self.files.iter().map(read).collect::<Result<_, _>>().map(Archives)
    }
}

/// The images of a run.
pub struct Archives(BTreeMap<Origin, Arc<Archive>>);

impl Archives {
    /// Gives each step the images that it sends.
    pub fn give(&self, steps: &mut [PlannedStep]) {
        for planned in steps {
            if let Step::Images(images) = &mut planned.step {
                images.source = self.0.get(&origin(images)).cloned();
            }
        }
    }
}

/// Asks the hosts that are sent images what they have, and adds it to their facts.
pub async fn look(members: &[Member], steps: &[Vec<PlannedStep>], facts: &mut [Facts]) -> Vec<Refused> {
    let engines = steps.iter().zip(facts.iter()).map(|(steps, facts)| {
        let images = steps.iter().find_map(of)?;
        Some(images.engine(facts.program("docker")?))
    });
    let found = fleet::images(members, &engines.collect::<Vec<_>>()).await;
    let mut refused = Vec::new();
    for (facts, found) in facts.iter_mut().zip(found) {
        match found {
            Ok(images) => facts.images = images,
            Err(lost) => refused.push(lost),
        }
    }
    refused
}
