//! Tells control what in the configuration directory was touched. It reads nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::SyncSender},
    time::Instant,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};

use super::{
    Event,
    schedule::{CONFIG_QUIET, CONFIG_WAIT_AT_MOST},
};
use crate::{clock, config::Suspects};

/// Touched files that are remembered by name; with more, all are suspected.
const MAX_TOUCHED: usize = 4096;

/// What was touched since control looked.
#[derive(Debug, Default)]
pub struct Touched(Mutex<Names>);

#[derive(Debug, Default)]
struct Names {
    /// Whole again: moved here, removed, or closed after writing.
    settled: BTreeSet<PathBuf>,
    /// Perhaps only half written.
    open: BTreeMap<PathBuf, Written>,
    /// Names were lost.
    any: bool,
    /// Since when there is something that nobody took.
    since: Option<Instant>,
}

/// When a file was written that has not been closed.
#[derive(Clone, Copy, Debug)]
struct Written {
    first: Instant,
    last: Instant,
}

impl Written {
    /// True when it was left alone for a while, or is written without end.
    fn is_due(self, now: Instant) -> bool {
        self.last + CONFIG_QUIET <= now || self.first + CONFIG_WAIT_AT_MOST <= now
    }
}

impl Touched {
    /// True when something may be read at once.
    pub fn is_settled(&self) -> bool {
        let names = self.names();
        names.any || !names.settled.is_empty()
    }

    /// When the first touch was noticed that was not taken since this was asked last.
    pub fn take_since(&self) -> Option<Instant> {
        self.names().since.take()
    }

    /// True when something is being written, and is to be read later.
    pub fn is_open(&self) -> bool {
        !self.names().open.is_empty()
    }

    /// What is whole again; what is being written stays.
    pub fn take_settled(&self) -> Suspects {
        self.take(|_| false)
    }

    /// What is whole again, and what has been written for so long that it is read as it is at `now`. What somebody has just
    /// begun to write stays: other files may keep the configuration from ever being quiet.
    pub fn take_due(&self, now: Instant) -> Suspects {
        self.take(|written| written.is_due(now))
    }

    fn take(&self, is_due: impl Fn(Written) -> bool) -> Suspects {
        let mut names = self.names();
        if names.any {
            *names = Names::default();
            return Suspects::All;
        }
        let mut taken = std::mem::take(&mut names.settled);
        names.open.retain(|path, written| {
            let stays = !is_due(*written);
            if !stays {
                taken.insert(path.clone());
            }
            stays
        });
        Suspects::Files(taken)
    }

    /// Something was done to these files; none are known when events were lost.
    fn note(&self, event: notify::Result<notify::Event>) {
        let mut names = self.names();
        let now = clock::now();
        names.since.get_or_insert(now);
        let paths = match &event {
            Ok(event) if !event.need_rescan() => &event.paths[..],
            _ => &[],
        };
        names.any |= paths.is_empty() || names.settled.len() + names.open.len() + paths.len() > MAX_TOUCHED;
        if names.any {
            names.settled.clear();
            names.open.clear();
            return;
        }
        let is_settled = event.as_ref().is_ok_and(|event| is_settling(event.kind));
        for path in paths {
            if is_settled {
                names.open.remove(path);
                names.settled.insert(path.clone());
            } else {
                names.settled.remove(path);
                let begun = Written {
                    first: now,
                    last: now,
                };
                names.open.entry(path.clone()).or_insert(begun).last = now;
            }
        }
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        // Sets are sets after every single operation on them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True when a file is whole after the event.
const fn is_settling(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Access(AccessKind::Close(AccessMode::Write))
    )
}

/// True when something may be another than before.
const fn is_touching(kind: EventKind) -> bool {
    is_settling(kind) || !matches!(kind, EventKind::Access(_))
}

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

/// Notes in `touched` what is written, created, moved or removed in `directory`, and sends [`Event::ConfigTouched`].
///
/// # Errors
///
/// The directory is not there, or the kernel's inotify limits are reached.
pub fn watch(
    directory: &Path,
    touched: Arc<Touched>,
    events: SyncSender<Event>,
) -> Result<Watch, WatchError> {
    let wrong = |source| WatchError {
        directory: directory.to_owned(),
        source,
    };
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error may mean that events were lost.
        if event.as_ref().map_or(true, |e| is_touching(e.kind)) {
            touched.note(event);
            // Full: control has not even got round to the events before this one, and will look after it.
            let _ = events.try_send(Event::ConfigTouched);
        }
    })
    .map_err(wrong)?;
    watcher
        .watch(directory, RecursiveMode::NonRecursive)
        .map_err(wrong)?;
    Ok(Watch(watcher))
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, RenameMode};

    use super::*;

    fn note(touched: &Touched, kind: EventKind, path: &str) {
        touched.note(Ok(notify::Event::new(kind).add_path(path.into())));
    }

    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const MOVED: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));

    #[test]
    fn files_that_are_being_written_wait() {
        let touched = Touched::default();
        note(&touched, EventKind::Create(CreateKind::File), "a");
        note(&touched, WRITTEN, "a");
        assert!(!touched.is_settled());
        note(&touched, MOVED, "b");
        assert_eq!(touched.take_settled(), Suspects::Files(["b".into()].into()));
        note(&touched, CLOSED, "a");
        note(&touched, WRITTEN, "c");
        assert!(touched.is_settled());
        let now = clock::now();
        assert_eq!(touched.take_due(now), Suspects::Files(["a".into()].into()));
        // Others may be written without a pause; this one is read when it was left alone, or has taken too long.
        assert!(touched.is_open());
        let later = now + CONFIG_QUIET;
        assert_eq!(touched.take_due(later), Suspects::Files(["c".into()].into()));
        assert!(!touched.is_open());
        assert_eq!(touched.take_due(later), Suspects::Files([].into()));
    }

    #[test]
    fn lost_names_make_every_file_suspect() {
        let touched = Touched::default();
        note(&touched, MOVED, "a");
        touched.note(Err(notify::Error::generic("overflow")));
        assert_eq!(touched.take_settled(), Suspects::All);
        for number in 0..=MAX_TOUCHED {
            note(&touched, MOVED, &number.to_string());
        }
        assert_eq!(touched.take_due(clock::now()), Suspects::All);
        assert!(!touched.is_settled());
    }
}
