//! How messages move: commitment of outputs, backpressure, dispatch, grants.

use std::time::Duration;

use super::{
    Action, Batches, Completion, Held, Outcome, Phase, ProducerState, Production, Router, State,
};
use crate::event::Cause;
use crate::message::{Message, Origin, Output};
use crate::stage::Next;

/// A worker is given as much work ahead as it does in about this time: short
/// tasks travel in batches, long ones alone.
const AHEAD: Duration = Duration::from_micros(200);
/// The most messages that a worker has in hand.
const MOST_IN_HAND: usize = 128;
/// Beyond its first message a worker is given no more than this many bytes.
const BYTES_AHEAD: usize = 1 << 20;

impl Router {
    pub(super) fn done(
        &mut self,
        worker: usize,
        completions: Vec<Completion>,
        outputs: Vec<Output>,
        now: Duration,
    ) {
        if let Err(reason) = self.check_report(worker, &completions, &outputs) {
            return self.dismiss(worker, reason, now);
        }
        let step = self.workers[worker].step;
        let mut outputs = outputs.into_iter();
        for completion in completions {
            let Some(message) = self.workers[worker].in_hand.pop_front() else { break };
            self.steps[step].times.record(completion.busy);
            let emitted = outputs.by_ref().take(completion.outputs as usize);
            match completion.outcome {
                Outcome::Done => {
                    let filtered = completion.outputs == 0 && !self.steps[step].routes.is_empty();
                    let counts = &mut self.steps[step].counts;
                    counts.done += 1;
                    counts.filtered += u64::from(filtered);
                    for output in emitted {
                        self.hold(worker, output, &message.origin);
                    }
                    self.leave(step, 1);
                }
                Outcome::Failed(failure) => {
                    emitted.for_each(drop);
                    self.attempt_failed(worker, message, Cause::Failed, failure, now);
                }
                Outcome::Panicked(failure) => {
                    emitted.for_each(drop);
                    self.attempt_failed(worker, message, Cause::Panicked, failure, now);
                }
            }
        }
        self.workers[worker].since = now;
        self.used(worker);
        self.place(worker);
        self.touch(step);
    }

    /// A report must name the worker's oldest messages in order and account
    /// for every output; anything else is a fault of the worker.
    fn check_report(
        &self,
        worker: usize,
        completions: &[Completion],
        outputs: &[Output],
    ) -> Result<(), String> {
        let in_hand = &self.workers[worker].in_hand;
        let ids_match = completions.len() <= in_hand.len()
            && completions.iter().zip(in_hand).all(|(c, message)| c.id == message.id);
        if !ids_match {
            return Err("it reported on messages that it was not given".into());
        }
        let accounted: usize = completions.iter().map(|c| c.outputs as usize).sum();
        if accounted != outputs.len() {
            return Err(format!("it sent {} outputs and accounted for {accounted}", outputs.len()));
        }
        self.check_routes(worker, outputs)
    }

    fn check_routes(&self, worker: usize, outputs: &[Output]) -> Result<(), String> {
        let routes = self.steps[self.workers[worker].step].routes.len();
        match outputs.iter().find(|output| output.route as usize >= routes) {
            Some(output) => Err(format!("it sent to next step {} of {routes}", output.route)),
            None => Ok(()),
        }
    }

    pub(super) fn produced(
        &mut self,
        worker: usize,
        production: Production,
        outputs: Vec<Output>,
        now: Duration,
    ) {
        if self.workers[worker].producer != ProducerState::Granted {
            return;
        }
        if let Err(reason) = self.check_routes(worker, &outputs) {
            return self.dismiss(worker, reason, now);
        }
        let step = self.workers[worker].step;
        if production.calls > 0 {
            self.steps[step].times.record_calls(production.busy, production.calls);
        }
        for output in outputs {
            self.hold(worker, output, &None);
        }
        // Of several calls only the last can have failed.
        if production.calls > 1 || production.result.is_ok() {
            self.consecutive_producer_failures = 0;
        }
        let state = match production.result {
            Ok(Next::More) => ProducerState::Idle(Duration::ZERO),
            Ok(Next::Idle(wait)) => ProducerState::Idle(now.saturating_add(wait)),
            Ok(Next::Done) => ProducerState::Exhausted,
            Err(failure) => self.production_failed(worker, failure, now),
        };
        self.workers[worker].producer = state;
        self.leave(step, 1);
        self.used(worker);
        self.place(worker);
        self.touch(step);
    }

    /// Takes an output in: from here on it is the router's, whatever becomes
    /// of the worker.
    pub(super) fn hold(&mut self, worker: usize, output: Output, inherited: &Origin) {
        let step = &mut self.steps[self.workers[worker].step];
        let route = &step.routes[output.route as usize];
        step.counts.emitted += 1;
        let message = Message {
            id: self.next_id,
            attempt: 0,
            origin: output.origin.or_else(|| inherited.clone()),
            payload: output.payload,
        };
        self.next_id += 1;
        let held = Held { to: route.to, feedback: route.feedback, message };
        self.groups.enter(step.group, 1);
        self.workers[worker].held.push_back(held);
    }

    /// Moves the worker's held outputs into their queues, in order, until one
    /// finds no room; then the worker waits its turn at that queue.
    pub(super) fn place(&mut self, worker: usize) {
        let from = self.workers[worker].step;
        while let Some(held) = self.workers[worker].held.front() {
            let to = held.to;
            let target = &self.steps[to];
            let exempt = held.feedback || target.phase != Phase::Running;
            if !exempt && self.abandoned.is_none() {
                let in_turn = target.waiting.front().is_none_or(|first| *first == worker);
                if !in_turn || !target.queue.admits(&held.message) {
                    if !target.waiting.contains(&worker) {
                        self.steps[to].waiting.push_back(worker);
                    }
                    return;
                }
            }
            let Some(held) = self.workers[worker].held.pop_front() else { return };
            if self.steps[to].waiting.front() == Some(&worker) {
                self.steps[to].waiting.pop_front();
            }
            self.arrive(to, held.message);
            self.leave(from, 1);
        }
        self.touch(from);
    }

