//! How fast each step has been since the run began, in constant memory, from the views of a
//! run.

use super::series::History;
use super::view::View;

/// The most points: as many as the history of a run has.
const MAX_POINTS: usize = 600;

/// What each step had done by when.
#[derive(Debug, Clone, Default)]
pub(crate) struct RateHistory {
    /// Times since the run's start, in seconds, growing.
    at: Vec<f64>,
    /// For each step, what it had done at these times.
    done: Vec<Vec<u64>>,
    /// The least time between points, in seconds.
    every: f64,
}

impl RateHistory {
    /// Continues a monitor's history.
    pub(crate) fn of(history: History) -> Self {
        let done = history.steps.into_iter().map(|step| step.done).collect();
        Self { at: history.at_s, done, every: history.every_s }
    }

    /// Adds the view of now.
    pub(crate) fn add(&mut self, view: &View) {
        let now = view.elapsed.as_secs_f64();
        if self.done.len() != view.steps.len() {
            *self = Self { done: vec![Vec::new(); view.steps.len()], ..Self::default() };
        }
        if self.at.last().is_some_and(|last| now - last < self.every.max(f64::MIN_POSITIVE)) {
            return;
        }
        self.at.push(now);
        for (done, step) in self.done.iter_mut().zip(&view.steps) {
            done.push(step.progressed);
        }
        if self.at.len() > MAX_POINTS {
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.every =
            (self.every * 2.0).max(self.at.last().unwrap_or(&0.0) / MAX_POINTS as f64 * 2.0);
        let odd = |place: &mut usize| {
            *place += 1;
            place.is_multiple_of(2)
        };
        let mut place = 0;
        self.at.retain(|_| odd(&mut place));
        for done in &mut self.done {
            let mut place = 0;
            done.retain(|_| odd(&mut place));
        }
    }

    /// The rates of a step, in messages a second, in `spans` equal parts of the time so far.
    pub(crate) fn rates(&self, step: usize, spans: usize) -> Vec<f64> {
        let (Some(first), Some(last), Some(done)) =
            (self.at.first(), self.at.last(), self.done.get(step))
        else {
            return Vec::new();
        };
        let each = (last - first) / spans.max(1) as f64;
        if each <= 0.0 {
            return Vec::new();
        }
        let at_end = |span: usize| self.done_at(done, first + each * span as f64);
        (0..spans).map(|span| ((at_end(span + 1) - at_end(span)) / each).max(0.0)).collect()
    }

    /// What was done at a time, interpolated between two points.
    fn done_at(&self, done: &[u64], time: f64) -> f64 {
        let after = self.at.partition_point(|at| *at < time).min(self.at.len() - 1);
        let before = after.saturating_sub(1);
        let value = |place: usize| done.get(place).copied().unwrap_or_default() as f64;
        let span = self.at[after] - self.at[before];
        if span <= 0.0 {
            return value(after);
        }
        let part = ((time - self.at[before]) / span).clamp(0.0, 1.0);
        value(before) + part * (value(after) - value(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::testing::view;

    fn after(seconds: u64, done: u64) -> View {
        let mut view = view();
        view.elapsed = std::time::Duration::from_secs(seconds);
        view.steps[1].progressed = done;
        view
    }

    #[test]
    fn rates_are_differences_over_time() {
        let mut rates = RateHistory::default();
        rates.add(&after(0, 0));
        assert!(rates.rates(1, 4).is_empty(), "one point has no rate");
        rates.add(&after(10, 100));
        rates.add(&after(20, 100));
        assert_eq!(rates.rates(1, 4), [10.0, 10.0, 0.0, 0.0]);
        assert!(rates.rates(99, 4).is_empty());
    }

    #[test]
    fn a_long_run_takes_no_more_room() {
        let mut rates = RateHistory::default();
        let mut view = view();
        for second in 0..20_000 {
            view.elapsed = std::time::Duration::from_secs(second);
            view.steps[1].progressed = second * 3;
            rates.add(&view);
        }
        assert!(
            rates.at.len() <= MAX_POINTS && rates.at.len() > MAX_POINTS / 4,
            "{}",
            rates.at.len()
        );
        assert_eq!(rates.done[1].len(), rates.at.len());
        for rate in rates.rates(1, 80) {
            assert!((rate - 3.0).abs() < 0.01, "{rate}");
        }
    }
}
