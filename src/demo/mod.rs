//! `ship demo`: the main job with nothing prepared, on SSH servers inside this program.
//!
//! The acts go through the code of `ship deploy` and `ship rollback`, over real SSH connections; only the
//! servers and their hosts are a stage set. What is claimed between the acts is asked of the web servers,
//! and an act that comes out otherwise fails the demo.
//!
//! | file | purpose |
//! |---|---|
//! | `act` | what happens, and what has to come of it |
//! | `voice` | what is said between the acts |
//! | `world` | the hosts, the project and the folder that hold it all |
//! | `site` | the sample project |
//! | `server`, `exec`, `spool`, `children` | an SSH server: connections, channels, their input, their processes |
//! | `web`, `visitor` | a web server for each host, and somebody who asks it all the time |

mod act;
mod children;
mod exec;
mod server;
#[cfg(test)]
mod server_tests;
mod site;
mod spool;
mod visitor;
mod voice;
mod web;
mod world;

use std::future::Future;
use std::io;
use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub use server::Server;

use act::{Act, Deed, Outcome, acts, title};
use visitor::Visitor;
use voice::Voice;
use world::World;

use crate::cli::args::{ChangeArgs, DeployArgs, Global, RollbackArgs};
use crate::cli::machine::Machine;
use crate::cli::{deploy, rollback};
use crate::error::{Error, Kind};
use crate::report;

/// Runs the demo: two deploys, one that fails and is put back, a rollback. With `keep`, the folders stay.
///
/// # Errors
/// Where an act came out otherwise than it had to (what differed was told), could not be set up, or was
/// interrupted.
pub async fn run(machine: &Machine, global: &Global, keep: bool) -> Result<(), Error> {
    let interrupted = watch()?;
    check(machine)?;
    let world = World::create(machine).await.map_err(not_set_up)?;
    let voice = Voice::new(machine, global);
    voice.welcome(&world);
    let began = (machine.monotonic)();
    let mut play = Play { world: &world, machine, global, voice: &voice, visitor: None, told: Vec::new() };
    let played = play.all(&interrupted).await;
    let seen = play.visitor.take().map(|visitor| visitor.seen()).unwrap_or_default();
    let told = play.told;
    let differences = match &played {
        Ok(differences) => differences.clone(),
        Err(_) => Vec::new(),
    };
    // Where something went wrong, the folder tells what.
    let stays = keep || !differences.is_empty() || (played.is_err() && !interrupted.is_cancelled());
    let folder = world.folder().display().to_string();
    let ended = world.end(stays).await;
    let left = match ended {
        Ok(Some(kept)) => format!("the servers are stopped, and {} is kept", kept.display()),
        Ok(None) => format!("the servers are stopped, and {folder} is removed (`--keep` leaves it)"),
        Err(error) => format!("the servers are stopped, but {folder} could not be removed: {error}"),
    };
    if interrupted.is_cancelled() {
        return Err(Error::new(Kind::Interrupted, format!("the demo was interrupted: {left}")));
    }
    played.map_err(|error| Error { message: format!("{}; {left}", error.message), ..error })?;
    let mut differences = differences;
    if seen.failures > 0 {
        let why = seen.first_failure.clone().unwrap_or_default();
        differences.push(format!("the visitor was let down {} times, first because {why}", seen.failures));
    }
    voice.summary(&told, &seen, (machine.monotonic)() - began, &left);
    if differences.is_empty() {
        return Ok(());
    }
    let mut error = Error::new(Kind::Failed, "the demo did not go as it has to");
    error.hints = differences;
    Err(error)
}

fn not_set_up(error: io::Error) -> Error {
    Error::new(Kind::Failed, format!("the demo cannot be set up: {error}"))
}

