//! The first interrupt finishes the running task and puts back; the second stops now.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::event::{Event, Sink};

/// Waits for SIGINT, SIGTERM and SIGHUP until it is dropped. A cancelled GitHub job sends SIGINT and then
/// SIGTERM after a few seconds, which here is the second interrupt. They are caught from the call on.
pub fn watch(cancel: CancellationToken, abort: CancellationToken, sink: Sink) -> impl Future<Output = ()> {
    let caught = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()));
    async move {
        let (Ok(interrupt), Ok(terminate), Ok(hangup)) = caught else { return };
        follow([interrupt, terminate, hangup], &cancel, &abort, &sink).await;
    }
}

async fn follow(
    [mut interrupt, mut terminate, mut hangup]: [Signal; 3],
    cancel: &CancellationToken,
    abort: &CancellationToken,
    sink: &Sink,
) {
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        if cancel.is_cancelled() {
            abort.cancel();
            return;
        }
        cancel.cancel();
        let text = "interrupted: the running task ends, then every host is put back; again to stop at once".to_owned();
        sink.emit(Event::Warning { host: None, text }).await;
    }
}
