//! The tools that do the job: how each is installed and started. What each of them does is in `xtask/bench`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::row::Job;
use crate::failure::{Failure, Result};
use crate::packages::{self, Tool as Package};
use crate::process::Program;

/// Who does the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// This project.
    Ship,
    /// A script with rsync over one shared SSH connection.
    Script,
    /// `scp` of the bytes alone.
    Scp,
    /// One `ssh` process for each host, with the command `true`.
    Ssh,
    /// What is left of the job where the deploy itself takes no time: login, restart and check, over ship's own connection.
    Floor,
    /// Fabric.
    Fabric,
    /// pyinfra.
    Pyinfra,
    /// Ansible with pipelining.
    Ansible,
    /// Capistrano.
    Capistrano,
    /// Mina.
    Mina,
}

/// Where a run finds what.
#[derive(Debug)]
pub struct Setting {
    /// The folder with `xtask/bench`.
    pub workspace: PathBuf,
    /// The folder in which ship's inventory and the Python tools lie.
    pub work: PathBuf,
    /// The ship that is measured.
    pub ship: PathBuf,
    /// The hosts by name.
    pub hosts: Vec<String>,
    /// The way to them.
    pub ssh_config: PathBuf,
    /// The folder to deploy.
    pub tree: PathBuf,
    /// An empty folder with a short name, for sockets.
    pub sockets: PathBuf,
}

impl Tool {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Ship,
        Self::Script,
        Self::Scp,
        Self::Ssh,
        Self::Floor,
        Self::Fabric,
        Self::Pyinfra,
        Self::Ansible,
        Self::Capistrano,
        Self::Mina,
    ];

    /// The name of its folder on the hosts, and what `--tool` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ship => "ship",
            Self::Script => "script",
            Self::Scp => "scp",
            Self::Ssh => "ssh",
            Self::Floor => "floor",
            Self::Fabric => "fabric",
            Self::Pyinfra => "pyinfra",
            Self::Ansible => "ansible",
            Self::Capistrano => "capistrano",
            Self::Mina => "mina",
        }
    }

    /// Whether it does the whole job, so that what it left on the hosts can be checked.
    pub fn deploys(self) -> bool {
        !matches!(self, Self::Scp | Self::Ssh | Self::Floor)
    }

    /// Installs it where it is missing.
    pub fn ensure(self, workspace: &Path, work: &Path) -> Result<()> {
        let package = |program, package| packages::ensure(&[Package { program, package }]);
        match self {
            Self::Ship | Self::Scp | Self::Ssh | Self::Floor => Ok(()),
            Self::Script => package("rsync", "rsync"),
            Self::Fabric | Self::Pyinfra | Self::Ansible => {
                package("rsync", "rsync")?;
                ensure_python_tools(workspace, work)
            }
            Self::Capistrano => package("rsync", "rsync").and_then(|()| package("cap", "capistrano")),
            Self::Mina => package("rsync", "rsync").and_then(|()| package("mina", "mina")),
        }
    }

    /// The command that does this job.
    pub fn command(self, job: Job, setting: &Setting) -> Command {
        let files = setting.workspace.join("xtask/bench").join(self.name());
        let file = |name: &str| files.join(name);
        let python = |name: &str| environment(&setting.work).join("bin").join(name);
        let word = match job {
            Job::First(_) | Job::Changed(_) => "deploy",
            Job::Run => "run",
            Job::Rollback => "rollback",
        };
        let mut command = match self {
            Self::Ship => with(ship(setting, word), if job == Job::Run { &["--", "true"][..] } else { &[] }),
            Self::Floor => with(ship(setting, "run"), ["--", "sh", "-c", FLOOR]),
            Self::Script => with(Command::new("bash"), [file(&format!("{word}.sh"))]),
            Self::Scp => with(Command::new("bash"), [setting.workspace.join("xtask/bench/script/copy.sh")]),
            Self::Ssh => with(Command::new("bash"), [setting.workspace.join("xtask/bench/script/run.sh")]),
            Self::Fabric => with(Command::new(python("fab")), [Path::new("--search-root"), &files, Path::new(word)]),
            Self::Pyinfra => {
                let command = with(Command::new(python("pyinfra")), [Path::new("-y"), &file("inventory.py")]);
                match job {
                    Job::Run => with(command, ["exec", "--", "true"]),
                    _ => with(command, [file(&format!("{word}.py"))]),
                }
            }
            Self::Ansible => {
                let hosts = format!("{},", setting.hosts.join(","));
                match job {
                    Job::Run => {
                        with(Command::new(python("ansible")), ["all", "-i", &hosts, "-m", "command", "-a", "true"])
                    }
                    _ => {
                        let command = with(Command::new(python("ansible-playbook")), ["-i", &hosts]);
                        with(command, [file(&format!("{word}.yml"))])
                    }
                }
            }
            Self::Capistrano => {
                let task = match job {
                    Job::Run => "bench:run",
                    Job::Rollback => "deploy:rollback",
                    _ => "deploy",
                };
                let command = with(Command::new("cap"), [Path::new("-f"), &file("Capfile")]);
                with(command, ["bench", task])
            }
            Self::Mina => with(with(Command::new("mina"), [Path::new("-f"), &file("deploy.rb")]), [word]),
        };
        self.surround(&mut command, setting);
        command
    }

    /// What every tool finds in its environment.
    fn surround(self, command: &mut Command, setting: &Setting) {
        let name = self.name();
        command
            .current_dir(setting.work.join("ship"))
            .env("BENCH_HOSTS", setting.hosts.join(" "))
            .env("BENCH_SSH_CONFIG", &setting.ssh_config)
            .env("BENCH_TREE", &setting.tree)
            .env("BENCH_TO", format!("/srv/{name}"))
            .env("BENCH_URL", format!("http://127.0.0.1/{name}/version.txt"))
            .env("BENCH_SOCKETS", &setting.sockets)
            .env("USER", "bench")
            // No tool may leave compiled files beside its own in the repository.
            .env("PYTHONDONTWRITEBYTECODE", "1");
        if self == Self::Ansible {
            let shared = "-o ControlMaster=auto -o ControlPersist=60s";
            command
                .env("ANSIBLE_CONFIG", setting.workspace.join("xtask/bench/ansible/ansible.cfg"))
                .env("ANSIBLE_SSH_ARGS", format!("-F {} {shared}", setting.ssh_config.display()))
                .env("ANSIBLE_SSH_CONTROL_PATH_DIR", &setting.sockets);
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ship => "ship",
            Self::Script => "rsync script",
            Self::Scp => "`scp`",
            Self::Ssh => "`ssh`",
            Self::Floor => "login, restart, check",
            Self::Fabric => "Fabric",
            Self::Pyinfra => "pyinfra",
            Self::Ansible => "Ansible",
            Self::Capistrano => "Capistrano",
            Self::Mina => "Mina",
        })
    }
}

