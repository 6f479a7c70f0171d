//! Under construction.
use crate::cli::{args::Global, machine::Machine};
use crate::error::Error;
/// x
pub async fn run(_: &Machine, _: &Global, _: bool) -> Result<(), Error> {
    Ok(())
}
