//! The running times of a step's calls.

use std::time::Duration;

use hdrhistogram::Histogram;

pub(crate) use crate::base::in_seconds;

/// The running times of one step. Mean and quantiles count the calls of `run` or `next` that
/// ended; the busy time also counts calls that were cut short, and `finish`.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    nanoseconds: Histogram<u64>,
    /// The time of the calls that ended.
    ended: Duration,
    /// All the time at work.
    pub(crate) busy: Duration,
    calls: u64,
    /// An exponential mean over the reports, in nanoseconds; the size of batches follows
    /// it.
    recent: f64,
}

/// The weight of the latest report in the recent mean: about ten reports matter.
const RECENT_WEIGHT: f64 = 0.2;
/// The longest time that is recorded, an hour in nanoseconds; longer calls count as this.
const LONGEST: u64 = 3_600_000_000_000;

impl Times {
    pub(crate) fn new() -> Self {
        // The histogram accepts these constants. If it did not, one that grows by itself
        // would serve as well.
        let nanoseconds = Histogram::new_with_bounds(1, LONGEST, 2)
            .or_else(|_| Histogram::new(2))
            .unwrap_or_else(|_| unreachable!("two digits are a valid precision"));
        let (ended, busy) = (Duration::ZERO, Duration::ZERO);
        Self { nanoseconds, ended, busy, calls: 0, recent: 0.0 }
    }

    /// Records `calls` calls that took `busy` together.
    pub(crate) fn record(&mut self, busy: Duration, calls: u32) {
        if calls == 0 {
            return;
        }
        self.ended += busy;
        self.busy += busy;
        let each = u64::try_from(busy.as_nanos()).unwrap_or(LONGEST) / u64::from(calls);
        let each = each.clamp(1, LONGEST);
        self.nanoseconds.saturating_record_n(each, u64::from(calls));
        let weight = if self.calls == 0 { 1.0 } else { RECENT_WEIGHT };
        self.recent += (each as f64 - self.recent) * weight;
        self.calls += u64::from(calls);
    }

    /// Records time at work outside of calls that ended.
    pub(crate) fn spend(&mut self, busy: Duration) {
        self.busy += busy;
    }

    /// The recent mean; none before the first call.
    pub(crate) fn recent(&self) -> Option<Duration> {
        (self.calls > 0).then(|| Duration::from_nanos(self.recent as u64))
    }

    pub(crate) fn mean(&self) -> Duration {
        self.ended.checked_div(self.calls.try_into().unwrap_or(u32::MAX)).unwrap_or_default()
    }

    /// The times that half of the calls, and 99 of 100, took at most.
    pub(crate) fn median_and_p99(&self) -> (Duration, Duration) {
        let (mut seen, mut median) = (0, None);
        // One pass over the histogram gives both.
        for place in self.nanoseconds.iter_recorded() {
            seen += place.count_since_last_iteration();
            if 2 * seen >= self.calls {
                median.get_or_insert(place.value_iterated_to());
            }
            if 100 * seen >= 99 * self.calls {
                let median = median.unwrap_or_default();
                let p99 = place.value_iterated_to();
                return (Duration::from_nanos(median), Duration::from_nanos(p99));
            }
        }
        (Duration::ZERO, Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_was_cut_short_is_busy_time_and_in_no_mean() {
        let second = Duration::from_secs(1);
        let mut times = Times::new();
        times.spend(30 * second);
        assert_eq!((times.busy, times.mean()), (30 * second, Duration::ZERO));
        times.record(4 * second, 2);
        times.spend(second);
        assert_eq!((times.busy, times.mean()), (35 * second, 2 * second));
        let (median, p99) = times.median_and_p99();
        assert!(p99 < 3 * second && median == p99, "{median:?} {p99:?}");
    }
}
