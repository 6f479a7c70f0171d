//! What the commands know of this machine. `main` fills it: nothing else reads the clock or the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::secrets::Sources;
use crate::secret::Secret;
use crate::session::Settings;

/// This machine, the user and the moment.
#[derive(Clone)]
pub struct Machine {
    /// The environment variables that are valid text.
    pub environment: BTreeMap<String, String>,
    /// The working directory.
    pub directory: PathBuf,
    /// The machine's name.
    pub hostname: String,
    /// The time.
    pub clock: fn() -> jiff::Timestamp,
    /// A time that never jumps.
    pub monotonic: fn() -> std::time::Instant,
    /// Whether standard input is a terminal.
    pub stdin_is_terminal: bool,
    /// Whether standard error is a terminal.
    pub stderr_is_terminal: bool,
    /// Whether standard output is a terminal.
    pub stdout_is_terminal: bool,
}

impl Machine {
    /// A variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The local user's name.
    pub fn user(&self) -> Option<&str> {
        self.variable("USER").or_else(|| self.variable("LOGNAME"))
    }

    /// `user@machine`: who did it, for the lock and the history. In GitHub Actions the person who started it.
    pub fn who(&self) -> String {
        match self.variable("GITHUB_ACTOR") {
            Some(actor) => format!("{actor}@github-actions"),
            None => format!("{}@{}", self.user().unwrap_or("somebody"), self.hostname),
        }
    }

    /// The page of the CI run, where there is one.
    pub fn ci_url(&self) -> Option<String> {
        if let Some(url) = self.variable("CI_JOB_URL") {
            return Some(url.to_owned());
        }
        let (server, repository, run) =
            (self.variable("GITHUB_SERVER_URL")?, self.variable("GITHUB_REPOSITORY")?, self.variable("GITHUB_RUN_ID")?);
        Some(format!("{server}/{repository}/actions/runs/{run}"))
    }

    /// The variables that open the servers: for ship alone.
    pub const KEYS: &[&str] = &["SHIP_SSH_KEY", "SHIP_SSH_PASSPHRASE"];

    /// Whether this is a job of GitHub Actions.
    pub fn github_actions(&self) -> bool {
        self.variable("GITHUB_ACTIONS") == Some("true")
    }

    /// The time in the form of release ids.
    pub fn release_time(time: jiff::Timestamp) -> String {
        time.strftime("%Y%m%dT%H%M%SZ").to_string()
    }

    /// What connecting needs to know.
    pub fn session_settings(&self, ssh_config: Option<PathBuf>, connect_timeout: Duration) -> Settings {
        let secret = |name: &str| self.variable(name).map(|value| Secret::new(value.to_owned()));
        Settings {
            home: self.variable("HOME").map(PathBuf::from),
            local_user: self.user().map(str::to_owned),
            agent: self.variable("SSH_AUTH_SOCK").map(PathBuf::from),
            key: secret("SHIP_SSH_KEY"),
            passphrase: secret("SHIP_SSH_PASSPHRASE"),
            ssh_config,
            connect_timeout,
        }
    }
}

/// Where the values of secrets come from on this machine.
#[derive(Clone)]
pub struct LocalSources {
    /// The machine.
    pub machine: Machine,
    /// The project's folder, in which commands run.
    pub folder: PathBuf,
}

impl LocalSources {
    /// Runs `command` in a shell and gives back what it printed.
    pub fn shell(&self, command: &str) -> Result<String, String> {
        self.output(&["/bin/sh", "-c", command])
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "commands of this machine that the inventory names: secrets and hosts_from"
    )]
    fn output(&self, argv: &[&str]) -> Result<String, String> {
        let mut words = argv.iter();
        let program = words.next().copied().unwrap_or_default();
        let output = std::process::Command::new(program)
            .args(words)
            .current_dir(&self.folder)
            .stdin(std::process::Stdio::inherit())
            .stderr(std::process::Stdio::inherit())
            .output()
            .map_err(|error| format!("`{program}` could not be started: {error}"))?;
        if !output.status.success() {
            return Err(format!("it ended with {}", output.status));
        }
        String::from_utf8(output.stdout).map_err(|_| "it printed something that is not UTF-8".to_owned())
    }
}

impl Sources for LocalSources {
    fn environment(&self, name: &str) -> Option<String> {
        self.machine.environment.get(name).cloned()
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        std::fs::read_to_string(path).map_err(|error| error.to_string())
    }

    fn command(&self, command: &str) -> Result<String, String> {
        self.shell(command)
    }

    fn age(&self, path: &Path) -> Result<String, String> {
        let path = path.to_str().ok_or("the path is not UTF-8")?;
        match self.machine.variable("SHIP_AGE_IDENTITY") {
            Some(identity) => self.output(&["age", "--decrypt", "--identity", identity, "--", path]),
            None => self.output(&["age", "--decrypt", "--", path]),
        }
    }
}
