//! Ends steps and runs: by counting, never by waiting.
//!
//! Steps that can reach one another (a loop) form a group and end together;
//! every other step is a group of its own. A group may end once the groups
//! before it have ended and nothing of its own is queued, held or in hand.
//! Then its steps finish one after the other in the order of the plan; what
//! they emit in doing so is processed before the next one finishes.

use std::collections::VecDeque;
use std::time::Duration;

use super::line::Failed;
use super::observe::Change;
use super::policy::ending::{self, Decision};
use super::state::RunState;
use super::{Action, Held, Phase, Router, State, Worker};
use crate::base::failure::{Failure, Result};
use crate::base::ids::{Slot, StepId};
use crate::event::{Cause, Event};
use crate::message::Message;
use crate::message::batch::{Batch, Output};
use crate::plan::Plan;

pub(super) struct Groups {
    /// The group of each step.
    of_step: Vec<usize>,
    groups: Vec<Group>,
    /// The groups that have not ended although all groups before them have, in order.
    front: Vec<usize>,
}

struct Group {
    /// In the order of the plan.
    steps: Vec<StepId>,
    /// The groups to which it sends messages.
    downstream: Vec<usize>,
    /// The number of groups that send messages to it and have not ended.
    upstream: usize,
    /// Messages queued, held or in hand, and grants in use.
    open: usize,
}

impl Groups {
    pub(super) fn of(plan: &Plan) -> Self {
        let count = plan.steps.len();
        let reach = plan.reach();
        let together = |a: usize, b: usize| a == b || (reach[a][b] && reach[b][a]);
        let mut of_step = vec![0; count];
        let mut groups: Vec<Group> = Vec::new();
        for (step, of_step) in of_step.iter_mut().enumerate() {
            let found = groups.iter().position(|group| together(group.steps[0].index(), step));
            *of_step = found.unwrap_or(groups.len());
            match found {
                Some(group) => groups[group].steps.push(StepId::at(step)),
                None => groups.push(Group {
                    steps: vec![StepId::at(step)],
                    downstream: Vec::new(),
                    upstream: 0,
                    open: 0,
                }),
            }
        }
        for (from, step) in plan.steps.iter().enumerate() {
            for route in &step.routes {
                let (from, to) = (of_step[from], of_step[route.to]);
                if from != to && !groups[from].downstream.contains(&to) {
                    groups[from].downstream.push(to);
                    groups[to].upstream += 1;
                }
            }
        }
        let front = (0..groups.len()).filter(|group| groups[*group].upstream == 0).collect();
        Self { of_step, groups, front }
    }

    /// Counts messages or grants that the step holds from here on.
    pub(super) fn enter(&mut self, step: StepId, count: usize) {
        self.groups[self.of_step[step.index()]].open += count;
    }

    /// Counts messages or grants that the step no longer holds.
    pub(super) fn leave(&mut self, step: StepId, count: usize) {
        self.groups[self.of_step[step.index()]].open -= count;
    }

    /// Whether nothing of any step is queued, held or in hand, and no grant is in use.
    pub(super) fn are_empty(&self) -> bool {
        self.groups.iter().all(|group| group.open == 0)
    }

    /// The first group from number `from` on of which nothing is open, and nothing will come.
    fn quiet(&self, from: usize) -> Option<usize> {
        self.front.iter().copied().find(|group| *group >= from && self.groups[*group].open == 0)
    }

    fn end(&mut self, group: usize) {
        self.front.retain(|other| *other != group);
        for place in 0..self.groups[group].downstream.len() {
            let next = self.groups[group].downstream[place];
            self.groups[next].upstream -= 1;
            if self.groups[next].upstream == 0 {
                let place = self.front.partition_point(|other| *other < next);
                self.front.insert(place, next);
            }
        }
    }
}

impl Router {
    /// Ends every step that can end; returns false if none could.
    pub(super) fn end_steps(&mut self) -> bool {
        let mut changed = false;
        let mut next = 0;
        while let Some(group) = self.groups.quiet(next) {
            next = group + 1;
            let steps = &self.groups.groups[group].steps;
            match ending::next(steps, &self.steps, &self.workers, self.ending.is_draining()) {
                Decision::GroupOver => {
                    self.groups.end(group);
                    changed = true;
                }
                Decision::Finish(step)
                    if self.may_begin()
                        && !self.steps.is_paused(step)
                        && !self.awaits_acknowledgements(step) =>
                {
                    self.begin_finish(step);
                    changed = true;
                }
                Decision::Finished(step) => {
                    self.end_finish(step);
                    changed = true;
                }
                Decision::Finish(_) | Decision::Wait => {}
            }
        }
        if self.groups.front.is_empty() {
            self.state = RunState::Over;
        }
        changed && !self.is_over()
    }

    fn begin_finish(&mut self, step: StepId) {
        self.steps[step].phase = Phase::Finishing;
        for worker in self.steps[step].workers.clone() {
            match self.workers[worker].state {
                State::Ready => self.finish_worker(worker),
                State::Spare => self.workers[worker].state = State::Gone,
                State::Starting if self.workers[worker].respawn_at.is_some() => {
                    self.stop_worker(worker);
                }
                // A replacement finishes once it is ready.
                State::Starting | State::Finishing | State::Gone => {}
            }
        }
    }

    pub(super) fn end_finish(&mut self, index: StepId) {
        let step = &mut self.steps[index];
        step.phase = Phase::Finished;
        let event = Event::StepFinished { step: step.name.clone(), counts: step.counts };
        self.publish(event);
    }

