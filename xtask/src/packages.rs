//! Installs the Debian packages that a chore needs, when they are missing and when this user may.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::failure::{Failure, Result};
use crate::privilege::Privilege;
use crate::process::Program;

/// A program that a chore starts, and the Debian package that brings it.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// The name of the program.
    pub program: &'static str,
    /// The name of the package.
    pub package: &'static str,
}

/// Package lists older than this are fetched anew before an installation.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a program is, if it is anywhere. Looks in `/usr/sbin` and `/sbin` too: they are not on every user's path.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Makes sure that all these programs are there, and says what is being installed.
pub fn ensure(tools: &[Tool]) -> Result<()> {
    let missing: Vec<Tool> = tools.iter().copied().filter(|tool| find(tool.program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    packages.dedup();
    let command = format!("apt-get install {}", packages.join(" "));
    if find("apt-get").is_none() {
        let programs: Vec<&str> = missing.iter().map(|tool| tool.program).collect();
        return Err(Failure::new(format!(
            "These programs are missing: {}. This machine has no apt-get, so install them the way it does that.",
            programs.join(", ")
        )));
    }
    let Some(prefix) = Privilege::detect().prefix() else {
        return Err(Failure::new(format!(
            "Packages are missing, and this user is neither root nor has sudo without a password. Run, as root: {command}"
        )));
    };
    println!("Installing Debian packages: {}", packages.join(" "));
    install(&packages, &prefix)?;
    if packages.contains(&"openssh-server") && Path::new("/run/systemd/system").exists() {
        // The tests start an sshd of their own on loopback; the package's service would listen to everyone.
        println!("Turning off the SSH service that openssh-server has just brought.");
        for unit in ["ssh.socket", "ssh.service"] {
            // One of the two may not exist on this release.
            Program::new("systemctl").args(["disable", "--now", unit]).behind(&prefix).succeeds();
        }
    }
    match missing.iter().find(|tool| find(tool.program).is_none()) {
        None => Ok(()),
        Some(tool) => Err(Failure::new(format!(
            "The package {} was installed, but there is still no program {}.",
            tool.package, tool.program
        ))),
    }
}

fn install(packages: &[&str], prefix: &[String]) -> Result<()> {
    if !lists_are_fresh() {
        update(prefix);
    }
    let attempt = || {
        Program::new("apt-get")
            .args(["-q", "-y", "-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Use-Pty=0", "install"])
            .arg("--no-install-recommends")
            .args(packages.iter().copied())
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("NEEDRESTART_SUSPEND", "1")
            .behind(prefix)
            .read()
            .map(drop)
    };
    // A list may be fresh and still name a version that the mirror no longer has.
    attempt().or_else(|_| {
        update(prefix);
        attempt()
    })
}

/// Fetches the package lists. One source that fails (a third party's, say) must not stop us: the installation tells.
fn update(prefix: &[String]) {
    println!("Fetching the package lists (apt-get update).");
    let update = Program::new("apt-get").args(["-q", "-o", "DPkg::Lock::Timeout=600", "update"]).behind(prefix);
    if let Err(failure) = update.read() {
        println!("{failure}");
    }
}

/// apt gives a list the time that the mirror states, so the folder in which lists arrive tells when they were fetched.
fn lists_are_fresh() -> bool {
    let lists = Path::new("/var/lib/apt/lists");
    let Ok(mut entries) = std::fs::read_dir(lists) else { return false };
    let present =
        entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().contains("_Packages")));
    let fetched = std::fs::metadata(lists.join("partial")).and_then(|metadata| metadata.modified());
    present && fetched.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age < FRESH))
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn finds_programs_by_name() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }
}
