//! A session that stays one and the same while the connection below it is lost and made again.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::mpsc;

use crate::command::Command;
use crate::execute::Reconnect;
use crate::session::{Body, BoxFuture, Lost, Reply, Session, Usage};

/// The line to a host.
pub struct Lifeline {
    session: RwLock<Arc<dyn Session>>,
    reconnect: Arc<dyn Reconnect>,
    /// The host's index in the plan.
    index: usize,
}

impl Lifeline {
    /// A line over `session`, which `reconnect` makes again for the host at `index`.
    pub fn new(session: Arc<dyn Session>, reconnect: Arc<dyn Reconnect>, index: usize) -> Self {
        Self { session: RwLock::new(session), reconnect, index }
    }

    /// Finds the host again, with the deploy lock.
    pub async fn again(&self) -> Result<(), String> {
        let session = self.reconnect.again(self.index).await?;
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = session;
        Ok(())
    }

    fn session(&self) -> Arc<dyn Session> {
        Arc::clone(&self.session.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Session for Lifeline {
    fn run(&self, batch: Vec<Command>) -> mpsc::Receiver<Reply> {
        self.session().run(batch)
    }

    fn feed(&self, batch: Vec<Command>, body: Body) -> mpsc::Receiver<Reply> {
        self.session().feed(batch, body)
    }

    fn warm(&self, shells: usize) {
        self.session().warm(shells);
    }

    fn guard(&self) -> BoxFuture<'_, Result<(), Lost>> {
        let session = self.session();
        Box::pin(async move { session.guard().await })
    }

    fn unguard(&self) {
        self.session().unguard();
    }

    fn interrupt(&self) -> BoxFuture<'_, ()> {
        let session = self.session();
        Box::pin(async move { session.interrupt().await })
    }

    fn usage(&self) -> Usage {
        self.session().usage()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let session = self.session();
        Box::pin(async move { session.close().await })
    }
}
