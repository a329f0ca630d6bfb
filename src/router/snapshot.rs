//! Where everything stands, for those who watch.

use std::sync::Arc;
use std::time::Duration;

use super::{Phase, Router, State, Step, Worker};
use crate::event::{Snapshot, StepStatus, WorkerState, WorkerStatus};
use crate::parcel::Parcel;

impl Router {
    /// Where the run stands.
    pub(crate) fn snapshot(&self, now: Duration) -> Snapshot {
        let steps = self.steps.iter().map(|step| {
            let alive = step.workers.iter().map(|index| &self.workers[*index]);
            let each_worker: Vec<_> = alive.filter_map(|worker| worker.status(now)).collect();
            let busy = each_worker.iter().filter(|worker| worker.state.is_at_work());
            let (median, p99) = step.times.median_and_p99();
            StepStatus {
                name: Arc::clone(&step.name),
                counts: step.counts,
                queued: step.queue.len(),
                queued_bytes: step.queue.bytes(),
                high_water: step.queue.high_water(),
                busy: busy.clone().count(),
                workers: each_worker.len(),
                busy_time: step.times.total,
                running: busy.map(|worker| worker.since).sum(),
                median,
                mean: step.times.mean(),
                p99,
                sent: step.sent.clone(),
                waits_for: self.waits_for(step),
                paused: step.paused,
                finished: step.phase == Phase::Finished,
                each_worker,
            }
        });
        let Self { paused, draining, .. } = *self;
        Snapshot { elapsed: now, paused, draining, steps: steps.collect() }
    }

    /// The steps whose full queues the step's workers wait for.
    fn waits_for(&self, step: &Step) -> Vec<Arc<str>> {
        let mut full: Vec<usize> = step
            .workers
            .iter()
            .filter_map(|worker| self.workers[*worker].held.front().map(|held| held.to))
            .collect();
        full.sort_unstable();
        full.dedup();
        full.into_iter().map(|to| Arc::clone(&self.steps[to].name)).collect()
    }
}

impl Worker {
    /// None if there is no worker in this place.
    fn status(&self, now: Duration) -> Option<WorkerStatus> {
        let state = match self.state {
            State::Spare | State::Gone => return None,
            State::Starting => WorkerState::Starting,
            State::Finishing => WorkerState::Finishing,
            State::Ready if !self.held.is_empty() => WorkerState::Held,
            State::Ready if self.is_busy() => WorkerState::Busy,
            State::Ready => WorkerState::Idle,
        };
        let oldest = self.in_hand.front();
        Some(WorkerStatus {
            worker: self.number,
            state,
            since: now.saturating_sub(self.since),
            in_hand: self.in_hand_count,
            message: oldest.map(Parcel::first),
            origin: oldest.and_then(|parcel| parcel.origin().cloned()),
            busy_time: self.busy,
        })
    }
}
