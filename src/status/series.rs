//! How the numbers of a run have changed over time, in constant memory: when there are too many
//! points, every second one is dropped and the interval doubles.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{Snapshot, StepStatus};

/// The most points: as many as a chart has pixels to show.
const MAX_POINTS: usize = 600;
/// The interval between points at the beginning: that of snapshots.
const FIRST_INTERVAL: Duration = Duration::from_millis(100);

/// Columns of numbers. Each list has one entry for each point in time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct History {
    /// The times since the run's start, in seconds.
    pub at_s: Vec<f64>,
    /// The steps in the order of the plan.
    pub steps: Vec<StepHistory>,
    /// The time between points, in seconds.
    pub every_s: f64,
}

/// The columns of one step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepHistory {
    /// Its name.
    pub name: Arc<str>,
    /// What it has done so far: emitted, if it is a producer.
    pub done: Vec<u64>,
    /// Messages failed or dropped so far.
    pub failed: Vec<u64>,
    /// The most messages in its queue since the previous point.
    pub queued: Vec<usize>,
    /// The busy time of its workers so far, summed, in seconds.
    pub busy_s: Vec<f64>,
    /// Workers.
    pub workers: Vec<usize>,
    /// Its workers, by number; views of a run in progress leave them out.
    #[serde(skip)]
    pub each_worker: Vec<WorkerHistory>,
}

/// The column of one worker.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct WorkerHistory {
    /// Its number within the step.
    pub worker: usize,
    /// Its busy time so far, in seconds: 0 at the points before it started, and no entries after
    /// its last snapshot.
    pub busy_s: Vec<f64>,
}

impl Default for History {
    fn default() -> Self {
        Self { at_s: Vec::new(), steps: Vec::new(), every_s: FIRST_INTERVAL.as_secs_f64() }
    }
}

impl History {
    pub(crate) fn add(&mut self, snapshot: &Snapshot) {
        let at = snapshot.elapsed.as_secs_f64();
        if self.steps.is_empty() {
            let step = |step: &StepStatus| StepHistory {
                name: Arc::clone(&step.name),
                ..StepHistory::default()
            };
            self.steps = snapshot.steps.iter().map(step).collect();
        }
        // A point that comes early is replaced by the next one; of the queues between two
        // points the fullest counts.
        let replaces = match self.at_s.len() {
            0 | 1 => false,
            count => self.at_s[count - 1] - self.at_s[count - 2] < self.every_s * 0.9,
        };
        if replaces {
            self.at_s.pop();
        }
        self.at_s.push(at);
        let points = self.at_s.len();
        for (history, status) in self.steps.iter_mut().zip(&snapshot.steps) {
            history.add(status, points, replaces);
        }
        if points > MAX_POINTS {
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.every_s *= 2.0;
        // The last point stays.
        let odd = self.at_s.len() % 2;
        let stays = |place: usize| (place + odd) % 2 == 1;
        keep(&mut self.at_s, stays);
        for step in &mut self.steps {
            step.halve(stays);
        }
    }
}

impl StepHistory {
    fn add(&mut self, status: &StepStatus, points: usize, replaces: bool) {
        let mut fullest = status.queued;
        if replaces {
            fullest = fullest.max(self.queued.pop().unwrap_or(0));
            self.done.pop();
            self.failed.pop();
            self.busy_s.pop();
            self.workers.pop();
        }
        self.queued.push(fullest);
        self.done.push(super::pace::done(status));
        self.failed.push(status.counts.failed + status.counts.dropped);
        self.busy_s.push((status.busy_time + status.running).as_secs_f64());
        self.workers.push(status.workers);
        for worker in &status.each_worker {
            let place = self.each_worker.iter().position(|known| known.worker == worker.worker);
            let place = place.unwrap_or_else(|| {
                let new = WorkerHistory { worker: worker.worker, busy_s: vec![0.0; points - 1] };
                self.each_worker.push(new);
                self.each_worker.len() - 1
            });
            let known = &mut self.each_worker[place].busy_s;
            known.truncate(points - 1);
            // A worker that was gone for a while did nothing meanwhile.
            let before = known.last().copied().unwrap_or(0.0);
            known.resize(points - 1, before);
            let running = match worker.state {
                crate::event::WorkerState::Busy => worker.since,
                _ => Duration::ZERO,
            };
            known.push((worker.busy_time + running).as_secs_f64());
        }
    }

    fn halve(&mut self, stays: impl Fn(usize) -> bool + Copy) {
        let pairs = self.queued.clone();
        for (place, queued) in self.queued.iter_mut().enumerate().skip(1) {
            *queued = (*queued).max(pairs[place - 1]);
        }
        keep(&mut self.queued, stays);
        keep(&mut self.done, stays);
        keep(&mut self.failed, stays);
        keep(&mut self.busy_s, stays);
        keep(&mut self.workers, stays);
        for worker in &mut self.each_worker {
            keep(&mut worker.busy_s, stays);
        }
    }
}

fn keep<T>(column: &mut Vec<T>, stays: impl Fn(usize) -> bool) {
    let mut place = 0;
    column.retain(|_| {
        place += 1;
        stays(place - 1)
    });
}
