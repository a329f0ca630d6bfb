//! How many workers a step has: one more when messages keep waiting, one fewer
//! when a worker has had nothing to do for a while, between the plan's limits.

use std::time::Duration;

use super::{Action, Batching, Phase, Router, State, Step};
use crate::base::ids::{Slot, StepId};

/// Messages that have waited so long ask for another worker.
const GROW_AFTER: Duration = Duration::from_millis(if SIMULATED { 2 } else { 100 });
/// A worker that has had nothing to do for so long is let go.
const SHRINK_AFTER: Duration = Duration::from_millis(if SIMULATED { 20 } else { 5000 });
/// Simulated runs are short.
const SIMULATED: bool = cfg!(test);

impl Router {
    /// Adds and lets go workers whose time has come.
    pub(super) fn resize(&mut self, now: Duration) {
        for step in self.steps.ids() {
            // What waits for its turn does not wait for a worker.
            if self.is_elastic(&self.steps[step]) && !self.is_ordered_end(step) {
                self.grow(step, now);
                self.shrink(step, now);
            }
        }
    }

    /// When the step is to be looked at again though nothing has happened.
    pub(super) fn next_resize(&self, step: &Step) -> Option<Duration> {
        if !self.is_elastic(step) {
            return None;
        }
        let grow = step.pressed_since.map(|since| since.saturating_add(GROW_AFTER));
        let shrink = self.longest_idle(step).map(|(_, since)| since.saturating_add(SHRINK_AFTER));
        grow.into_iter().chain(shrink).min()
    }

    fn is_elastic(&self, step: &Step) -> bool {
        self.started
            && self.abandoned.is_none()
            && self.batching == Batching::Adaptive
            && step.phase == Phase::Running
            && !self.paused
            && !step.paused
            && step.least < step.most
    }

    fn grow(&mut self, index: StepId, now: Duration) {
        let state_of = |worker: &Slot| self.workers[*worker].state;
        let step = &self.steps[index];
        let starting = step.workers.iter().any(|worker| state_of(worker) == State::Starting);
        let spare = step.workers.iter().copied().find(|worker| state_of(worker) == State::Spare);
        let pressed = step.queue.servable(now) > 0 && !starting;
        let (true, Some(worker)) = (pressed, spare) else {
            self.steps[index].pressed_since = None;
            return;
        };
        let since = *self.steps[index].pressed_since.get_or_insert(now);
        if now.saturating_sub(since) >= GROW_AFTER {
            self.steps[index].pressed_since = None;
            self.workers[worker].state = State::Starting;
            self.actions.push(Action::Spawn { worker: self.workers.id(worker) });
        }
    }

    fn shrink(&mut self, index: StepId, now: Duration) {
        let idle = self.longest_idle(&self.steps[index]);
        let due = idle.filter(|(_, since)| now.saturating_sub(*since) >= SHRINK_AFTER);
        if let Some((worker, _)) = due {
            self.finish_worker(worker);
        }
    }

    /// The worker that has had nothing to do for longest, and since when, if
    /// there are more than the least.
    fn longest_idle(&self, step: &Step) -> Option<(Slot, Duration)> {
        let here =
            |worker: &&Slot| matches!(self.workers[**worker].state, State::Starting | State::Ready);
        if step.workers.iter().filter(here).count() <= step.least {
            return None;
        }
        let idle = step.workers.iter().copied().filter(|worker| {
            let worker = &self.workers[*worker];
            worker.state == State::Ready && worker.in_hand.is_empty() && worker.held.is_empty()
        });
        idle.map(|worker| (worker, self.workers[worker].since)).min_by_key(|(_, since)| *since)
    }
}
