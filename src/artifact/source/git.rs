//! Running git, the same whatever the user's environment and settings are.
#![allow(clippy::disallowed_methods, reason = "git is a program")]

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::SourceError;

/// Variables that make git look elsewhere than in the folder it is given (`git rev-parse
/// --local-env-vars`): ship may be started from a hook. `GIT_CONFIG_COUNT` stays, containers set
/// `safe.directory` with it.
const ELSEWHERE: &[&str] = &[
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_GRAFT_FILE",
    "GIT_SHALLOW_FILE",
    "GIT_REPLACE_REF_BASE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DEFAULT_HASH",
    "GIT_TEMPLATE_DIR",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
];

/// Settings of the user that would change what is checked out, or start something.
const SETTINGS: &[&str] = &[
    "core.autocrlf=false",
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.quotePath=true",
    "gc.auto=0",
    "maintenance.auto=false",
    "i18n.logOutputEncoding=UTF-8",
    "log.showSignature=false",
    "advice.detachedHead=false",
    "submodule.recurse=false",
];

/// git, in one folder.
#[derive(Debug)]
pub struct Git {
    folder: PathBuf,
    top: bool,
}

impl Git {
    /// git in `folder`, which is somewhere in a repository.
    pub fn inside(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), top: false }
    }

    /// git in `folder`, which is the top of a repository of ship's own.
    ///
    /// Were the repository damaged, git would look for one in the folders above: it would find the user's,
    /// and clean that. So it is told where the repository is.
    pub fn top(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), top: true }
    }

    /// What `git ARGUMENTS` prints, without the newline at its end; an error where it fails.
    pub fn text<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<String, SourceError> {
        let output = self.run(arguments)?;
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(self.failed(arguments, &output)) }
    }

    /// The same; `None` where it fails, which then is an answer.
    pub fn answer<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Option<String>, SourceError> {
        let output = self.run(arguments)?;
        Ok(output.status.success().then(|| text(&output.stdout)))
    }

    fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Output, SourceError> {
        // git makes files by the umask, and with a private one (077) no web server could read the release.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"umask 022 && exec git "$@""#, "git", "-C"]).arg(&self.folder);
        if self.top {
            command.args(["--git-dir=.git", "--work-tree=."]);
        }
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        for name in ELSEWHERE {
            command.env_remove(name);
        }
        // Nobody is there to answer, and the user's own index is not to be touched by looking at it.
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0").env("LC_ALL", "C");
        let output = command.args(arguments).stdin(Stdio::null()).output().map_err(|error| no_git(&error))?;
        match output.status.code() {
            // The shell's status for a program that is not there.
            Some(127) => Err(no_git(&io::ErrorKind::NotFound.into())),
            _ => Ok(output),
        }
    }

    fn failed<A: AsRef<OsStr>>(&self, arguments: &[A], output: &Output) -> SourceError {
        let what: Vec<_> = arguments.iter().map(|argument| argument.as_ref().to_string_lossy()).take(2).collect();
        let said = text(&output.stderr);
        let said = if said.is_empty() { output.status.to_string() } else { said };
        SourceError::new(format!("`git {}` failed in {}: {said}", what.join(" "), self.folder.display()))
    }
}

fn no_git(error: &io::Error) -> SourceError {
    SourceError::new(format!("git cannot be run: {error}"))
        .advice("install git, or deploy a folder or an archive with `--artifact`")
}

fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.strip_suffix('\n').unwrap_or(&text).to_owned()
}
