//! The processes that a server started: their making, and their end with the server.
#![expect(clippy::disallowed_methods, reason = "an SSH server starts what it is asked to")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::process::{Child, Command};

/// The variable by which a process and all that it starts are known, whatever groups and sessions they
/// make for themselves: `timeout` makes one, `setsid` too.
const MARK: &str = "SHIP_DEMO";

/// How often the killed are looked for again.
const ROUNDS: u32 = 50;

/// How long they have before the next look.
const PAUSE: Duration = Duration::from_millis(5);

/// What a server starts processes with, and those that run.
#[derive(Debug)]
pub(super) struct Children {
    home: PathBuf,
    path: String,
    mark: String,
    groups: Mutex<BTreeSet<u32>>,
}

impl Children {
    /// Processes with `home` as their home and working folder, and `path` as their PATH. `mark` must be
    /// unlike that of any other server.
    pub(super) fn new(home: &Path, path: String, mark: String) -> Self {
        Self { home: home.to_owned(), path, mark, groups: Mutex::default() }
    }

    /// Their home.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// Starts `/bin/sh -c COMMAND`, as `sshd` has the login shell do it, in a process group of its own: the
    /// Ctrl-C of whoever watches the demo is not meant for it.
    pub(super) fn start(&self, command: &[u8], user: &str) -> io::Result<Child> {
        let child = Command::new("/bin/sh")
            .arg("-c")
            .arg(OsStr::from_bytes(command))
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", &self.home)
            .env("LANG", "C.UTF-8")
            .env("USER", user)
            .env("LOGNAME", user)
            .env("SHELL", "/bin/sh")
            .env(MARK, &self.mark)
            .current_dir(&self.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        if let Some(id) = child.id() {
            self.groups.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        }
        Ok(child)
    }

    /// The process `id` has ended and was waited for.
    pub(super) fn ended(&self, id: u32) {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Sends the signal `name` (`TERM`) to the process `id` and its group, as `sshd` does on request.
    pub(super) fn signal(&self, id: u32, name: &str) {
        if self.groups.lock().unwrap_or_else(PoisonError::into_inner).contains(&id) {
            send(name, [format!("-{id}")]);
        }
    }

    /// Kills all that is left. Where there is no `/proc`, processes whose first ancestor has ended are not
    /// found.
    pub(super) fn kill(&self) {
        for _ in 0..ROUNDS {
            let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let marked = self.marked();
            let targets: Vec<String> =
                groups.iter().map(|group| format!("-{group}")).chain(marked.iter().map(u32::to_string)).collect();
            if !targets.is_empty() {
                send("KILL", targets);
            }
            self.groups.lock().unwrap_or_else(PoisonError::into_inner).retain(|group| !groups.contains(group));
            if marked.is_empty() {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The living processes that bear the mark.
    fn marked(&self) -> Vec<u32> {
        let mark = format!("{MARK}={}", self.mark);
        let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
        processes
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|id| {
                std::fs::read(format!("/proc/{id}/environ"))
                    .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|word| word == mark.as_bytes()))
            })
            .collect()
    }
}

/// Sends a signal to processes, or with `-` before the number to groups. Those that have gone are no error.
fn send(name: &str, targets: impl IntoIterator<Item = String>) {
    let _ = std::process::Command::new("/bin/sh")
        .args(["-c", "name=$1; shift; kill -s \"$name\" -- \"$@\"", "kill", name])
        .args(targets)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
