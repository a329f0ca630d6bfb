//! How fast a run is now, and what its messages cost. This is the one place that computes rates
//! from snapshots.

use std::collections::VecDeque;
use std::time::Duration;

use crate::event::{Snapshot, StepPlan, StepStatus, WorkerState};
use crate::stage::registry::Kind;

/// The time over which rates are taken: long enough to be steady, short enough to follow.
const RATE_WINDOW: Duration = Duration::from_secs(3);
/// The longest time over which the cost of a message is taken; a shorter run takes its second
/// half.
const COST_WINDOW: Duration = Duration::from_secs(60);
/// The least time between the samples kept for the cost: 120 of them cover the window.
const MOMENT_INTERVAL: Duration = Duration::from_millis(500);
/// The fewest messages that give a cost; with fewer, the whole run counts.
const MIN_MESSAGES: u64 = 8;

/// The numbers of the last seconds, and samples of the minute before.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    recent: VecDeque<Sample>,
    /// Samples since work began.
    working: VecDeque<Sample>,
    began: Option<Sample>,
}

#[derive(Debug, Clone)]
struct Sample {
    at: Duration,
    steps: Vec<Numbers>,
}

#[derive(Debug, Clone)]
struct Numbers {
    done: u64,
    /// Messages that are done, failed or dropped.
    ended: u64,
    sent: Vec<u64>,
    /// Time at work, with and without the calls in progress.
    busy: Duration,
    spent: Duration,
    workers: usize,
    held: bool,
    /// How long the step has been held back or paused so far.
    held_for: Duration,
    /// How long messages have waited for workers that were being started, summed.
    starting_for: Duration,
}

/// How fast one step is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct StepPace {
    /// Messages a second.
    pub(super) rate: f64,
    /// The number of messages behind the rate.
    pub(super) count: u64,
    /// Messages a second to each next step.
    pub(super) sent: Vec<f64>,
    /// The part of their time that its workers are busy, 0 to 1.
    pub(super) utilisation: f64,
    /// The part of the time that a worker of it waits for room in a full queue, 0 to 1.
    pub(super) held: f64,
}

/// What a step has done: a producer emits messages, the others complete them.
pub(super) fn done(step: &StepStatus) -> u64 {
    if step.counts.received == 0 { step.counts.emitted } else { step.counts.done }
}

impl Pace {
    /// Adds a snapshot. Earlier runs had done `skipped` of the producer's messages; `working` is
    /// false while the first workers start.
    pub(super) fn add(
        &mut self,
        plan: &[StepPlan],
        snapshot: &Snapshot,
        skipped: u64,
        working: bool,
    ) {
        let before = self.recent.back();
        let passed = before.map_or(Duration::ZERO, |m| snapshot.elapsed.saturating_sub(m.at));
        let steps = snapshot.steps.iter().enumerate().map(|(index, step)| {
            let is_producer = plan.get(index).is_some_and(|plan| plan.kind == Kind::Producer);
            let counts = &step.counts;
            let ended = match is_producer {
                true => counts.emitted + skipped,
                false => counts.done + counts.failed + counts.dropped,
            };
            let held = !step.waits_for.is_empty();
            let starting = step.each_worker.iter().filter(|w| w.state == WorkerState::Starting);
            let starting = if step.queued > 0 { starting.count() as u32 } else { 0 };
            let before = before.and_then(|sample| sample.steps.get(index));
            let (held_for, starting_for) =
                before.map_or_else(Default::default, |b| (b.held_for, b.starting_for));
            let stands = held || step.paused || snapshot.paused || !working;
            Numbers {
                done: done(step),
                ended,
                sent: step.sent.clone(),
                busy: step.busy_time + step.running,
                spent: step.busy_time,
                workers: step.workers,
                held,
                held_for: held_for + if stands { passed } else { Duration::ZERO },
                starting_for: starting_for + passed * starting,
            }
        });
        let sample = Sample { at: snapshot.elapsed, steps: steps.collect() };
        if working {
            self.keep(&sample);
        }
        self.recent.push_back(sample);
        while self.recent.get(1).is_some_and(|next| next.at + RATE_WINDOW <= snapshot.elapsed) {
            self.recent.pop_front();
        }
    }

    fn keep(&mut self, sample: &Sample) {
        let began = self.began.get_or_insert_with(|| sample.clone()).at;
        let last = self.working.back().map_or(began, |sample| sample.at);
        if last + MOMENT_INTERVAL > sample.at && !self.working.is_empty() {
            return;
        }
        self.working.push_back(sample.clone());
        while self.working.get(1).is_some_and(|next| next.at + COST_WINDOW <= sample.at) {
            self.working.pop_front();
        }
    }

