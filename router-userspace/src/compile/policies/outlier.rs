//! The four fields of a 0.1 circuit breaker that eject failing endpoints. It does not know which endpoints exist.

use std::time::Duration;

use router_rules::{outlier::MIN_INTERVAL, policy::OutlierDetection};

use crate::{
    compile::rules::Compiler,
    config::rules_v1alpha1::{DurationText, SimpleCircuitBreaker},
    finding::codes,
};

impl Compiler<'_> {
    /// On when at least one of its fields is given: a circuit breaker that only limits connections ejects nobody.
    pub(super) fn outlier_detection(
        &mut self,
        prefix: &str,
        simple: &SimpleCircuitBreaker,
    ) -> Option<OutlierDetection> {
        let parent = format!("{prefix}circuitBreaker.simpleCb");
        let sleep = (simple.sleep_window.as_ref(), simple.sleep_window_seconds);
        let interval = (
            simple.http_detection_interval.as_ref(),
            simple.http_detection_interval_seconds,
        );
        let errors = simple.http_consecutive_errors;
        let percent = simple.http_max_ejection_percent;
        let given = |(text, seconds): (Option<_>, Option<f64>)| text.is_some() || seconds.is_some();
        if errors.is_none() && percent.is_none() && !given(sleep) && !given(interval) {
            return None;
        }
        let default = OutlierDetection::default();
        let base_ejection = self.duration(&parent, "sleepWindow", sleep, "leave it out for 30s");
        let interval = self.interval(&parent, interval).unwrap_or(default.interval);
        if let Some(window) = base_ejection.filter(|window| *window < interval) {
            let suffix = if sleep.0.is_some() { "" } else { "Seconds" };
            let message = format!(
                "an ejection for {window:?} ends with a sweep, of which there is one in {interval:?}"
            );
            let hint = "lower `httpDetectionInterval` too";
            self.report(
                &codes::SHORT_SLEEP_WINDOW,
                &format!("{parent}.sleepWindow{suffix}"),
                message,
                hint,
            );
        }
        Some(OutlierDetection {
            consecutive_errors: errors.map_or(default.consecutive_errors, |n| self.errors(&parent, n)),
            interval,
            base_ejection: base_ejection.unwrap_or(default.base_ejection),
            max_ejection_percent: percent.map_or(default.max_ejection_percent, |n| self.percent(&parent, n)),
        })
    }

    fn errors(&mut self, parent: &str, written: i64) -> u32 {
        let field = format!("{parent}.httpConsecutiveErrors");
        if written == 0 {
            let message = "ejecting after 0 errors could mean at once or never";
            let hint = "write 1 to eject at the first error, or remove the fields of ejection for never";
            self.report(&codes::LIMIT_OF_ZERO, &field, message, hint);
        }
        u32::try_from(written).unwrap_or_else(|_| {
            let message = format!("{written} is not between 1 and {}", u32::MAX);
            self.report(&codes::INVALID_VALUE, &field, message, "");
            0
        })
    }

    fn percent(&mut self, parent: &str, written: i64) -> u32 {
        let in_range = u32::try_from(written).ok().filter(|&percent| percent <= 100);
        in_range.unwrap_or_else(|| {
            let field = format!("{parent}.httpMaxEjectionPercent");
            let message = format!("{written} is not between 0 and 100");
            self.report(&codes::PERCENT_OUT_OF_RANGE, &field, message, "");
            0
        })
    }

    fn interval(
        &mut self,
        parent: &str,
        spellings: (Option<&DurationText>, Option<f64>),
    ) -> Option<Duration> {
        let name = "httpDetectionInterval";
        let interval = self.duration(parent, name, spellings, "leave it out for 10s")?;
        if interval < MIN_INTERVAL {
            let suffix = if spellings.0.is_some() { "" } else { "Seconds" };
            let message = format!("a sweep every {interval:?} is more than the proxy does");
            let hint = format!("at least {MIN_INTERVAL:?}");
            self.report(
                &codes::INVALID_DURATION,
                &format!("{parent}.{name}{suffix}"),
                message,
                hint,
            );
        }
        Some(interval)
    }
}
