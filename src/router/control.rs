//! The requests of operators: pauses, the number of a step's workers, retries of failed
//! inputs.

use std::sync::Arc;
use std::time::Duration;

use super::observe::Change;
use super::{
    Action, Alarm, Batching, Cancelled, ControlRequest, Phase, Refusal, Router, State, Step, Worker,
};
use crate::base::ids::{Slot, StepId};
use crate::event::Event;
use crate::message::batch::Batch;
use crate::message::{ItemKey, Message, NO_ITEM, Payload, Priority};

/// The most workers that a step can be given.
const MOST_WORKERS: usize = 256;

impl Router {
    /// Does what an operator wants.
    ///
    /// # Errors
    /// If the run or the step cannot do it, or cannot do it now; then nothing has changed.
    pub(crate) fn control(
        &mut self,
        request: ControlRequest,
        now: Duration,
    ) -> Result<Option<Cancelled>, Refusal> {
        if self.is_over() {
            return Err(Refusal::Over);
        }
        match request {
            ControlRequest::Pause { step } => self.pause(step),
            ControlRequest::Resume { step } => self.resume(step),
            ControlRequest::SetWorkers { step, workers } => self.set_workers(step, workers, now),
            ControlRequest::Requeue { step, entry, origin, payload } => {
                self.requeue(step, entry, origin, payload, now)
            }
            ControlRequest::Cancel { origin, running } => {
                return self.cancel_origin(&origin, running).map(Some);
            }
            ControlRequest::CallerGone { reason } => self.caller_gone(&reason),
        }
        .map(|()| None)
    }

    fn pause(&mut self, step: Option<StepId>) -> Result<(), Refusal> {
        if self.ending.is_draining() {
            return Err(Refusal::Stopping);
        }
        if let Some(step) = step.map(|index| &self.steps[index])
            && step.phase != Phase::Running
        {
            return Err(Refusal::Finished(Arc::clone(&step.name)));
        }
        let paused = match step {
            Some(index) => &mut self.steps[index].paused,
            None => &mut self.steps.paused,
        };
        if !std::mem::replace(paused, true) {
            let step = step.map(|index| Arc::clone(&self.steps[index].name));
            self.publish(Event::Paused { step });
        }
        Ok(())
    }

    fn resume(&mut self, step: Option<StepId>) -> Result<(), Refusal> {
        if let (Some(index), true) = (step, self.steps.paused) {
            return Err(Refusal::AllPaused(Arc::clone(&self.steps[index].name)));
        }
        self.unpause(step);
        Ok(())
    }

    fn unpause(&mut self, step: Option<StepId>) {
        let paused = match step {
            Some(index) => &mut self.steps[index].paused,
            None => &mut self.steps.paused,
        };
        if std::mem::replace(paused, false) {
            let name = step.map(|index| Arc::clone(&self.steps[index].name));
            self.publish(Event::Resumed { step: name });
            self.steps.ids().for_each(|index| self.steps.mark_dirty(index));
        }
    }

    /// Ends all pauses, so that none keeps a run from ending early.
    pub(super) fn resume_all(&mut self) {
        self.unpause(None);
        self.steps.ids().for_each(|step| self.unpause(Some(step)));
    }

    fn set_workers(&mut self, index: StepId, workers: usize, now: Duration) -> Result<(), Refusal> {
        if let Some(refusal) = self.refuses_workers(&self.steps[index], workers) {
            return Err(refusal);
        }
        self.steps[index].pool.set(workers, now);
        self.publish(Event::WorkersSet { step: Arc::clone(&self.steps[index].name), workers });
        while self.worker_count(index) < workers {
            self.add_worker(index);
        }
        while self.worker_count(index) > workers {
            self.retire_one(index);
        }
        self.steps.mark_dirty(index);
        Ok(())
    }

    /// Why the step cannot get this number of workers, if it cannot.
    fn refuses_workers(&self, step: &Step, workers: usize) -> Option<Refusal> {
        let (name, most) = (|| Arc::clone(&step.name), MOST_WORKERS);
        let refusal = if step.is_producer() {
            Refusal::Producer(name())
        } else if step.plan.singleton && workers > 1 {
            Refusal::OneProduct(name())
        } else if self.options.batching != Batching::Adaptive {
            Refusal::Sequential
        } else if workers == 0 {
            Refusal::NoWorkers { most }
        } else if workers > most {
            Refusal::TooManyWorkers { most, found: workers }
        } else if !self.state.has_started() {
            Refusal::Starting
        } else if step.phase != Phase::Running || self.ending.is_abandoned() {
            Refusal::Finished(name())
        } else {
            return None;
        };
        Some(refusal)
    }