    /// How fast step `index` is.
    pub(super) fn of(&self, index: usize) -> StepPace {
        let (Some(first), Some(last)) = (self.recent.front(), self.recent.back()) else {
            return StepPace::default();
        };
        let seconds = last.at.saturating_sub(first.at).as_secs_f64();
        let (Some(before), Some(now)) = (first.steps.get(index), last.steps.get(index)) else {
            return StepPace::default();
        };
        if seconds <= 0.0 {
            return StepPace { sent: vec![0.0; now.sent.len()], ..StepPace::default() };
        }
        let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let sent = now.sent.iter().enumerate();
        let sent = sent.map(|(route, now)| {
            per_second(*now, before.sent.get(route).copied().unwrap_or_default())
        });
        let busy = now.busy.saturating_sub(before.busy).as_secs_f64();
        let held = self.recent.iter().filter(|m| m.steps.get(index).is_some_and(|s| s.held));
        StepPace {
            rate: per_second(now.done, before.done),
            count: now.done.saturating_sub(before.done),
            sent: sent.collect(),
            utilisation: (busy / (seconds * now.workers.max(1) as f64)).min(1.0),
            held: held.count() as f64 / self.recent.len() as f64,
        }
    }

    /// How long a worker of step `index` takes for one message, in seconds; failed attempts and
    /// the replacement of lost workers count. A step that is always `on`, a producer, takes all
    /// the time in which nothing holds it back, because its waiting belongs to its work. None if
    /// no message has ended yet.
    pub(super) fn cost(&self, index: usize, on: bool) -> Option<f64> {
        let last = self.recent.back()?;
        let began = self.began.as_ref()?;
        let back = (last.at.saturating_sub(began.at) / 2).min(COST_WINDOW);
        let from = last.at.saturating_sub(back);
        let later = self.working.partition_point(|sample| sample.at <= from);
        let half = self.working.get(later.saturating_sub(1)).unwrap_or(began);
        let now = last.steps.get(index)?;
        let ended = |sample: &Sample| {
            sample.steps.get(index).map_or(0, |before| now.ended.saturating_sub(before.ended))
        };
        let first = if ended(half) < MIN_MESSAGES { began } else { half };
        let before = first.steps.get(index).filter(|_| ended(first) > 0);
        // If none has ended since, what had ended before is all there is.
        let since = |now: Duration, of: fn(&Numbers) -> Duration| {
            now.saturating_sub(before.map(of).unwrap_or_default())
        };
        let spent = match on {
            true => {
                let at = before.map_or(Duration::ZERO, |_| first.at);
                last.at.saturating_sub(at).saturating_sub(since(now.held_for, |s| s.held_for))
            }
            false => since(now.spent, |s| s.spent) + since(now.starting_for, |s| s.starting_for),
        };
        let ended = before.map_or(now.ended, |_| ended(first));
        (ended > 0).then(|| spent.as_secs_f64() / ended as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample of one step: the messages that had ended by `at`, and the time spent on them.
    fn sample(at: u64, ended: u64, spent: u64) -> Sample {
        let spent = Duration::from_millis(spent);
        let step = Numbers {
            done: ended,
            ended,
            sent: Vec::new(),
            busy: spent,
            spent,
            workers: 1,
            held: false,
            held_for: Duration::ZERO,
            starting_for: Duration::ZERO,
        };
        Sample { at: Duration::from_millis(at), steps: vec![step] }
    }

    #[test]
    fn a_step_that_has_ended_nothing_since_the_first_look_costs_what_it_did_before() {
        let pace = |samples: [Sample; 2]| {
            let mut pace = Pace::default();
            samples.iter().for_each(|sample| pace.keep(sample));
            pace.recent.extend(samples);
            pace
        };
        let stands = pace([sample(100, 40, 80), sample(5000, 40, 80)]);
        assert_eq!((stands.cost(0, false), stands.cost(0, true)), (Some(0.002), Some(0.125)));
        let goes_on = pace([sample(100, 40, 80), sample(5000, 50, 180)]);
        assert_eq!(goes_on.cost(0, false), Some(0.01));
        assert_eq!(pace([sample(100, 0, 0), sample(5000, 0, 0)]).cost(0, false), None);
    }
}
