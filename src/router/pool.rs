//! How many workers a step has: one more when messages keep waiting, one fewer
//! when a worker has had nothing to do for a while, between the plan's limits.

use std::time::Duration;

use super::policy::scaling;
use super::{Action, Batching, Phase, Router, State, Step};
use crate::base::ids::StepId;

impl Router {
    /// Adds and lets go workers whose time has come.
    pub(super) fn resize(&mut self, now: Duration) {
        let elastic = self.steps.elastic();
        if elastic.is_empty() {
            return;
        }
        self.workers.update_rosters();
        for step in elastic.iter().copied() {
            // What waits for its turn does not wait for a worker.
            if self.is_elastic(&self.steps[step]) && !self.observers.is_ordered_end(step) {
                self.grow(step, now);
                self.shrink(step, now);
            }
        }
    }

    /// When the number of the step's workers may have to change though nothing has happened.
    pub(super) fn next_resize(&self, id: StepId) -> Option<Duration> {
        let step = &self.steps[id];
        if !self.is_elastic(step) {
            return None;
        }
        let delays = self.options.timing.scaling;
        scaling::next(step, self.workers.roster(id), &self.workers, delays)
    }

    fn is_elastic(&self, step: &Step) -> bool {
        self.state.has_started()
            && !self.ending.is_abandoned()
            && self.options.batching == Batching::Adaptive
            && step.phase == Phase::Running
            && !self.steps.paused
            && !step.paused
            && step.pool.min < step.pool.max
    }

    /// Whether the step gets another worker if nothing happens.
    pub(super) fn will_grow(&self, index: StepId, now: Duration) -> bool {
        let step = &self.steps[index];
        self.is_elastic(step)
            && !self.observers.is_ordered_end(index)
            && scaling::candidate(step, self.workers.roster(index), now).is_some()
    }

    fn grow(&mut self, index: StepId, now: Duration) {
        let roster = self.workers.roster(index);
        let Some(worker) = scaling::candidate(&self.steps[index], roster, now) else {
            self.steps[index].pool.pressed_since = None;
            return;
        };
        let step = &mut self.steps[index];
        step.pool.pressed_since.get_or_insert(now);
        if scaling::is_due(step, self.options.timing.scaling, now) {
            step.pool.pressed_since = None;
            self.workers[worker].state = State::Starting;
            self.workers.update_rosters();
            self.actions.push(Action::Spawn { worker: self.workers.id(worker) });
        }
    }

    fn shrink(&mut self, step: StepId, now: Duration) {
        let delays = self.options.timing.scaling;
        let roster = self.workers.roster(step);
        if let Some(worker) = scaling::excess(&self.steps[step], roster, &self.workers, delays, now)
        {
            self.finish_worker(worker);
            self.workers.update_rosters();
        }
    }
}
