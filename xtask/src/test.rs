//! `cargo xtask test`: the tests in tiers, from those that need nothing to those that need real servers.

use std::fmt;
use std::time::{Duration, Instant};

use crate::cargo::{cargo, on_ci};
use crate::failure::{Failure, Result};
use crate::lab;
use crate::packages::{self, Tool};
use crate::process::Program;

/// Tests that need the same things of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The unit tests: no network, no server, only programs such as shells and tar to compare with.
    Pure,
    /// An OpenSSH server on loopback, without root, a fixed port or Docker.
    OpenSsh,
    /// Servers with systemd, sshd and sudo in containers.
    Lab,
}

/// What unit tests compare ship's quoting and packing with. A test whose program is missing compares with fewer.
const COMPARED_WITH: [Tool; 8] = [
    Tool { program: "git", package: "git" },
    Tool { program: "busybox", package: "busybox" },
    Tool { program: "dash", package: "dash" },
    Tool { program: "bash", package: "bash" },
    Tool { program: "mksh", package: "mksh" },
    Tool { program: "bsdtar", package: "libarchive-tools" },
    Tool { program: "zstd", package: "zstd" },
    Tool { program: "python3", package: "python3" },
];

/// What the tier with OpenSSH starts. The shells are those whose quoting is compared with ours.
const OPENSSH_TOOLS: [Tool; 6] = [
    Tool { program: "sshd", package: "openssh-server" },
    Tool { program: "ssh", package: "openssh-client" },
    Tool { program: "busybox", package: "busybox" },
    Tool { program: "dash", package: "dash" },
    Tool { program: "bash", package: "bash" },
    Tool { program: "mksh", package: "mksh" },
];

impl Tier {
    const ALL: [Self; 3] = [Self::Pure, Self::OpenSsh, Self::Lab];

    /// The tier of this name.
    pub fn named(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|tier| tier.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|tier| tier.name()).collect();
            Failure::new(format!("There is no tier {name}. The tiers are: {}.", names.join(", ")))
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::OpenSsh => "openssh",
            Self::Lab => "lab",
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Self::Pure => "unit tests: no network, no server",
            Self::OpenSsh => "the binary against OpenSSH on loopback",
            Self::Lab => "the binary against servers with systemd, sshd and sudo in containers",
        }
    }

    /// Installs and starts what the tier needs, and returns the command that runs it.
    fn prepare(self) -> Result<Program> {
        match self {
            Self::Pure => {
                match packages::ensure(&COMPARED_WITH) {
                    Err(failure) if on_ci() => return Err(failure),
                    Err(failure) => println!("Some tests will compare with fewer programs. {failure}"),
                    Ok(()) => {}
                }
                Ok(cargo(["test", "--no-fail-fast", "--workspace", "--lib", "--bins"]))
            }
            Self::OpenSsh => {
                packages::ensure(&OPENSSH_TOOLS)?;
                Ok(cargo(["test", "--package", "ship", "--test", "ship"]))
            }
            Self::Lab => {
                let record = lab::up()?;
                // One after the other: the tests share the hosts. What they measure is shown.
                let tests =
                    cargo(["test", "--package", "ship", "--test", "lab", "--", "--test-threads=1", "--show-output"]);
                Ok(tests.env("SHIP_LAB", record.display().to_string()))
            }
        }
    }

    fn run(self) -> (Outcome, Duration) {
        println!("\n== Tier {}: {} ==", self.name(), self.purpose());
        let started = Instant::now();
        let outcome = match self.prepare() {
            Err(failure) => {
                println!("{failure}");
                Outcome::NotRun(failure.to_string())
            }
            Ok(tests) => {
                println!("Running: {tests}");
                match tests.show() {
                    Ok(()) => Outcome::Passed,
                    Err(failure) => Outcome::Failed(failure.to_string()),
                }
            }
        };
        (outcome, started.elapsed())
    }
}

/// How a tier ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed(String),
    NotRun(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => formatter.write_str("passed"),
            Self::Failed(why) => write!(formatter, "FAILED: {why}"),
            Self::NotRun(why) => write!(formatter, "COULD NOT RUN: {why}"),
        }
    }
}

/// Runs all tiers, or only one, and says at the end what became of each.
pub fn run(only: Option<Tier>) -> Result<()> {
    let mut ended = Vec::new();
    for tier in Tier::ALL {
        if only.is_none_or(|only| only == tier) {
            let (outcome, time) = tier.run();
            ended.push((tier, outcome, time));
        }
    }
    if only.is_none_or(|only| only == Tier::Lab) {
        leave_the_lab();
    }
    println!("\n== Tiers ==");
    for tier in Tier::ALL {
        match ended.iter().find(|(ran, ..)| *ran == tier) {
            Some((_, outcome, time)) => println!("{:8} {:6.1} s  {outcome}", tier.name(), time.as_secs_f64()),
            None => println!("{:8}           not asked for", tier.name()),
        }
    }
    let outcomes: Vec<Outcome> = ended.into_iter().map(|(_, outcome, _)| outcome).collect();
    verdict(&outcomes, on_ci())
}

/// A tier that failed is a failure anywhere; one that could not run is a failure where every tier is compulsory.
fn verdict(outcomes: &[Outcome], compulsory: bool) -> Result<()> {
    let failed = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Failed(_))).count();
    let not_run = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::NotRun(_))).count();
    if failed > 0 {
        return Err(Failure::new("Tests failed."));
    }
    if not_run > 0 && compulsory {
        return Err(Failure::new("A tier could not run, and with CI=true every tier is compulsory."));
    }
    if not_run == outcomes.len() {
        return Err(Failure::new("No tier could run."));
    }
    Ok(())
}

/// A person keeps the lab for the next run; a CI server is left as it was.
fn leave_the_lab() {
    if !on_ci() {
        println!("\nThe lab stays up for the next run, if it was started. To remove it: cargo xtask lab down --all");
        return;
    }
    println!();
    if let Err(failure) = lab::down(true) {
        println!("The lab could not be removed: {failure}");
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Tier, verdict};

    #[test]
    fn tiers_have_names() {
        assert_eq!(Tier::named("lab").ok(), Some(Tier::Lab));
        assert!(Tier::named("moon").is_err_and(|failure| failure.to_string().contains("pure, openssh, lab")));
    }

    #[test]
    fn a_tier_that_could_not_run_is_a_failure_on_ci_only() {
        let mixed = [Outcome::Passed, Outcome::NotRun("no root".into())];
        assert!(verdict(&mixed, false).is_ok());
        assert!(verdict(&mixed, true).is_err());
        assert!(verdict(&mixed[1..], false).is_err(), "running nothing is no success");
    }

    #[test]
    fn a_tier_that_failed_is_a_failure_anywhere() {
        assert!(verdict(&[Outcome::Failed("x".into()), Outcome::Passed], false).is_err());
        assert!(verdict(&[Outcome::Passed], true).is_ok());
    }
}
