//! `ship demo`: the main job with nothing prepared, on SSH servers inside this program.

mod children;
mod exec;
mod server;
#[cfg(test)]
mod server_tests;
mod spool;

pub use server::Server;

use crate::cli::args::Global;
use crate::cli::machine::Machine;
use crate::error::Error;

/// Runs the demo.
pub async fn run(_: &Machine, _: &Global, _: bool) -> Result<(), Error> {
    Ok(())
}