    /// A message reaches its step.
    fn arrive(&mut self, to: usize, message: Message) {
        let step = &mut self.steps[to];
        step.counts.received += 1;
        if self.abandoned.is_some() {
            step.counts.dropped += 1;
            return;
        }
        self.groups.enter(step.group, 1);
        if step.phase != Phase::Running {
            return self.arrived_late(to, message);
        }
        step.queue.push(message);
        self.touch(to);
    }

    /// `count` messages of the step have come to their end.
    pub(super) fn leave(&mut self, step: usize, count: usize) {
        self.groups.leave(self.steps[step].group, count);
    }

    /// Moves what can be moved; false if nothing could.
    pub(super) fn move_messages(&mut self, now: Duration) -> bool {
        // Time alone can make a retry due or end a producer's idleness.
        for step in 0..self.steps.len() {
            let due = self.steps[step].queue.next_due().is_some_and(|due| due <= now);
            if due || self.steps[step].is_producer {
                self.touch(step);
            }
        }
        let mut moved = false;
        while let Some(step) = self.touched.pop() {
            moved |= self.grant(step, now) | self.dispatch(step, now);
            moved |= self.admit_waiting(step);
        }
        moved
    }

    /// Lets the workers that wait for room in the step's queue place their outputs.
    fn admit_waiting(&mut self, step: usize) -> bool {
        let mut moved = false;
        while let Some(&worker) = self.steps[step].waiting.front() {
            let held = self.workers[worker].held.len();
            self.place(worker);
            if self.workers[worker].held.len() == held {
                break;
            }
            moved = true;
            // Having placed some, the worker may wait for this queue again:
            // behind the others.
            if self.steps[step].waiting.front() == Some(&worker) {
                break;
            }
        }
        moved
    }

    /// Hands the step's messages to its workers: to the one with the least in
    /// hand, and of several to the least recently used.
    fn dispatch(&mut self, step: usize, now: Duration) -> bool {
        let depth = self.depth(step);
        let mut moved = false;
        while self.steps[step].queue.servable(now) > 0 {
            let eligible = |index: &&usize| {
                let worker = &self.workers[**index];
                worker.state == State::Ready
                    && worker.held.is_empty()
                    && worker.in_hand.len() < depth
            };
            let workers = &self.steps[step].workers;
            let count = workers.iter().filter(eligible).count();
            let chosen = workers.iter().filter(eligible).min_by_key(|index| {
                let worker = &self.workers[**index];
                (worker.in_hand.len(), worker.last_used)
            });
            let Some(&worker) = chosen else { break };
            let share = self.steps[step].queue.servable(now).div_ceil(count);
            let most = share.min(depth - self.workers[worker].in_hand.len());
            self.give(worker, most.min(self.room_ahead(step)).max(1), now);
            moved = true;
        }
        moved
    }

    fn give(&mut self, worker: usize, most: usize, now: Duration) {
        let step = self.workers[worker].step;
        let mut messages: Vec<Message> = Vec::with_capacity(most);
        let mut bytes = 0;
        while messages.len() < most && (messages.is_empty() || bytes < BYTES_AHEAD) {
            let Some(message) = self.steps[step].queue.pop(now) else { break };
            bytes += message.payload.len();
            messages.push(message);
        }
        if self.workers[worker].in_hand.is_empty() {
            self.workers[worker].since = now;
        }
        self.workers[worker].in_hand.extend(messages.iter().cloned());
        self.used(worker);
        // There is room now for those that wait.
        self.touch(step);
        self.actions.push(Action::Work { worker, messages });
    }

    fn grant(&mut self, step: usize, now: Duration) -> bool {
        if !self.steps[step].is_producer || self.draining {
            return false;
        }
        let count = self.depth(step).min(self.room_ahead(step));
        let mut moved = false;
        for position in 0..self.steps[step].workers.len() {
            let index = self.steps[step].workers[position];
            let worker = &mut self.workers[index];
            let due = matches!(worker.producer, ProducerState::Idle(until) if until <= now);
            if count > 0 && due && worker.may_be_granted() {
                worker.producer = ProducerState::Granted;
                self.groups.enter(self.steps[step].group, 1);
                self.actions.push(Action::Grant { worker: index, count: count as u32 });
                moved = true;
            }
        }
        moved
    }

    /// How many messages a worker of the step may have in hand.
    fn depth(&self, step: usize) -> usize {
        if self.batches == Batches::Single {
            return 1;
        }
        match self.steps[step].times.recent() {
            None => 1,
            Some(mean) => {
                let ahead = AHEAD.as_nanos() / mean.as_nanos().max(1);
                usize::try_from(ahead).unwrap_or(MOST_IN_HAND).saturating_add(1).min(MOST_IN_HAND)
            }
        }
    }

    /// The room in the fullest of the queues that the step emits into: a batch
    /// should not make more than can be placed.
    fn room_ahead(&self, step: usize) -> usize {
        let bounded = self.steps[step].routes.iter().filter(|route| !route.feedback);
        bounded.map(|route| self.steps[route.to].queue.room()).min().unwrap_or(usize::MAX)
    }

    pub(super) fn used(&mut self, worker: usize) {
        self.uses += 1;
        self.workers[worker].last_used = self.uses;
    }
}
