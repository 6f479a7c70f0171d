//! One commit out of what a user calls it.

use std::path::Path;

use super::SourceError;
use super::git::Git;
use crate::artifact::path;
use crate::document;

/// What is to be deployed, in the user's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A branch: the local one, else `origin`'s.
    Branch(String),
    /// A commit id, a tag, or anything else that git understands as a commit.
    Revision(String),
    /// What is checked out.
    Head,
}

/// A commit, resolved once, so that every host gets the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The full id.
    pub id: String,
    /// The branch that was asked for, or that is checked out for [`Wanted::Head`].
    pub branch: Option<String>,
    /// The author's name.
    pub author: String,
    /// The first line of its message.
    pub title: String,
    /// When it was committed, in seconds since 1970 (UTC).
    pub time: i64,
    /// What the user may not expect: uncommitted changes, a branch behind its upstream.
    pub warnings: Vec<String>,
}

/// More names than this are not listed in an error.
const LISTED: usize = 12;

/// Resolves `wanted` in the repository that `repo` is in. Nothing is fetched.
pub fn resolve(repo: &Path, wanted: &Wanted) -> Result<Commit, SourceError> {
    let git = Git::inside(repo);
    let Some(shallow) = git.answer(&["rev-parse", "--is-shallow-repository"])? else {
        return Err(no_repository(&git, repo));
    };
    let shallow = shallow == "true";
    let (id, branch, warnings) = match wanted {
        Wanted::Head => {
            let Some(id) = commit(&git, "HEAD")? else {
                return Err(SourceError::new(format!("{} has no commit yet", repo.display())));
            };
            let branch = git.answer(&["symbolic-ref", "--quiet", "--short", "HEAD"])?;
            let warnings = match &branch {
                Some(branch) if !shallow => distance(&git, branch)?,
                _ => Vec::new(),
            };
            (id, branch, warnings)
        }
        Wanted::Revision(revision) => {
            let found = if revision.is_empty() || revision.starts_with('-') { None } else { commit(&git, revision)? };
            let id = found.ok_or(()).or_else(|()| Err(unknown(&git, "revision", revision, shallow)?))?;
            (id, None, Vec::new())
        }
        Wanted::Branch(branch) => {
            let local = format!("refs/heads/{branch}");
            let remote = format!("refs/remotes/origin/{branch}");
            // A pattern of `for-each-ref` also names what is below it, so the names are compared.
            let listed =
                git.text(&["for-each-ref", "--format=%(refname)%00%(objectname)", local.as_str(), remote.as_str()])?;
            let named = |wanted: &str| {
                let mut lines = listed.lines().filter_map(|line| line.split_once('\0'));
                lines.find(|(name, _)| *name == wanted).map(|(_, id)| id.to_owned())
            };
            let warnings = if named(&local).is_some() && !shallow { distance(&git, branch)? } else { Vec::new() };
            let found = named(&local).or_else(|| named(&remote));
            let id = found.ok_or(()).or_else(|()| Err(unknown(&git, "branch", branch, shallow)?))?;
            (id, Some(branch.clone()), warnings)
        }
    };
    describe(&git, id, branch, warnings)
}

fn no_repository(git: &Git, repo: &Path) -> SourceError {
    let said = git.text(&["rev-parse", "--git-dir"]).err().map_or_else(String::new, |error| error.message);
    let advice = "run ship inside the project's repository, or deploy a folder or an archive with `--artifact`";
    SourceError::new(format!("{} is in no git repository that can be used: {said}", repo.display())).advice(advice)
}

/// The id of the commit that `revision` names.
fn commit(git: &Git, revision: &str) -> Result<Option<String>, SourceError> {
    let peeled = format!("{revision}^{{commit}}");
    let id = git.answer(&["rev-parse", "--verify", "--quiet", "--end-of-options", peeled.as_str()])?;
    Ok(id.filter(|id| id.len() >= 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit())))
}

