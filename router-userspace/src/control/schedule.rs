//! When what is due: a pure state machine on moments that it is given.

use std::time::{Duration, Instant};

/// A changed configuration is read when nothing was touched for this long: editors and `kubectl cp` write in steps.
pub const CONFIG_QUIET: Duration = Duration::from_millis(50);
/// A configuration that is touched without end is read this long after the first touch.
pub const CONFIG_WAIT_AT_MOST: Duration = Duration::from_millis(500);
/// How often the cgroup tree is scanned. A caller that has not been seen takes the slow path until then.
pub const SCAN_EVERY: Duration = Duration::from_secs(1);
/// How often the maps are brought in step although nothing happened.
pub const RECONCILE_EVERY: Duration = Duration::from_secs(30);
/// How soon it is tried again after a failure, or when there was something left to clear away.
pub const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What is to be done now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Read the configuration.
    Reload,
    /// Scan the cgroup tree.
    Scan,
    /// Bring the maps in step.
    Reconcile,
}

/// When what is due.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// First and last touch of the configuration since it was read.
    touched: Option<(Instant, Instant)>,
    scan_at: Instant,
    reconcile_at: Instant,
}

impl Schedule {
    /// Begins at `now`, with everything just done.
    pub fn new(now: Instant) -> Self {
        Self {
            touched: None,
            scan_at: now + SCAN_EVERY,
            reconcile_at: now + RECONCILE_EVERY,
        }
    }

    /// The configuration was touched.
    pub fn config_touched(&mut self, now: Instant) {
        let first = self.touched.map_or(now, |(first, _)| first);
        self.touched = Some((first, now));
    }

    /// The maps are in step.
    pub fn reconciled(&mut self, now: Instant) {
        self.reconcile_at = now + RECONCILE_EVERY;
    }

    /// The maps are not in step, or something is left to clear away.
    pub fn reconcile_again(&mut self, now: Instant) {
        self.reconcile_at = now + RETRY_AFTER;
    }

    /// When the next thing is due.
    pub fn deadline(&self) -> Instant {
        let others = self.scan_at.min(self.reconcile_at);
        self.reload_at().map_or(others, |at| at.min(others))
    }

    /// What is due at `now`, the most urgent first; each is returned once.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        if self.reload_at().is_some_and(|at| at <= now) {
            self.touched = None;
            Some(Due::Reload)
        } else if self.scan_at <= now {
            self.scan_at = now + SCAN_EVERY;
            Some(Due::Scan)
        } else if self.reconcile_at <= now {
            self.reconcile_at = now + RECONCILE_EVERY;
            Some(Due::Reconcile)
        } else {
            None
        }
    }

    fn reload_at(&self) -> Option<Instant> {
        self.touched
            .map(|(first, last)| (last + CONFIG_QUIET).min(first + CONFIG_WAIT_AT_MOST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touches_in_quick_succession_are_one_change() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let at = |ms| start + Duration::from_millis(ms);
        for ms in [0, 30, 60, 90] {
            schedule.config_touched(at(ms));
            assert_eq!(schedule.due(at(ms)), None);
        }
        assert_eq!(schedule.deadline(), at(140));
        assert_eq!(schedule.due(at(139)), None);
        assert_eq!(schedule.due(at(140)), Some(Due::Reload));
        assert_eq!(schedule.due(at(140)), None);
    }

    #[test]
    fn endless_touches_do_not_keep_a_change_waiting() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let reloaded = (0..100).map(|n| n * 20).find(|&ms| {
            schedule.config_touched(start + Duration::from_millis(ms));
            schedule.due(start + Duration::from_millis(ms)) == Some(Due::Reload)
        });
        assert_eq!(reloaded, Some(500));
    }

    #[test]
    fn scans_and_reconciliation_come_round() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        assert_eq!(schedule.due(start + SCAN_EVERY), Some(Due::Scan));
        assert_eq!(schedule.due(start + SCAN_EVERY), None);
        schedule.reconcile_again(start);
        assert_eq!(schedule.deadline(), start + RETRY_AFTER);
        assert_eq!(schedule.due(start + RETRY_AFTER), Some(Due::Reconcile));
        schedule.reconciled(start + RETRY_AFTER);
        assert_eq!(schedule.due(start + 2 * RETRY_AFTER), None);
    }
}
