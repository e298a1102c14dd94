//! Stopping as values: what holds a [`Draining`] is not drained yet.
//!
//! It does not know what is being stopped.

use tokio::sync::watch;

/// Starts the drain, and tells when it is over.
#[derive(Debug)]
pub(crate) struct Drain(watch::Sender<bool>);

/// Held by everything that must end before the drain is over.
#[derive(Clone, Debug)]
pub(crate) struct Draining(watch::Receiver<bool>);

pub(crate) fn channel() -> (Drain, Draining) {
    let (sender, receiver) = watch::channel(false);
    (Drain(sender), Draining(receiver))
}

impl Drain {
    /// Asks everything to end. It does not wait.
    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Resolves when every [`Draining`] has been dropped.
    pub(crate) async fn drained(&self) {
        self.0.closed().await;
    }
}

impl Draining {
    /// Resolves when the drain begins.
    pub(crate) async fn begun(&mut self) {
        // An error means that the `Drain` is gone without beginning: nobody will wait, so end as well.
        let _ = self.0.wait_for(|begun| *begun).await;
    }
}
