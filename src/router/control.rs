//! What an operator changes while the run goes on: pauses, the number of a step's
//! workers, failed inputs that are tried again.

use std::sync::Arc;
use std::time::Duration;

use super::{Action, Batching, ControlRequest, Phase, Router, State, Worker};
use crate::base::ids::{Slot, StepId};
use crate::event::Event;
use crate::message::batch::Batch;
use crate::message::{ItemKey, Message, Payload};

/// The most workers that a step can be given.
const MOST_WORKERS: usize = 256;

impl Router {
    /// Does what an operator wants.
    ///
    /// # Errors
    /// Why it cannot be done, in words; then nothing has changed.
    pub(crate) fn control(&mut self, request: ControlRequest, now: Duration) -> Result<(), String> {
        if self.is_over() {
            return Err("the run is over".to_owned());
        }
        match request {
            ControlRequest::Pause { step } => self.pause(step),
            ControlRequest::Resume { step } => self.resume(step),
            ControlRequest::SetWorkers { step, workers } => self.set_workers(step, workers, now),
            ControlRequest::Requeue { step, entry, origin, payload } => {
                self.requeue(step, entry, origin, payload, now)
            }
        }
    }

    fn pause(&mut self, step: Option<StepId>) -> Result<(), String> {
        if self.ending.is_draining() {
            return Err("the run is stopping: what was taken is processed to its end".to_owned());
        }
        if let Some(step) = step.map(|index| &self.steps[index])
            && step.phase != Phase::Running
        {
            return Err(format!("\"{}\" has done its last work", step.name));
        }
        let paused = match step {
            Some(index) => &mut self.steps[index].paused,
            None => &mut self.steps.paused,
        };
        if !std::mem::replace(paused, true) {
            let step = step.map(|index| Arc::clone(&self.steps[index].name));
            self.tell(Event::Paused { step });
        }
        Ok(())
    }

    fn resume(&mut self, step: Option<StepId>) -> Result<(), String> {
        if let (Some(index), true) = (step, self.steps.paused) {
            return Err(format!(
                "\"{}\" goes on when the run does: the whole run is paused",
                self.steps[index].name
            ));
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
            self.tell(Event::Resumed { step: name });
            self.steps.ids().for_each(|index| self.steps.mark_dirty(index));
        }
    }

    /// A run that ends before its inputs do is not kept from it by a pause.
    pub(super) fn resume_all(&mut self) {
        self.unpause(None);
        self.steps.ids().for_each(|step| self.unpause(Some(step)));
    }

    fn set_workers(&mut self, index: StepId, workers: usize, now: Duration) -> Result<(), String> {
        let step = &self.steps[index];
        let name = &step.name;
        let refusal = if step.is_producer() {
            Some(format!("\"{name}\" is a producer: it has one worker"))
        } else if step.plan.single && workers > 1 {
            Some(format!("\"{name}\" can have one worker only: its class writes one product"))
        } else if self.options.batching != Batching::Adaptive {
            Some("in the sequential mode each step has one worker".to_owned())
        } else if !(1..=MOST_WORKERS).contains(&workers) {
            let hint = if workers == 0 { "; to have it do nothing, pause it" } else { "" };
            Some(format!("expected 1 to {MOST_WORKERS} workers, found {workers}{hint}"))
        } else if !self.state.has_started() {
            Some("the run is still starting its workers".to_owned())
        } else if step.phase != Phase::Running || self.ending.is_abandoned() {
            Some(format!("\"{name}\" has done its last work"))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        self.steps[index].pool.set(workers, now);
        self.tell(Event::WorkersSet { step: Arc::clone(&self.steps[index].name), workers });
        while self.worker_count(index) < workers {
            self.add_worker(index);
        }
        while self.worker_count(index) > workers {
            self.retire_one(index);
        }
        self.steps.mark_dirty(index);
        Ok(())
    }

    /// The most workers that the step had at a time, or could have had, and the time that
    /// all of them together had by `now`.
    pub(crate) fn workforce(&self, step: StepId, now: Duration) -> (usize, Duration) {
        self.steps[step].workforce(now)
    }

    /// Workers of the step that are there to stay.
    pub(crate) fn worker_count(&self, index: StepId) -> usize {
        let stays = |worker: &&Slot| self.workers[**worker].stays();
        self.steps[index].workers.iter().filter(stays).count()
    }

    /// One that was to go stays, or one that was spared is started, or a new one.
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

    /// One that has nothing to do goes first, and of several the last.
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

    /// Lets those go that are to go and have nothing in hand any more.
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
            // One that is lost while it finishes is started anew, and is to go then.
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
    ) -> Result<(), String> {
        let step = &mut self.steps[index];
        let name = Arc::clone(&step.name);
        if step.phase != Phase::Running || self.ending.is_abandoned() {
            return Err(format!(
                "\"{name}\" has done its last work: drpipe quarantine retry takes it up in a run \
                 of its own"
            ));
        }
        if step.counts.failed == 0 || !self.failures.requeued.insert(entry.clone()) {
            return Err(format!("{entry} was tried again already"));
        }
        step.counts.failed -= 1;
        step.requeued += 1;
        step.counts.retried += 1;
        let id = self.steps.number(1);
        let message = Message { id, attempt: 0, origin: origin.clone(), payload };
        self.clock.now = now;
        self.item_requeued(&message);
        self.mark_requeued(message.id, &message.origin);
        self.order_requeued(message.id, index);
        match self.order_in_queue(index, message.id) {
            Some(place) => self.steps[index].queue.insert(place, Batch::One(message)),
            None => self.steps[index].queue.delay(message, now, None),
        }
        self.groups.enter(index, 1);
        self.tell(Event::Requeued { step: name, origin, entry });
        self.steps.mark_dirty(index);
        Ok(())
    }
}

impl Worker {
    fn stays(&self) -> bool {
        !self.retiring && matches!(self.state, State::Starting | State::Ready)
    }
}
