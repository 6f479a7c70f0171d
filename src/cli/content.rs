//! What is deployed, as this machine has it: a commit or an artifact, its files, and the tree of each host.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinHandle;

use super::args::DeployArgs;
use super::images::Sources;
use super::machine::Machine;
use super::project::{Project, ReleaseFacts, problems};
use crate::artifact::source::{self, Checkout, Commit, SourceError, Unpacked, Wanted};
use crate::artifact::{Part, ScanOptions, Tree, scan};
use crate::error::Error;
use crate::plan::render::PlannedStep;

/// What is deployed.
pub(super) enum Source {
    /// A commit.
    Git(Commit),
    /// A folder, or an archive.
    Artifact(PathBuf),
}

impl Source {
    /// What the command line, or the environment's branch, names.
    pub(super) fn find(args: &DeployArgs, project: &Project, machine: &Machine) -> Result<Self, Error> {
        if let Some(path) = &args.artifact {
            let path = machine.directory.join(path);
            return if path.exists() {
                Ok(Self::Artifact(path))
            } else {
                Err(Error::usage(format!("the artifact {} does not exist", path.display())))
            };
        }
        let wanted = match (&args.revision, args.branch.as_ref().or(project.selection.branch.as_ref())) {
            (Some(revision), _) => Wanted::Revision(revision.clone()),
            (None, Some(branch)) => Wanted::Branch(branch.clone()),
            (None, None) => Wanted::Head,
        };
        source::resolve(&project.inventory.folder, &wanted).map(Self::Git).map_err(wrong_source)
    }

    /// For people: branch, short id, author and title; or the path.
    pub(super) fn description(&self) -> String {
        match self {
            Self::Git(commit) => {
                let branch = commit.branch.as_ref().map(|branch| format!("{branch} ")).unwrap_or_default();
                let short: String = commit.id.chars().take(7).collect();
                format!("{branch}{short} {} ({})", commit.title, commit.author)
            }
            Self::Artifact(path) => path.display().to_string(),
        }
    }
}

fn wrong_source(error: SourceError) -> Error {
    let mut wrong = Error::usage(error.message);
    wrong.hints.extend(error.advice);
    wrong
}

/// The files to deploy, on this machine, for as long as the run lasts.
pub(super) struct Files {
    /// Where they are.
    pub(super) folder: PathBuf,
    _checkout: Option<Checkout>,
    _unpacked: Option<Unpacked>,
    /// Images of this machine that are sent, written after the build.
    pub(super) images: Sources,
}

fn files(source: &Source, project: &Project) -> Result<Files, Error> {
    let records = project.own_records()?;
    let of =
        |folder: PathBuf, _checkout, _unpacked| Ok(Files { folder, _checkout, _unpacked, images: Sources::default() });
    match source {
        Source::Git(commit) => {
            let into = records.join("build").join(project.selection.environment.as_deref().unwrap_or("default"));
            let checkout = source::checkout(&project.inventory.folder, commit, &into, &project.recipe.caches)
                .map_err(wrong_source)?;
            of(checkout.path().to_owned(), Some(checkout), None)
        }
        Source::Artifact(path) if path.is_dir() => of(path.clone(), None, None),
        Source::Artifact(path) => {
            let unpacked = source::unpack(path, &records).map_err(wrong_source)?;
            of(unpacked.path().to_owned(), None, Some(unpacked))
        }
    }
}

/// What is deployed, as far as this machine knows it before the build.
pub(super) struct Here {
    /// The files.
    pub(super) files: Files,
    /// The steps of each host, without what only the host knows.
    pub(super) steps: Vec<Vec<PlannedStep>>,
    /// Whether something is built here first, which changes the files.
    pub(super) builds: bool,
}

/// The trees of the hosts, in their order, which are read on a thread of their own. It ends soon where nobody waits.
pub(super) struct Scan {
    reading: JoinHandle<Result<Vec<Arc<Tree>>, Error>>,
    stop: Arc<AtomicBool>,
}

