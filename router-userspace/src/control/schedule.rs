//! When what is due: a pure state machine on moments that it is given.

use std::time::{Duration, Instant};

/// A changed configuration is read when nothing was touched for this long: editors and `kubectl cp` write in steps.
pub const CONFIG_QUIET: Duration = Duration::from_millis(50);
/// A configuration that is touched without end is read this long after the first touch.
pub const CONFIG_WAIT_AT_MOST: Duration = Duration::from_millis(500);
/// At least so long after a change, the next one is put in force; if it took more than twice as long, half of what it took.
/// What is touched meanwhile goes together.
pub const CONFIG_GAP: Duration = Duration::from_micros(500);
/// The maps follow ejections this long after the first: endpoints often fail together, and are one change then. Until
/// they do, the kernel sends a few more connections to an endpoint that fails.
pub const EJECTIONS_WAIT: Duration = Duration::from_millis(100);
/// How often the cgroup tree is scanned. A caller that has not been seen takes the slow path until then.
pub const SCAN_EVERY: Duration = Duration::from_secs(1);
/// How often files and maps are looked at although nobody said that anything happened, however much else does.
pub const RECONCILE_EVERY: Duration = Duration::from_secs(30);
/// How soon it is tried again after a failure.
pub const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How long after a change what it left is cleared away, if no other change does it before.
pub const COLLECT_AFTER: Duration = Duration::from_millis(500);

/// What is to be done now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Read all of the configuration that was touched.
    Reload,
    /// Read what was touched and is whole again.
    ReloadSettled,
    /// Bring the maps in step with who is ejected now.
    Ejections,
    /// Scan the cgroup tree.
    Scan,
    /// Clear away what changes left.
    Collect,
    /// Bring the maps in step.
    Reconcile,
}

/// When what is due.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// First and last touch of the configuration since it was read.
    touched: Option<(Instant, Instant)>,
    /// Since when there is something to read that is whole.
    settled: Option<Instant>,
    /// Not before this is it read at once.
    free_at: Instant,
    /// First change of ejections that the maps do not follow.
    ejections: Option<Instant>,
    scan_at: Instant,
    /// When there is something to clear away.
    collect_at: Option<Instant>,
    reconcile_at: Instant,
}

impl Schedule {
    /// Begins at `now`, with everything just done.
    pub fn new(now: Instant) -> Self {
        Self {
            touched: None,
            settled: None,
            free_at: now,
            ejections: None,
            scan_at: now + SCAN_EVERY,
            collect_at: None,
            reconcile_at: now + RECONCILE_EVERY,
        }
    }

    /// The configuration was touched, and what was touched is whole: there is no need to wait for more.
    pub fn config_settled(&mut self, now: Instant) {
        self.settled.get_or_insert(now);
    }

    /// What was touched is in force, after `took`: rest half as long before the next time, so that there is time for other
    /// things however many changes there are. A thousand changes of endpoints in a second take half of the time by themselves.
    pub fn reloaded(&mut self, now: Instant, took: Duration) {
        self.free_at = now + (took / 2).clamp(CONFIG_GAP, CONFIG_WAIT_AT_MOST);
    }

    /// The configuration was touched, and may be only half written.
    pub fn config_touched(&mut self, now: Instant) {
        let first = self.touched.map_or(now, |(first, _)| first);
        self.touched = Some((first, now));
    }

    /// Endpoints were ejected, or came back.
    pub fn ejections_changed(&mut self, now: Instant) {
        self.ejections.get_or_insert(now);
    }

    /// Something is left to clear away.
    pub fn collect_later(&mut self, now: Instant) {
        self.collect_at.get_or_insert(now + COLLECT_AFTER);
    }

    /// The maps are not in step.
    pub fn reconcile_again(&mut self, now: Instant) {
        self.reconcile_at = self.reconcile_at.min(now + RETRY_AFTER);
    }

    /// When the next thing is due.
    pub fn deadline(&self) -> Instant {
        let others = self.scan_at.min(self.reconcile_at);
        let sooner = [
            self.reload_at(),
            self.reload_settled_at(),
            self.ejections_at(),
            self.collect_at,
        ];
        sooner.into_iter().flatten().fold(others, Instant::min)
    }

