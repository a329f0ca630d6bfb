//! Where everything stands, for those who watch.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::StepId;
use crate::event::{Snapshot, StepStatus, WorkerState, WorkerStatus};
use crate::message::Priority;
use crate::router::{Phase, ProducerState, Router, State, Step, Worker};

impl Router {
    /// Notes the time, from which the ages of messages follow.
    pub(crate) fn note_time(&mut self, now: Duration) {
        let next = self.steps.number(0);
        let first = self.steps.iter().filter_map(|step| step.queue.line(Priority::Normal).front());
        self.ages.mark(next, first.min().unwrap_or(next), now);
    }

    /// Where the run stands.
    pub(crate) fn snapshot(&self, now: Duration) -> Snapshot {
        let steps = self.steps.iter().map(|step| {
            let full = self.waits_for(step, now);
            let alive = step.workers.iter().map(|index| &self.workers[*index]);
            // What a producer lacks is room, not work.
            let lacks_room = step.is_producer() && !full.is_empty();
            let each_worker: Vec<_> =
                alive.filter_map(|worker| worker.status(now, lacks_room)).collect();
            let busy = each_worker.iter().filter(|worker| worker.state.is_at_work());
            let (median, p99) = step.times.median_and_p99();
            let (held, held_bytes) = self.held(step);
            let oldest = step.queue.line(Priority::Normal).front();
            StepStatus {
                name: Arc::clone(&step.name),
                counts: step.counts,
                queued: step.queue.len(),
                queued_bytes: step.queue.bytes(),
                high_water: step.queue.high_water(),
                oldest_normal: oldest.map_or(Duration::ZERO, |first| self.ages.of(first, now)),
                busy: busy.clone().count(),
                workers: each_worker.len(),
                busy_time: step.times.busy,
                running: busy.map(|worker| worker.since).sum(),
                median,
                mean: step.times.mean(),
                p99,
                sent: step.routes.iter().map(|route| route.sent).collect(),
                waits_for: full.into_iter().map(|to| Arc::clone(&self.steps[to].name)).collect(),
                held,
                held_bytes,
                requeued: step.requeued,
                paused: step.paused,
                finished: step.phase == Phase::Finished,
                actions: Vec::new(),
                each_worker,
            }
        });
        let (paused, draining) = (self.steps.paused, self.ending.is_draining());
        Snapshot { elapsed: now, paused, draining, steps: steps.collect() }
    }

    /// The steps whose full queues the step's workers wait for.
    fn waits_for(&self, step: &Step, now: Duration) -> Vec<StepId> {
        let workers = step.workers.iter().map(|index| &self.workers[*index]);
        let held = workers.clone().flat_map(|worker| worker.held.iter().filter_map(|h| h.front()));
        let mut full: Vec<StepId> = held.map(|held| held.to).collect();
        // A producer is asked for more only where there is room for it.
        let wants = |worker: &Worker| {
            let due = matches!(worker.producer, ProducerState::Idle(until) if until <= now);
            due && worker.may_be_granted()
        };
        let producing =
            step.is_producer() && self.state.has_started() && !self.ending.is_draining();
        if producing && !self.steps.paused && !step.paused && workers.clone().any(wants) {
            let bounded = step.routes.iter().filter(|route| !route.feedback);
            full.extend(bounded.map(|route| route.to).filter(|to| {
                let next = &self.steps[*to];
                let line = next.queue.line(*step.plan.options.priority);
                next.phase == Phase::Running && line.room() == 0
            }));
        }
        full.sort_unstable();
        full.dedup();
        full
    }

    /// How many messages the step has sent along each of its routes that wait for room,
    /// and the bytes of them all.
    fn held(&self, step: &Step) -> (Vec<u64>, u64) {
        let (mut counts, mut bytes) = (vec![0; step.routes.len()], 0);
        for held in step.workers.iter().flat_map(|index| self.workers[*index].all_held()) {
            if let Some(route) = step.routes.iter().position(|route| route.to == held.to) {
                counts[route] += held.batch.count() as u64;
                bytes += held.batch.len() as u64;
            }
        }
        (counts, bytes)
    }
}

impl Worker {
    /// None if there is no worker in this place.
    fn status(&self, now: Duration, lacks_room: bool) -> Option<WorkerStatus> {
        let state = match self.state {
            State::Spare | State::Gone => return None,
            State::Starting => WorkerState::Starting,
            State::Finishing => WorkerState::Finishing,
            State::Ready if self.is_busy() => WorkerState::Busy,
            State::Ready if lacks_room || self.holds() => WorkerState::Held,
            State::Ready => WorkerState::Idle,
        };
        let oldest = self.in_hand.front();
        Some(WorkerStatus {
            worker: self.number,
            state,
            since: now.saturating_sub(self.since),
            in_hand: self.in_hand_count,
            message: oldest.map(|batch| batch.first().0),
            origin: oldest.and_then(|batch| batch.origin().cloned()),
            busy_time: self.busy,
        })
    }
}