    /// Returns the most workers that the step had, or could have had, at one time, and their total
    /// time by `now`.
    pub(crate) fn workforce(&self, step: StepId, now: Duration) -> (usize, Duration) {
        self.steps[step].workforce(now)
    }

    /// Counts the step's workers without those that are retiring.
    pub(crate) fn worker_count(&self, index: StepId) -> usize {
        let stays = |worker: &&Slot| self.workers[**worker].stays();
        self.steps[index].workers.iter().filter(stays).count()
    }

    /// Keeps a worker that was to go, or starts a spare or a new one.
    fn add_worker(&mut self, index: StepId) {
        let places = &self.steps[index].workers;
        let retiring = places.iter().copied().find(|worker| {
            let worker = &self.workers[*worker];
            worker.retiring && matches!(worker.state, State::Starting | State::Ready)
        });
        if let Some(worker) = retiring {
            self.workers[worker].retiring = false;
            return;
        }
        let spare = places.iter().copied().find(|w| self.workers[*w].state == State::Spare);
        let worker = spare.unwrap_or_else(|| {
            let number = self.steps[index].workers.len();
            let new = self.workers.add(Worker::new(index, number, State::Spare));
            self.steps[index].workers.push(new);
            new
        });
        self.workers[worker].state = State::Starting;
        self.workers[worker].retiring = false;
        self.actions.push(Action::Spawn { worker: self.workers.id(worker) });
    }

    /// Chooses a worker to go: an idle one if there is one, and of several the last.
    fn retire_one(&mut self, index: StepId) {
        let places = self.steps[index].workers.iter().rev().copied();
        let chosen = places
            .filter(|worker| self.workers[*worker].stays())
            .min_by_key(|worker| self.workers[*worker].is_busy());
        if let Some(worker) = chosen {
            self.workers[worker].retiring = true;
            self.workers.retiring += 1;
        }
    }

    /// Lets retiring workers go that have nothing in hand.
    pub(super) fn retire(&mut self) {
        if self.workers.retiring == 0 {
            return;
        }
        self.workers.retiring = 0;
        for index in self.workers.slots() {
            let worker = &self.workers[index];
            if !worker.retiring {
                continue;
            }
            let state = worker.state;
            let may_go = state == State::Ready
                && worker.is_empty()
                && self.steps[worker.step].phase == Phase::Running;
            // One that is lost while it finishes is replaced, and its replacement retires.
            if !matches!(state, State::Spare | State::Gone) {
                self.workers.retiring += 1;
            }
            if may_go {
                self.finish_worker(index);
            }
        }
    }

    fn requeue(
        &mut self,
        index: StepId,
        entry: String,
        origin: ItemKey,
        payload: Payload,
        now: Duration,
    ) -> Result<(), Refusal> {
        let step = &mut self.steps[index];
        let name = Arc::clone(&step.name);
        if step.phase != Phase::Running || self.ending.is_abandoned() {
            return Err(Refusal::FinishedBeforeRetry(name));
        }
        if step.counts.failed == 0 || !self.failures.requeued.insert(entry.clone()) {
            return Err(Refusal::TriedAgain(entry));
        }
        step.counts.failed -= 1;
        step.requeued += 1;
        step.counts.retried += 1;
        let id = self.steps.number(1);
        let (item, priority) = (NO_ITEM, Priority::Normal);
        let message = Message { id, attempt: 0, priority, item, origin: origin.clone(), payload };
        self.clock.now = now;
        self.observe(Change::Requeued { step: index, message: &message });
        match self.order_in_queue(index, message.id) {
            Some(place) => self.steps[index].queue.insert(place, Batch::One(message)),
            None => {
                self.steps[index].queue.delay(message, now, None);
                self.clock.set(now, Alarm::Step(index));
            }
        }
        self.groups.enter(index, 1);
        self.publish(Event::Requeued { step: name, origin, entry });
        self.steps.mark_dirty(index);
        Ok(())
    }
}

impl Worker {
    fn stays(&self) -> bool {
        !self.retiring && matches!(self.state, State::Starting | State::Ready)
    }
}