    /// What is due at `now`, the most urgent first; each is returned once.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        if self.reload_at().is_some_and(|at| at <= now) {
            (self.touched, self.settled) = (None, None);
            Some(Due::Reload)
        } else if self.reload_settled_at().is_some_and(|at| at <= now) {
            self.settled = None;
            Some(Due::ReloadSettled)
        } else if self.ejections_at().is_some_and(|at| at <= now) {
            self.ejections = None;
            Some(Due::Ejections)
        } else if self.scan_at <= now {
            self.scan_at = now + SCAN_EVERY;
            Some(Due::Scan)
        } else if self.collect_at.is_some_and(|at| at <= now) {
            self.collect_at = None;
            Some(Due::Collect)
        } else if self.reconcile_at <= now {
            self.reconcile_at = now + RECONCILE_EVERY;
            Some(Due::Reconcile)
        } else {
            None
        }
    }

    fn reload_settled_at(&self) -> Option<Instant> {
        self.settled.map(|since| since.max(self.free_at))
    }

    fn ejections_at(&self) -> Option<Instant> {
        self.ejections.map(|first| first + EJECTIONS_WAIT)
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
    fn what_is_whole_is_read_at_once_and_in_a_burst_together() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let at = |ms| start + Duration::from_millis(ms);
        schedule.config_settled(at(100));
        assert_eq!(schedule.deadline(), at(100));
        assert_eq!(schedule.due(at(100)), Some(Due::ReloadSettled));
        schedule.reloaded(at(101), Duration::from_millis(10));
        let mut reloads = Vec::new();
        for ms in 101..1101 {
            schedule.config_settled(at(ms));
            if schedule.due(at(ms)) == Some(Due::ReloadSettled) {
                reloads.push(ms);
                schedule.reloaded(at(ms), Duration::from_millis(40));
            }
        }
        assert_eq!(reloads[..3], [106, 126, 146]);
        assert!(reloads.len() > 40);
    }

    #[test]
    fn what_is_half_written_waits_while_other_files_are_read() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let at = |ms| start + Duration::from_millis(ms);
        schedule.config_touched(at(0));
        schedule.config_settled(at(10));
        assert_eq!(schedule.due(at(10)), Some(Due::ReloadSettled));
        assert_eq!(schedule.due(at(49)), None);
        assert_eq!(schedule.due(at(50)), Some(Due::Reload));
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
    fn failures_do_not_put_off_the_next_try() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        schedule.reconcile_again(start);
        let tried = (0..100).map(|n| n * 100).find(|&ms| {
            let now = start + Duration::from_millis(ms);
            let due = schedule.due(now);
            schedule.reconcile_again(now);
            due == Some(Due::Reconcile)
        });
        assert_eq!(tried, Some(500));
    }

    #[test]
    fn ejections_together_are_one_change() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let at = |ms| start + Duration::from_millis(ms);
        for ms in [0, 40, 80] {
            schedule.ejections_changed(at(ms));
            assert_eq!(schedule.due(at(ms)), None);
        }
        assert_eq!(schedule.deadline(), at(100));
        assert_eq!(schedule.due(at(100)), Some(Due::Ejections));
        assert_eq!(schedule.due(at(100)), None);
        schedule.ejections_changed(at(101));
        assert_eq!(schedule.deadline(), at(201));
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
        assert_eq!(schedule.due(start + 2 * RETRY_AFTER), None);
    }

    #[test]
    fn nothing_puts_off_the_next_look() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let mut looks = 0;
        for seconds in 1..=600 {
            let now = start + Duration::from_secs(seconds);
            schedule.config_settled(now);
            schedule.ejections_changed(now);
            while let Some(due) = schedule.due(now) {
                schedule.reloaded(now, Duration::from_millis(500));
                schedule.collect_later(now);
                looks += u32::from(due == Due::Reconcile);
            }
        }
        assert_eq!(looks, 20);
    }

    #[test]
    fn what_is_left_is_cleared_away_however_many_changes_there_are() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        schedule.collect_later(start);
        schedule.collect_later(start + COLLECT_AFTER / 2);
        assert_eq!(schedule.deadline(), start + COLLECT_AFTER);
        assert_eq!(schedule.due(start + COLLECT_AFTER), Some(Due::Collect));
        assert_eq!(schedule.due(start + COLLECT_AFTER), None);
    }
}
