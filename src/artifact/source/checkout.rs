//! A clean checkout of one commit, kept between deploys for the sake of its caches.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::git::Git;
use super::slot::{self, Slot};
use super::{Commit, SourceError};

/// A checkout that belongs to this run until it is dropped.
#[derive(Debug)]
pub struct Checkout {
    slot: Slot,
    path: PathBuf,
}

impl Checkout {
    /// The whole repository: the wished folder, or `<wished>-2`, `-3` … where other runs are using those.
    pub fn root(&self) -> &Path {
        &self.slot.path
    }

    /// The folder in it that `repo` was: the same as the root, unless the project is a part of its repository.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Checks `commit` out into `into`, exactly as committed: what is untracked or ignored is removed, but for
/// the paths `caches` (seen from `repo`, such as `frontend/node_modules`).
///
/// The checkout borrows the objects of the repository that `repo` is in, so nothing is copied, and nothing
/// is written to that repository.
pub fn checkout(repo: &Path, commit: &Commit, into: &Path, caches: &[String]) -> Result<Checkout, SourceError> {
    let source = Source::look(repo)?;
    let kept = caches.iter().map(|cache| pattern(&source.prefix, cache)).collect::<Result<Vec<_>, _>>()?;
    let slot = slot::take(into)?;
    let folder = slot.path.join(".git");
    let made_before = folder.exists();
    let mut result = prepare(&source, &slot.path).and_then(|git| update(&git, commit, &kept));
    if result.is_err() && made_before {
        // Whatever a killed run or a full disk left there. The caches stay.
        fs::remove_dir_all(&folder).map_err(|error| cannot("removed", &folder, &error))?;
        result = prepare(&source, &slot.path).and_then(|git| update(&git, commit, &kept));
    }
    result?;
    large_files_are_there(&Git::top(&slot.path), &slot.path)?;
    if slot.path.join(".gitmodules").exists() {
        // `git submodule` sets out for other repositories, so it is not told of one; this one is sound, it was just used.
        submodules(&Git::inside(&slot.path), &source)?;
    }
    let path = slot.path.join(&source.prefix);
    if !path.is_dir() {
        let message = format!("there is no folder `{}` in commit {}", source.prefix, short(&commit.id));
        return Err(SourceError::new(message).advice("choose a revision that has it"));
    }
    Ok(Checkout { slot, path })
}

/// Where things of the user's repository are.
struct Source {
    git: Git,
    common: PathBuf,
    objects: PathBuf,
    prefix: String,
    url: String,
}

impl Source {
    fn look(repo: &Path) -> Result<Self, SourceError> {
        let git = Git::inside(repo);
        let path = |what: &[&str]| {
            let arguments = [&["rev-parse", "--path-format=absolute"], what].concat();
            git.text(&arguments).map(PathBuf::from)
        };
        let (common, objects) = (path(&["--git-common-dir"])?, path(&["--git-path", "objects"])?);
        let prefix = git.answer(&["rev-parse", "--show-prefix"])?.unwrap_or_default();
        // Build tools ask for it, and addresses of submodules may be relative to it.
        let url = git.answer(&["config", "--get", "remote.origin.url"])?;
        let url = url.unwrap_or_else(|| common.to_string_lossy().into_owned());
        Ok(Self { git, common, objects, prefix, url })
    }
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> SourceError {
    SourceError::new(format!("{} cannot be {what}: {error}", path.display()))
}

fn short(id: &str) -> &str {
    id.get(..7).unwrap_or(id)
}

/// An empty repository in `path`, where there is none, that borrows the objects of `source`.
fn prepare(source: &Source, path: &Path) -> Result<Git, SourceError> {
    fs::create_dir_all(path).map_err(|error| cannot("made", path, &error))?;
    let (git, folder) = (Git::top(path), path.join(".git"));
    if !folder.join("HEAD").exists() {
        Git::inside(path).text(&["init", "--quiet", "--template=", "."])?;
    }
    // We hold the folder, so nobody else has these.
    for left in ["index.lock", "HEAD.lock", "config.lock", "shallow.lock"] {
        let _ = fs::remove_file(folder.join(left));
    }
    let objects = source.objects.as_os_str().as_bytes();
    if objects.contains(&b'\n') {
        return Err(SourceError::new("git cannot borrow from a repository whose path has a newline"));
    }
    let info = folder.join("objects/info");
    fs::create_dir_all(&info).map_err(|error| cannot("made", &info, &error))?;
    let alternates = info.join("alternates");
    fs::write(&alternates, [objects, b"\n"].concat()).map_err(|error| cannot("written", &alternates, &error))?;
    let (theirs, ours) = (source.common.join("shallow"), folder.join("shallow"));
    if theirs.exists() {
        fs::copy(theirs, &ours).map_err(|error| cannot("written", &ours, &error))?;
    } else {
        let _ = fs::remove_file(ours);
    }
    git.text(&["config", "remote.origin.url", source.url.as_str()])?;
    let lfs = source.common.join("lfs");
    if lfs.is_dir() {
        git.text(&["config", "lfs.storage", &lfs.to_string_lossy()])?;
    }
    if source.git.answer(&["config", "--get-regexp", r"^remote\..*\.promisor$"])?.is_some() {
        partial(source, &git)?;
    }
    // For `git describe` in build steps. Without tags the checkout is the same, so a failure is none.
    let from = source.common.to_string_lossy();
    let _ = git.answer(&["fetch", "--quiet", "--prune", "--no-write-fetch-head", &from, "+refs/tags/*:refs/tags/*"])?;
    Ok(git)
}

/// A clone that has not all objects ("partial") gets what it lacks from where it came; so must the checkout.
fn partial(source: &Source, git: &Git) -> Result<(), SourceError> {
    let listed = source.git.text(&["config", "--get-regexp", r"^(remote\..*\.(promisor|url|partialclonefilter))$"])?;
    for (key, value) in listed.lines().filter_map(|line| line.split_once(' ')) {
        git.text(&["config", key, value])?;
    }
    Ok(())
}

/// Makes the working tree the commit's, and nothing else.
fn update(git: &Git, commit: &Commit, kept: &[String]) -> Result<(), SourceError> {
    git.text(&["checkout", "--quiet", "--force", "--detach", commit.id.as_str(), "--"])?;
    // Twice `--force`: also repositories inside, such as submodules that are gone.
    let mut clean = vec!["clean", "--quiet", "--force", "--force", "-d", "-x"];
    for pattern in kept {
        clean.extend(["-e", pattern]);
    }
    git.text(&clean)?;
    Ok(())
}

/// A pattern for `git clean -e` that means exactly the path `cache` below `prefix`.
fn pattern(prefix: &str, cache: &str) -> Result<String, SourceError> {
    let names: Vec<&str> = cache.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    if cache.starts_with('/') || names.is_empty() || names.contains(&"..") || names.first() == Some(&".git") {
        return Err(SourceError::new(format!("the cache `{cache}` is no folder inside the project")));
    }
    let mut pattern = String::from("/");
    for c in format!("{prefix}{}", names.join("/")).chars() {
        if matches!(c, '\\' | '*' | '?' | '[' | ' ') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    Ok(pattern)
}

/// Without git-lfs, git checks out a few lines of text in place of each large file, and says nothing.
fn large_files_are_there(git: &Git, path: &Path) -> Result<(), SourceError> {
    let attributes = fs::read(path.join(".gitattributes")).unwrap_or_default();
    let uses_lfs = attributes.windows(10).any(|bytes| bytes == b"filter=lfs");
    if uses_lfs && git.answer(&["config", "--get", "filter.lfs.smudge"])?.is_none() {
        let advice = "install git-lfs, run `git lfs install`, then `git lfs pull`";
        return Err(SourceError::new("this repository keeps files in Git LFS, which is not set up here").advice(advice));
    }
    Ok(())
}

/// Checks submodules out, from the user's own copies of them where they have the commits.
fn submodules(git: &Git, source: &Source) -> Result<(), SourceError> {
    let paths = r"^submodule\..*\.path$";
    let listed = git.answer(&["config", "--file", ".gitmodules", "--get-regexp", paths])?.unwrap_or_default();
    git.text(&["submodule", "--quiet", "init"])?;
    let mut copied = Vec::new();
    for (key, path) in listed.lines().filter_map(|line| line.split_once(' ')) {
        let name = key.strip_prefix("submodule.").and_then(|key| key.strip_suffix(".path")).unwrap_or_default();
        let copy = source.common.join("modules").join(name);
        if !name.is_empty() && !name.split('/').any(|part| part == "..") && copy.is_dir() {
            git.text(&["config", &format!("submodule.{name}.url"), &copy.to_string_lossy()])?;
            copied.push(path);
        }
    }
    let update = ["submodule", "--quiet", "update", "--init", "--force"];
    if !copied.is_empty() {
        // git refuses to clone submodules from local paths, which a hostile `.gitmodules` could choose; these
        // are chosen here. A copy without the commit fails, and the address below is asked.
        let local = [&["-c", "protocol.file.allow=always"], &update[..], &["--"], &copied].concat();
        let _ = git.answer(&local)?;
    }
    git.text(&["submodule", "--quiet", "sync", "--recursive"])?;
    git.text(&[&update[..], &["--recursive"]].concat())?;
    git.text(&["submodule", "--quiet", "foreach", "--recursive", "git clean --quiet --force --force -d -x"])?;
    Ok(())
}
