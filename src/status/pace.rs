//! How fast a run is at the moment, from the snapshots of the last seconds.

use std::collections::VecDeque;
use std::time::Duration;

use crate::event::{Snapshot, StepStatus};

/// Rates are taken over this time.
const OVER: Duration = Duration::from_secs(3);

/// The snapshots of the last seconds, with what rates are made of.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    recent: VecDeque<Moment>,
}

#[derive(Debug, Clone)]
struct Moment {
    at: Duration,
    steps: Vec<Numbers>,
}

#[derive(Debug, Clone)]
struct Numbers {
    done: u64,
    sent: Vec<u64>,
    busy: Duration,
    workers: usize,
    held: bool,
}

/// How fast one step is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct StepPace {
    /// Messages a second.
    pub(super) rate: f64,
    /// Messages a second to each next step.
    pub(super) sent: Vec<f64>,
    /// The part of their time that its workers are busy, 0 to 1.
    pub(super) utilisation: f64,
    /// The part of the time that a worker of it waits for room in a full queue.
    pub(super) held: f64,
}

/// What a step has done: a producer emits, the others complete.
pub(super) fn done(step: &StepStatus) -> u64 {
    if step.counts.received == 0 { step.counts.emitted } else { step.counts.done }
}

impl Pace {
    pub(super) fn add(&mut self, snapshot: &Snapshot) {
        let numbers = |step: &StepStatus| Numbers {
            done: done(step),
            sent: step.sent.clone(),
            busy: step.busy_time + step.running,
            workers: step.workers,
            held: !step.waits_for.is_empty(),
        };
        let steps = snapshot.steps.iter().map(numbers).collect();
        self.recent.push_back(Moment { at: snapshot.elapsed, steps });
        while self.recent.get(1).is_some_and(|next| next.at + OVER <= snapshot.elapsed) {
            self.recent.pop_front();
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
            sent: sent.collect(),
            utilisation: (busy / (seconds * now.workers.max(1) as f64)).min(1.0),
            held: held.count() as f64 / self.recent.len() as f64,
        }
    }
}