/// The error for a name that git does not know, with the nearest that it does.
fn unknown(git: &Git, what: &str, name: &str, shallow: bool) -> Result<SourceError, SourceError> {
    let plural = if what == "branch" { "branches" } else { "tags or branches" };
    let mut patterns = vec!["for-each-ref", "--format=%(refname)", "refs/heads", "refs/remotes/origin"];
    if what != "branch" {
        patterns.push("refs/tags");
    }
    let listed = git.text(&patterns)?;
    let short = |name: &'_ str| -> Option<String> {
        let mut prefixes = ["refs/heads/", "refs/tags/"].into_iter();
        let plain = prefixes.find_map(|prefix| name.strip_prefix(prefix)).map(str::to_owned);
        // As a revision, a branch of origin's needs its prefix.
        let remote = || match what {
            "branch" => name.strip_prefix("refs/remotes/origin/").map(str::to_owned),
            _ => name.strip_prefix("refs/remotes/").map(str::to_owned),
        };
        plain.or_else(remote).filter(|name| !name.ends_with("HEAD"))
    };
    let mut names: Vec<String> = listed.lines().filter_map(short).collect();
    names.sort();
    names.dedup();
    let near = document::nearest(name, names.iter().map(String::as_str));
    let near = near.or_else(|| names.iter().map(String::as_str).find(|known| known.ends_with(&format!("/{name}"))));
    let advice = if let Some(near) = near {
        Some(format!("did you mean `{near}`?"))
    } else if shallow {
        let advice = "this clone is shallow: fetch everything first (`fetch-depth: 0` for actions/checkout, \
                      `git fetch --unshallow` elsewhere)";
        Some(advice.to_owned())
    } else if names.len() <= LISTED {
        document::suggestion(name, names.iter().map(String::as_str))
    } else {
        Some(format!("there are {} {plural}; if it is new, `git fetch` first", names.len()))
    };
    let message = format!("there is no {what} `{name}` in this repository");
    Ok(SourceError { message, advice })
}

/// How far the local `branch` is from its upstream, or from origin's branch of that name, as last fetched.
fn distance(git: &Git, branch: &str) -> Result<Vec<String>, SourceError> {
    let local = format!("refs/heads/{branch}");
    let upstream = git.text(&["for-each-ref", "--format=%(refname)%00%(upstream)", local.as_str()])?;
    let mut lines = upstream.lines().filter_map(|line| line.split_once('\0'));
    let upstream = lines.find(|(name, upstream)| *name == local && !upstream.is_empty()).map(|(_, upstream)| upstream);
    let upstream = upstream.map_or_else(|| format!("refs/remotes/origin/{branch}"), str::to_owned);
    let range = format!("{local}...{upstream}");
    let Some(counts) = git.answer(&["rev-list", "--left-right", "--count", "--end-of-options", range.as_str()])? else {
        return Ok(Vec::new());
    };
    let shown = upstream.strip_prefix("refs/remotes/").unwrap_or(&upstream);
    let mut warnings = Vec::new();
    let mut counts = counts.split_whitespace().map(|count| count.parse().unwrap_or(0_u64));
    if let Some(ahead @ 1..) = counts.next() {
        warnings.push(format!(
            "{} of `{branch}` {} not in {shown}",
            commits(ahead),
            if ahead == 1 { "is" } else { "are" }
        ));
    }
    if let Some(behind @ 1..) = counts.next() {
        warnings.push(format!("`{branch}` here is {} behind {shown}", commits(behind)));
    }
    Ok(warnings)
}

fn commits(count: u64) -> String {
    if count == 1 { "1 commit".to_owned() } else { format!("{count} commits") }
}

fn describe(git: &Git, id: String, branch: Option<String>, mut warnings: Vec<String>) -> Result<Commit, SourceError> {
    let shown = git.text(&["show", "--no-patch", "--format=%an%x00%ct%x00%s", id.as_str()])?;
    let mut fields = shown.splitn(3, '\0');
    let mut field = || fields.next().unwrap_or_default().to_owned();
    let (author, time, title) = (field(), field().parse().unwrap_or(0), field());
    // Of another commit than the one checked out, nobody expects the working tree.
    if commit(git, "HEAD")?.as_ref() == Some(&id) {
        warnings.extend(uncommitted(git)?);
    }
    Ok(Commit { id, branch, author, title, time, warnings })
}

fn uncommitted(git: &Git) -> Result<Option<String>, SourceError> {
    let Some(status) = git.answer(&["status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=normal"])?
    else {
        // A bare repository has nothing to commit.
        return Ok(None);
    };
    let ours = |path: &str| path.split('/').any(|name| name == ".ship");
    let paths: Vec<&str> = status.split('\0').filter_map(|entry| entry.get(3..)).filter(|path| !ours(path)).collect();
    let mut shown: Vec<String> = paths.iter().take(3).map(|path| path::escape(path.as_bytes())).collect();
    if paths.len() > shown.len() {
        shown.push("…".to_owned());
    }
    let count = match paths.len() {
        0 => return Ok(None),
        1 => "1 uncommitted change is".to_owned(),
        count => format!("{count} uncommitted changes are"),
    };
    Ok(Some(format!("{count} not deployed: {}", shown.join(", "))))
}