fn with<W: AsRef<std::ffi::OsStr>>(mut command: Command, words: impl IntoIterator<Item = W>) -> Command {
    command.args(words);
    command
}

/// The part of the job that is none of a deployer's. ship's page is there: ship takes its turn before.
const FLOOR: &str = "sudo -n systemctl restart nginx && \
    curl -fsS -o /dev/null --retry 20 --retry-connrefused http://127.0.0.1/ship/version.txt";

/// The inventory has an environment of each size.
fn ship(setting: &Setting, word: &str) -> Command {
    let size = format!("hosts{}", setting.hosts.len());
    let mut command = with(Command::new(&setting.ship), [word, &size, "--output", "plain", "--ssh-config"]);
    command.arg(&setting.ssh_config);
    match word {
        "deploy" => {
            command.args(["--yes", "--artifact"]).arg(&setting.tree);
        }
        "run" => {}
        _ => {
            command.arg("--yes");
        }
    }
    command
}

/// The Python environment of this checkout.
fn environment(work: &Path) -> PathBuf {
    work.join("python")
}

/// Makes a Python environment with the tools that come from PyPI, in the versions that `requirements.txt` names.
fn ensure_python_tools(workspace: &Path, work: &Path) -> Result<()> {
    let requirements = workspace.join("xtask/bench/requirements.txt");
    let python = environment(work);
    let pip = Program::new(python.join("bin/pip").display().to_string());
    if !python.join("bin/pip").is_file() {
        println!("Making a Python environment for Fabric, pyinfra and Ansible: {}", python.display());
        Program::new("python3").args(["-m", "venv"]).path(&python).read()?;
    }
    // Quick when everything is there.
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .path(&requirements)
        .read()
        .map(drop)
        .map_err(|failure| Failure::new(format!("pip could not install the tools. {failure}")))
}