impl Scan {
    /// The trees, or what is wrong with the files.
    pub(super) async fn ended(mut self) -> Result<Vec<Arc<Tree>>, Error> {
        ended(&mut self.reading).await
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Here {
    /// Checks the commit out, or unpacks the artifact, and finds what the steps need.
    pub(super) async fn read(
        project: &Arc<Project>,
        source: &Arc<Source>,
        release: &ReleaseFacts,
    ) -> Result<Self, Error> {
        let (project, source, release) = (Arc::clone(project), Arc::clone(source), release.clone());
        ended(&mut tokio::task::spawn_blocking(move || Self::read_now(&project, &source, &release))).await
    }

    fn read_now(project: &Project, source: &Source, release: &ReleaseFacts) -> Result<Self, Error> {
        let wrong = |found: Vec<crate::document::Problem>| problems(&found, false);
        let mut files = files(source, project)?;
        let hosts = project.selection.hosts.iter();
        let steps: Vec<Vec<PlannedStep>> =
            hosts.map(|host| project.steps_to_check(host)).collect::<Result<_, _>>().map_err(wrong)?;
        files.images = Sources::new(&steps, &files.folder, &project.own_records()?)?;
        let builds = !project.build_steps(release).map_err(wrong)?.is_empty() || !files.images.saving().is_empty();
        Ok(Self { files, steps, builds })
    }

    /// Begins to read and hash what is deployed, as it is now.
    pub(super) fn scan(self: &Arc<Self>, project: &Arc<Project>) -> Scan {
        let stop = Arc::new(AtomicBool::new(false));
        let (here, project, stopped) = (Arc::clone(self), Arc::clone(project), Arc::clone(&stop));
        let reading = tokio::task::spawn_blocking(move || trees(&project, &here.files, &here.steps, stopped));
        Scan { reading, stop }
    }
}

/// What a task came to that nobody aborts; a panic in it is one here.
async fn ended<T>(task: &mut JoinHandle<T>) -> T {
    match task.await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The tree of each host. Hosts that are given the same parts share one tree.
fn trees(
    project: &Project,
    files: &Files,
    steps: &[Vec<PlannedStep>],
    stop: Arc<AtomicBool>,
) -> Result<Vec<Arc<Tree>>, Error> {
    let mut known: BTreeMap<String, Arc<Tree>> = BTreeMap::new();
    let mut trees = Vec::new();
    for (planned, host) in steps.iter().zip(&project.selection.hosts) {
        let shared = project.shared(host, &ReleaseFacts::default()).map_err(|found| problems(&found, false))?;
        // What is shared is never part of a release, or the link would stand in the way of the folder.
        let linked: Vec<String> = shared.files.iter().chain(&shared.dirs).map(|path| format!("/{path}")).collect();
        let parts: Vec<Part> = Project::parts(planned)
            .into_iter()
            .map(|part| {
                let prefix = if part.to.is_empty() { String::from("/") } else { format!("/{}/", part.to) };
                let within = linked.iter().filter_map(|path| path.strip_prefix(&prefix)).map(|path| format!("/{path}"));
                Part {
                    from: files.folder.join(&part.from),
                    exclude: part
                        .exclude
                        .iter()
                        .chain(&project.recipe.exclude)
                        .chain(&project.inventory.exclude)
                        .cloned()
                        .chain(within)
                        .collect(),
                    to: part.to,
                }
            })
            .collect();
        let key = format!("{parts:?}");
        let tree = match known.get(&key) {
            Some(tree) => Arc::clone(tree),
            None => {
                let options = ScanOptions {
                    allow_escaping_links: false,
                    read_only: project.recipe.read_only,
                    index: Some(project.records().join("index")),
                    stop: Arc::clone(&stop),
                };
                let tree = scan(&parts, &options).map(Arc::new).map_err(|found| {
                    let all: Vec<String> = found.iter().map(|problem| format!("  {problem}")).collect();
                    Error::usage(format!("these files cannot be deployed:\n{}", all.join("\n")))
                })?;
                known.insert(key, Arc::clone(&tree));
                tree
            }
        };
        trees.push(tree);
    }
    Ok(trees)
}
