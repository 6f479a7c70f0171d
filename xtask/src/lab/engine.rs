//! The Docker engine: found when one is reachable, otherwise started, and later stopped if it was ours.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::failure::{During as _, Failure, Result};
use crate::packages::{self, Tool};
use crate::privilege::Privilege;
use crate::process::Program;

/// How long an engine may take to answer after its start.
const START: Duration = Duration::from_secs(60);

/// A reachable engine.
#[derive(Clone, Debug)]
pub struct Engine {
    prefix: Vec<String>,
}

impl Engine {
    /// The engine that answers, if one does: as this user, or through sudo.
    pub fn find() -> Option<Self> {
        let direct = Self { prefix: Vec::new() };
        if direct.answers() {
            return Some(direct);
        }
        let through = Self { prefix: Privilege::detect().prefix()? };
        (!through.prefix.is_empty() && through.answers()).then_some(through)
    }

    /// The engine that answers, or one that is started now, with its files in `lab`.
    pub fn find_or_start(lab: &Path) -> Result<Self> {
        if let Some(engine) = Self::find() {
            return Ok(engine);
        }
        let Some(prefix) = Privilege::detect().prefix() else {
            return Err(Failure::new(
                "No Docker engine can be reached, and this user is neither root nor has sudo without a password. Start \
                 the engine, or add this user to the group docker.",
            ));
        };
        // A machine may have the client from elsewhere, and no engine.
        packages::ensure(&[Tool { program: "dockerd", package: "docker.io" }])?;
        let daemon = packages::find("dockerd").ok_or_else(|| Failure::new("There is no dockerd to start."))?;
        let log = log_file(lab);
        println!("Starting dockerd (its log: {}).", log.display());
        let output = File::create(&log).during(format_args!("write {}", log.display()))?;
        Program::new(daemon.display().to_string())
            .arg("--pidfile")
            .path(&pid_file(lab))
            .behind(&prefix)
            .detach(output)?;
        let engine = Self { prefix };
        let started = Instant::now();
        while started.elapsed() < START {
            if engine.answers() {
                return Ok(Self::find().unwrap_or(engine));
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join("\n    ");
        Err(Failure::new(format!("dockerd did not answer within {} s. It said last:\n    {last}", START.as_secs())))
    }

    /// A `docker` command of this engine.
    pub fn docker<W: Into<String>>(&self, words: impl IntoIterator<Item = W>) -> Program {
        // The classic builder needs no plugin; Debian's package does not bring the newer one.
        Program::new("docker").args(words).env("DOCKER_BUILDKIT", "0").behind(&self.prefix)
    }

    /// The words with which a test can start `docker` itself.
    pub fn words(&self) -> Vec<String> {
        [self.prefix.clone(), vec!["docker".to_owned()]].concat()
    }

    /// Whether any container is left on this engine, of any kind.
    pub fn is_idle(&self) -> Result<bool> {
        Ok(self.docker(["ps", "--all", "--quiet"]).read()?.trim().is_empty())
    }

    fn answers(&self) -> bool {
        self.docker(["version", "--format", "{{.Server.Version}}"]).succeeds()
    }
}

/// Stops the engine that `find_or_start` started for this lab, and no other. Returns whether there was one.
pub fn stop_ours(lab: &Path) -> Result<bool> {
    let Some(pid) = our_pid(lab) else { return Ok(false) };
    let prefix = Privilege::detect().prefix().unwrap_or_default();
    Program::new("kill").args(["-TERM", &pid]).behind(&prefix).read()?;
    let started = Instant::now();
    while our_pid(lab).is_some() {
        if started.elapsed() > START {
            return Err(Failure::new(format!("dockerd (process {pid}) was asked to end and has not done so yet.")));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(true)
}

/// The process id of the engine that this lab started, as long as that process is still a dockerd with our file.
pub fn our_pid(lab: &Path) -> Option<String> {
    let file = pid_file(lab);
    let pid = std::fs::read_to_string(&file).ok()?.trim().to_owned();
    // After a restart of the machine the number may belong to anyone: only its own words tell.
    let words = std::fs::read(Path::new("/proc").join(&pid).join("cmdline")).ok()?;
    let words = String::from_utf8_lossy(&words);
    (words.contains("dockerd") && words.contains(&file.display().to_string())).then_some(pid)
}

fn pid_file(lab: &Path) -> PathBuf {
    lab.join("dockerd.pid")
}

fn log_file(lab: &Path) -> PathBuf {
    lab.join("dockerd.log")
}
