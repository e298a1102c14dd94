//! Tells control that something in the configuration directory was touched. It does not look at what.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::SyncSender,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::Event;

/// The directory could not be watched.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch {directory}: {source}")]
pub struct WatchError {
    directory: PathBuf,
    source: notify::Error,
}

/// Watches as long as it lives.
#[derive(Debug)]
pub struct Watch(#[expect(dead_code, reason = "its Drop ends the watch")] RecommendedWatcher);

/// Sends [`Event::ConfigTouched`] for everything that is written, created, moved or removed in `directory`.
///
/// # Errors
///
/// The directory is not there, or the kernel's inotify limits are reached.
pub fn watch(directory: &Path, events: SyncSender<Event>) -> Result<Watch, WatchError> {
    let wrong = |source| WatchError {
        directory: directory.to_owned(),
        source,
    };
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error may mean that events were lost.
        let touched = event.map_or(true, |e| !matches!(e.kind, EventKind::Access(_)));
        if touched {
            // Full: control has not even got round to the events before this one, and will read after it.
            let _ = events.try_send(Event::ConfigTouched);
        }
    })
    .map_err(wrong)?;
    watcher
        .watch(directory, RecursiveMode::NonRecursive)
        .map_err(wrong)?;
    Ok(Watch(watcher))
}