    /// Fails a message that came to a step on a loop after the step began to finish.
    pub(super) fn arrived_late(&mut self, step: StepId, message: Message) {
        let name = &self.steps[step].name;
        let failure = Failure::permanent(
            match self.steps[step].plan.is_open && self.ending.caller_is_gone {
                true => format!("the program that does the work of \"{name}\" has gone"),
                false => format!(
                    "\"{name}\" was already finishing when this message came: what a step on a loop \
                 emits in finish can only go forward"
                ),
            },
        );
        let failed =
            Failed { attempt: message.attempt + 1, worker: None, cause: Cause::Late, failure };
        self.give_up(step, None, message, failed);
    }

    pub(super) fn finish_worker(&mut self, worker: Slot) {
        self.workers[worker].state = State::Finishing;
        self.workers[worker].since = self.clock.now;
        self.actions.push(Action::Finish { worker: self.workers.id(worker) });
    }

    pub(super) fn finished(
        &mut self,
        worker: Slot,
        result: Result<()>,
        outputs: Vec<Output>,
        now: Duration,
    ) {
        if self.workers[worker].state != State::Finishing {
            return;
        }
        if let Err(error) = self.check_routes(worker, &outputs) {
            return self.dismiss(worker, error.to_string(), now);
        }
        self.stage_outputs(worker, outputs);
        if let Err(failure) = result {
            self.finish_failed(worker, failure);
        }
        self.observe(Change::Finished { worker });
        self.spend(worker, now);
        self.workers[worker].kept = 0;
        self.workers[worker].retiring = false;
        self.stop_worker(worker);
        // It was let go because there was nothing to do: it may be started again.
        if self.steps[self.workers[worker].step].phase == Phase::Running {
            self.workers[worker].state = State::Spare;
        }
        self.commit_outputs(worker);
        if self.steps[self.workers[worker].step].plan.acknowledges {
            self.end_acknowledging();
        }
    }

    pub(super) fn stop_worker(&mut self, worker: Slot) {
        self.workers[worker].state = State::Gone;
        self.steps.mark_dirty(self.workers[worker].step);
        // A replacement that has not been started need not be told.
        if self.workers[worker].respawn_at.take().is_none() {
            self.actions.push(Action::Stop { worker: self.workers.id(worker) });
        }
        self.workers[worker].epoch += 1;
    }

    /// Stops production; what was produced is processed to its end.
    pub(super) fn drain(&mut self, reason: &str) {
        if self.ending.drain() {
            self.publish(Event::Stopping { reason: reason.into() });
            self.resume_all();
            self.end_backoffs();
        }
    }

    /// Drains, and keeps the reason for the verdict.
    pub(super) fn halt(&mut self, reason: String) {
        self.drain(&reason);
        self.ending.end_production(reason);
    }

    /// Drops what waits and awaits what is in hand; then the steps finish as usual, so that
    /// files are closed.
    pub(super) fn abandon(&mut self, reason: String) {
        if !self.ending.abandon(&reason) {
            return;
        }
        self.publish(Event::Stopping { reason });
        // What waits is dropped: there is nothing left to order.
        self.observers.order = None;
        self.resume_all();
        self.drop_waiting();
    }

    fn drop_waiting(&mut self) {
        self.end_deferrals();
        for step in self.steps.ids() {
            let batches = self.steps[step].queue.clear();
            self.observe(Change::Dropped { step, worker: None, batches: &batches });
            let count: usize = batches.iter().map(Batch::count).sum();
            self.steps[step].counts.dropped += count as u64;
            self.complete(step, count);
            self.steps[step].waiting.iter_mut().for_each(VecDeque::clear);
        }
        for worker in self.workers.slots() {
            let from = self.workers[worker].step;
            for Held { to, batch, .. } in self.workers[worker].take_held() {
                let count = batch.count();
                self.steps[to].counts.received += count as u64;
                self.steps[to].counts.dropped += count as u64;
                self.complete(from, count);
                self.observe(Change::Dropped { step: to, worker: None, batches: &[batch] });
            }
        }
    }

    /// Whether every message was processed and every stage has finished.
    pub(crate) fn has_done_all(&self) -> bool {
        self.is_over() && !self.ending.is_abandoned() && self.ending.finish_failures.is_empty()
    }

    /// Stops the workers of a run in which an `init` failed: no stage has anything to finish.
    pub(super) fn stop_ready_workers(&mut self) {
        for worker in self.workers.slots() {
            if self.workers[worker].state == State::Ready {
                self.stop_worker(worker);
            }
        }
    }

    pub(super) fn stop_now(&mut self, now: Duration) {
        self.ending.interrupt();
        self.abandon_now("stopped at once; the remaining messages are dropped".into(), now);
    }

    /// Stops at once, for this reason.
    pub(super) fn abandon_now(&mut self, reason: String, now: Duration) {
        self.abandon(reason);
        for worker in self.workers.slots() {
            self.spend(worker, now);
            let Worker { step, in_hand_count, .. } = self.workers[worker];
            if in_hand_count > 0 {
                self.steps[step].counts.dropped += in_hand_count as u64;
                let batches = &self.workers[worker].take_from_hand(in_hand_count);
                self.observe(Change::Dropped { step, worker: Some(worker), batches });
            }
        }
        self.acknowledge();
        for worker in self.workers.slots() {
            match self.workers[worker].state {
                State::Gone => {}
                State::Spare => self.workers[worker].state = State::Gone,
                _ => self.stop_worker(worker),
            }
        }
        self.state = RunState::Over;
    }
}