/// Checks for what the recipe's health check needs; `ship` itself says what else is missing on a host.
fn check(machine: &Machine) -> Result<(), Error> {
    let path = world::path(machine);
    let there = |program: &&str| path.split(':').any(|folder| Path::new(folder).join(program).is_file());
    if ["curl", "bash"].iter().any(there) {
        return Ok(());
    }
    Err(Error::new(
        Kind::Failed,
        "the demo asks its site for its health with curl or bash, and this machine has neither",
    )
    .hint("install curl"))
}

/// Notes an interrupt. During an act the act hears it too, and puts back before it ends.
fn watch() -> Result<CancellationToken, Error> {
    let interrupted = CancellationToken::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let (mut signals, interrupted) = (signal(kind).map_err(not_set_up)?, interrupted.clone());
        tokio::spawn(async move {
            signals.recv().await;
            interrupted.cancel();
        });
    }
    Ok(interrupted)
}

/// The acts under way.
struct Play<'a> {
    world: &'a World,
    machine: &'a Machine,
    global: &'a Global,
    voice: &'a Voice,
    visitor: Option<Visitor>,
    told: Vec<(Act, Outcome)>,
}

impl Play<'_> {
    /// Plays the acts up to the first that comes out otherwise; gives back what differed.
    async fn all(&mut self, interrupted: &CancellationToken) -> Result<Vec<String>, Error> {
        for (number, act) in acts().into_iter().enumerate() {
            if interrupted.is_cancelled() {
                return Ok(Vec::new());
            }
            let outcome = self.one(number + 1, &act).await?;
            let differences = act.differences(&outcome);
            if interrupted.is_cancelled() {
                return Ok(Vec::new());
            }
            self.voice.after(&act, &outcome, &differences);
            self.told.push((act.clone(), outcome));
            if !differences.is_empty() {
                return Ok(differences.iter().map(|text| format!("{}: {text}", act.title)).collect());
            }
            // Before the first deploy there is nothing to see.
            self.visitor.get_or_insert_with(|| Visitor::start(self.world.web_ports()));
        }
        Ok(Vec::new())
    }

    async fn one(&mut self, number: usize, act: &Act) -> Result<Outcome, Error> {
        let artifact = (!self.world.project().has_git()).then(|| self.world.project().folder().to_owned());
        self.voice.before(number, act, artifact.as_deref());
        let (machine, global) = (self.world.machine(self.machine), self.world.global(self.global));
        let change = ChangeArgs { yes: true, ..ChangeArgs::default() };
        let seen_before = self.seen(act.passing);
        let began;
        let exit = match act.deed {
            Deed::Deploy(version) => {
                self.world.project().write(version).await.map_err(not_set_up)?;
                let branch = artifact.is_none().then(|| "main".to_owned());
                let args = DeployArgs { change, branch, artifact, ..DeployArgs::default() };
                began = (self.machine.monotonic)();
                exit_code(deploy::run(&global, &machine, &args, &[], false)).await
            }
            Deed::Rollback => {
                let args = RollbackArgs { change, ..RollbackArgs::default() };
                began = (self.machine.monotonic)();
                exit_code(rollback::run(&global, &machine, &args, &[])).await
            }
        };
        let took = (self.machine.monotonic)() - began;
        let live = self.world.titles().await;
        Ok(Outcome { exit, took, live, passing: self.seen(act.passing) - seen_before })
    }

    /// How often the visitor has seen version `number` so far.
    fn seen(&self, number: Option<u32>) -> u64 {
        match (&self.visitor, number) {
            (Some(visitor), Some(number)) => visitor.seen().count(&title(number)),
            _ => 0,
        }
    }
}

/// What `main` would make of the end of a command: its message is printed, its kind is the exit code.
async fn exit_code(command: impl Future<Output = Result<(), Error>>) -> u8 {
    match command.await {
        Ok(()) => 0,
        Err(error) => {
            if !error.shown {
                report::print_stderr(&format!("error: {}\n", error.message));
            }
            error.kind.exit_code()
        }
    }
}
