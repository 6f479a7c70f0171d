//! The steps of this machine: `local` commands in the clean checkout, shown like any other task.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::host::{Host, Stop};
use crate::event::{Event, LOCAL, Phase, Sink, millis};
use crate::session::Session;
use crate::step::Task;

/// Runs the build tasks in order, in a session of this machine.
pub async fn build(
    session: Arc<dyn Session>,
    tasks: &[Task],
    sink: &Sink,
    cancel: &CancellationToken,
) -> Result<(), Stop> {
    if tasks.is_empty() {
        return Ok(());
    }
    let phase = Phase::Build;
    sink.emit(Event::PhaseStarted { phase, hosts: vec![LOCAL.to_owned()], batch: None }).await;
    let began = Instant::now();
    let host = Host::new(LOCAL.to_owned(), session, sink.clone());
    let result = host.carry_out(phase, tasks, None, cancel).await;
    let millis = millis(began.elapsed());
    sink.emit(Event::PhaseFinished { phase, millis }).await;
    result
}
