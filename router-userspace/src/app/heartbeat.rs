//! The proxy's sign of life, from a thread of its own: neither a long compilation nor a large answer of the admin
//! address may make the kernel believe that the proxy is down.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use router_common::settings::HEARTBEAT_EVERY;

use crate::readiness::BlockReady;

/// How often it is asked whether there is life, before there is.
const UNTIL_ALIVE: Duration = Duration::from_millis(5);

/// Beats until it is stopped or dropped.
#[derive(Debug)]
pub(super) struct Heartbeat {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    /// Calls `beat` as soon as `alive` holds, and from then on every [`HEARTBEAT_EVERY`] nanoseconds, as long as it holds.
    /// `not_ready` is dropped after the first beat: before it the kernel routes past the proxy.
    pub(super) fn start(
        alive: impl Fn() -> bool + Send + 'static,
        beat: Arc<dyn Fn() + Send + Sync>,
        not_ready: BlockReady,
    ) -> io::Result<Self> {
        let (stop, stopped) = sync_channel(0);
        let run = move || {
            let mut not_ready = Some(not_ready);
            loop {
                if alive() {
                    beat();
                    not_ready = None;
                }
                let pause = if not_ready.is_some() {
                    UNTIL_ALIVE
                } else {
                    Duration::from_nanos(HEARTBEAT_EVERY)
                };
                match stopped.recv_timeout(pause) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let thread = thread::Builder::new().name("heartbeat".to_owned()).spawn(run)?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Returns when no beat will come any more.
    pub(super) fn stop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It cannot panic; if it did, there is no beat either.
            let _ = thread.join();
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::readiness::Readiness;

    #[test]
    fn it_beats_until_it_is_stopped() {
        let (sender, beats) = mpsc::channel();
        let beat: Arc<dyn Fn() + Send + Sync> = Arc::new(move || sender.send(()).unwrap_or_default());
        let readiness = Readiness::default();
        let mut heartbeat = Heartbeat::start(|| true, beat, readiness.block("life")).unwrap();
        for _ in 0..2 {
            beats.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        assert!(readiness.is_ready());
        heartbeat.stop();
        beats.try_iter().count();
        assert!(beats.try_recv().is_err());
    }

    #[test]
    fn it_does_not_beat_for_the_dead() {
        let (sender, beats) = mpsc::channel();
        let (asked, questions) = mpsc::channel();
        let beat: Arc<dyn Fn() + Send + Sync> = Arc::new(move || sender.send(()).unwrap_or_default());
        let alive = move || asked.send(()).is_err();
        let readiness = Readiness::default();
        let heartbeat = Heartbeat::start(alive, beat, readiness.block("life")).unwrap();
        questions.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(!readiness.is_ready());
        drop(heartbeat);
        assert!(beats.try_recv().is_err());
    }
}
