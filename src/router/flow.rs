//! How messages move: commitment of outputs, backpressure, dispatch, grants.

use std::time::Duration;

use super::step::Route;
use super::{Action, Attempted, Batching, Held, Phase, ProducerState, Router, State, Worker};
use crate::base::ids::{RouteId, Slot, StepId};
use crate::event::Cause;
use crate::message::batch::{Batch, Output};
use crate::protocol::report::{Completion, Outcome, Production};
use crate::stage::Next;

/// A worker is given as much work ahead as it does in about this time: short
/// tasks travel in batches, long ones alone.
const AHEAD: Duration = Duration::from_micros(200);
/// In Python taking a batch in and reporting on it costs about as much as that,
/// so batches of very short tasks are longer there.
const AHEAD_IN_PYTHON: Duration = Duration::from_millis(3);
/// What counts as very short.
const VERY_SHORT: Duration = Duration::from_micros(50);
/// The most messages that a worker has in hand.
const MOST_IN_HAND: usize = 1024;
/// Beyond its first message a worker is given no more than this many bytes.
const BYTES_AHEAD: usize = 1 << 20;

impl Router {
    pub(super) fn done(
        &mut self,
        worker: Slot,
        completions: Vec<Completion>,
        outputs: Vec<Output>,
        now: Duration,
    ) {
        if let Err(reason) = self.check_report(worker, &completions, &outputs) {
            return self.dismiss(worker, reason, now);
        }
        let step = self.workers[worker].step;
        self.steps[step].lost_in_vain = 0;
        self.hold(worker, outputs);
        for completion in completions {
            self.steps[step].times.record(completion.busy, completion.count);
            self.workers[worker].busy += completion.busy;
            let taken = self.take_from_hand(worker, completion.count as usize);
            let (cause, failure) = match completion.outcome {
                Outcome::Done => {
                    self.mark_done(worker, &taken, completion.busy, completion.count);
                    self.items_done(step, &taken);
                    self.forget_losses(&taken);
                    self.order_leaves(taken.iter().map(Batch::first));
                    let counts = &mut self.steps[step].counts;
                    counts.done += u64::from(completion.count);
                    if self.steps[step].gathers {
                        self.workers[worker].kept += u64::from(completion.count);
                    }
                    if !self.steps[step].routes.is_empty() {
                        self.steps[step].counts.filtered += u64::from(completion.silent);
                    }
                    self.leave(step, completion.count as usize);
                    continue;
                }
                Outcome::Failed(failure) => (Cause::Failed, failure),
                Outcome::Panicked(failure) => (Cause::Panicked, failure),
            };
            for message in taken.into_iter().flat_map(Batch::into_messages) {
                let (failure, busy) = (failure.clone(), Some(completion.busy));
                let failed = Attempted { cause, failure, busy, free: 0 };
                self.attempt_failed(worker, message, failed, now);
            }
        }
        self.workers[worker].since = now;
        self.used(worker);
        self.place(worker);
        self.touch(step);
    }

    /// Takes the oldest `count` messages out of the worker's hands.
    pub(super) fn take_from_hand(&mut self, worker: Slot, count: usize) -> Vec<Batch> {
        let worker = &mut self.workers[worker];
        let mut taken = Vec::new();
        let mut left = count.min(worker.in_hand_count);
        worker.in_hand_count -= left;
        while left > 0 {
            let Some(first) = worker.in_hand.front_mut() else { break };
            let batch = if first.count() > left {
                Some(first.split_to(left))
            } else {
                worker.in_hand.pop_front()
            };
            left -= batch.as_ref().map_or(left, Batch::count);
            taken.extend(batch);
        }
        taken
    }

    /// A report must name the worker's oldest messages in order; anything else
    /// is a fault of the worker.
    fn check_report(
        &self,
        worker: Slot,
        completions: &[Completion],
        outputs: &[Output],
    ) -> Result<(), String> {
        let Worker { state, ref in_hand, .. } = self.workers[worker];
        if state != State::Ready || completions.is_empty() {
            return Err("it reported on work that it was not given".into());
        }
        let mut expected = in_hand.iter().flat_map(|batch| batch.first().successive(batch.count()));
        for completion in completions {
            let others = (completion.count as usize).saturating_sub(1);
            let as_given = completion.count > 0
                && (completion.count == 1 || completion.outcome == Outcome::Done)
                && completion.silent <= completion.count
                && expected.next() == Some(completion.first)
                && (others == 0 || expected.nth(others - 1).is_some());
            if !as_given {
                return Err("it reported on messages that it was not given".into());
            }
        }
        self.check_routes(worker, outputs)
    }

    pub(super) fn check_routes(&self, worker: Slot, outputs: &[Output]) -> Result<(), String> {
        let routes = self.steps[self.workers[worker].step].routes.len();
        match outputs.iter().map(Output::route).find(|route| route.index() >= routes) {
            Some(RouteId(route)) => Err(format!("it sent to next step {route} of {routes}")),
            None => Ok(()),
        }
    }

    pub(super) fn produced(
        &mut self,
        worker: Slot,
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
        self.steps[step].times.record(production.busy, production.calls);
        self.mark_produced(worker, production.calls, production.busy);
        self.workers[worker].busy += production.busy;
        self.hold(worker, outputs);
        let Some(result) = production.result else {
            // The call that is going on began when those before it had ended.
            let since = self.workers[worker].since;
            self.workers[worker].since = since.saturating_add(production.busy).min(now);
            self.consecutive_producer_failures = 0;
            return self.place(worker);
        };
        self.workers[worker].since = now;
        // Of several calls only the last can have failed.
        if production.calls > 1 || result.is_ok() {
            self.consecutive_producer_failures = 0;
        }
        let state = match result {
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

    /// Takes the outputs of a report in: from here on they are the router's, whatever
    /// becomes of the worker.
    pub(super) fn hold(&mut self, worker: Slot, outputs: Vec<Output>) {
        let held = self.workers[worker].held.len();
        outputs.into_iter().for_each(|output| self.hold_one(worker, output));
        self.order_outputs(worker, held);
    }

    fn hold_one(&mut self, worker: Slot, output: Output) {
        self.item_enters(worker, &output);
        let step = &mut self.steps[self.workers[worker].step];
        let route = &step.routes[output.route().index()];
        let count = output.count();
        step.counts.emitted += count as u64;
        step.sent[output.route().index()] += count as u64;
        let batch = Batch::new(self.next_id, output);
        self.next_id = self.next_id.plus(count);
        let Route { to, feedback } = *route;
        self.groups.enter(step.group, count);
        let held = &mut self.workers[worker].held;
        if self.ordered.is_some() {
            // In order each message goes its own way.
            let single = batch.into_messages().map(Batch::One);
            held.extend(single.map(|batch| Held { to, feedback, batch }));
        } else {
            held.push_back(Held { to, feedback, batch });
        }
    }

    /// Moves the worker's held outputs into their queues, in order, until one
    /// finds no room; then the worker waits its turn at that queue.
    pub(super) fn place(&mut self, worker: Slot) {
        let from = self.workers[worker].step;
        while let Some(held) = self.workers[worker].held.front_mut() {
            let to = held.to;
            let target = &self.steps[to];
            let exempt = held.feedback
                || target.phase != Phase::Running
                || self.ordered.as_ref().is_some_and(|ordered| ordered.is_end(to));
            let in_turn = target.waiting.front().is_none_or(|first| *first == worker);
            let admitted = match exempt || self.abandoned.is_some() {
                true => held.batch.count(),
                false if in_turn => target.queue.admits(&held.batch),
                false => 0,
            };
            if admitted == 0 {
                if !target.waiting.contains(&worker) {
                    self.steps[to].waiting.push_back(worker);
                }
                return;
            }
            let batch = if admitted < held.batch.count() {
                held.batch.split_to(admitted)
            } else {
                let Some(held) = self.workers[worker].held.pop_front() else { return };
                held.batch
            };
            if self.steps[to].waiting.front() == Some(&worker) {
                self.steps[to].waiting.pop_front();
            }
            self.arrive(to, batch);
            self.leave(from, admitted);
        }
        self.touch(from);
    }

    /// Messages reach their step.
    fn arrive(&mut self, to: StepId, batch: Batch) {
        let count = batch.count();
        let step = &mut self.steps[to];
        step.counts.received += count as u64;
        if self.abandoned.is_some() {
            step.counts.dropped += count as u64;
            return self.items_dropped(to, None, [&batch]);
        }
        self.groups.enter(step.group, count);
        if step.phase != Phase::Running {
            return batch.into_messages().for_each(|message| self.arrived_late(to, message));
        }
        self.mark_queued(&batch);
        match self.order_in_queue(to, batch.first()) {
            Some(place) => self.steps[to].queue.insert(place, batch),
            None => self.steps[to].queue.push(batch),
        }
        self.touch(to);
    }

    /// `count` messages of the step have come to their end.
    pub(super) fn leave(&mut self, step: StepId, count: usize) {
        self.groups.leave(self.steps[step].group, count);
    }

    /// Moves what can be moved; false if nothing could.
    pub(super) fn move_messages(&mut self, now: Duration) -> bool {
        // Time alone can make a retry due or end a producer's idleness.
        for step in self.steps.ids() {
            let due = self.steps[step].queue.next_due().is_some_and(|due| due <= now);
            if due || self.steps[step].is_producer || self.batching == Batching::OneByOne {
                self.touch(step);
            }
        }
        if self.batching == Batching::OneByOne {
            // The last step comes first: what can be finished does not wait for what is not
            // begun, and is not lost should the run be stopped.
            self.touched.sort_unstable();
        }
        let mut moved = false;
        while let Some(step) = self.touched.pop() {
            moved |= self.grant(step, now) | self.dispatch(step, now);
            moved |= self.admit_waiting(step);
        }
        moved
    }

    /// Lets the workers that wait for room in the step's queue place their outputs.
    fn admit_waiting(&mut self, step: StepId) -> bool {
        let mut moved = false;
        while let Some(&worker) = self.steps[step].waiting.front() {
            let received = self.steps[step].counts.received;
            self.place(worker);
            if self.steps[step].counts.received == received {
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
    fn dispatch(&mut self, step: StepId, now: Duration) -> bool {
        if self.is_paused(step) {
            return false;
        }
        let depth = self.depth(step);
        let mut moved = false;
        while self.steps[step].queue.servable(now) > 0
            && self.may_begin()
            && self.is_next_in_order(step, now)
        {
            let eligible = |slot: &&Slot| {
                let worker = &self.workers[**slot];
                worker.state == State::Ready
                    && !worker.retiring
                    && worker.held.is_empty()
                    && worker.in_hand_count < depth
            };
            let workers = &self.steps[step].workers;
            let count = workers.iter().filter(eligible).count();
            let chosen = workers.iter().filter(eligible).min_by_key(|slot| {
                let worker = &self.workers[**slot];
                (worker.in_hand_count, worker.last_used)
            });
            let Some(&worker) = chosen else { break };
            let share = self.steps[step].queue.servable(now).div_ceil(count);
            let most = share.min(depth - self.workers[worker].in_hand_count);
            self.give(worker, most.min(self.room_ahead(step)).max(1), now);
            moved = true;
        }
        moved
    }

    fn give(&mut self, worker: Slot, most: usize, now: Duration) {
        let step = self.workers[worker].step;
        let mut batches: Vec<Batch> = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        while count < most && (count == 0 || bytes < BYTES_AHEAD) {
            let Some(batch) = self.steps[step].queue.pop(most - count, now) else { break };
            count += batch.count();
            bytes += batch.len();
            batches.push(batch);
        }
        let hand = &mut self.workers[worker];
        if hand.in_hand.is_empty() {
            hand.since = now;
        }
        hand.in_hand_count += count;
        hand.in_hand.extend(batches.iter().cloned());
        self.mark_given(&batches, now);
        self.used(worker);
        // There is room now for those that wait.
        self.touch(step);
        self.actions.push(Action::Work { worker: self.workers.id(worker), batches });
    }

    fn grant(&mut self, step: StepId, now: Duration) -> bool {
        if !self.steps[step].is_producer
            || self.draining
            || self.is_paused(step)
            || self.results_are_many()
        {
            return false;
        }
        let count = self.depth(step).min(self.room_ahead(step));
        let mut moved = false;
        for position in 0..self.steps[step].workers.len() {
            let index = self.steps[step].workers[position];
            let free = self.may_begin();
            let worker = &mut self.workers[index];
            let due = matches!(worker.producer, ProducerState::Idle(until) if until <= now);
            if count > 0 && due && worker.may_be_granted() && free {
                worker.producer = ProducerState::Granted;
                worker.since = now;
                self.groups.enter(self.steps[step].group, 1);
                self.actions
                    .push(Action::Grant { worker: self.workers.id(index), count: count as u32 });
                moved = true;
            }
        }
        moved
    }

    /// How many messages a worker of the step may have in hand.
    fn depth(&self, step: StepId) -> usize {
        if self.batching != Batching::Adaptive
            || (self.ordered.is_some() && !self.steps[step].is_producer)
        {
            return 1;
        }
        match self.steps[step].times.recent() {
            None => 1,
            Some(mean) => {
                let in_python = self.steps[step].in_python && mean < VERY_SHORT;
                let ahead = if in_python { AHEAD_IN_PYTHON } else { AHEAD };
                let ahead = ahead.as_nanos() / mean.as_nanos().max(1);
                usize::try_from(ahead).unwrap_or(MOST_IN_HAND).saturating_add(1).min(MOST_IN_HAND)
            }
        }
    }

    /// The room in the fullest of the queues that the step emits into: a batch
    /// should not make more than can be placed.
    fn room_ahead(&self, step: StepId) -> usize {
        let bounded = self.steps[step].routes.iter().filter(|route| !route.feedback);
        bounded.map(|route| self.steps[route.to].queue.room()).min().unwrap_or(usize::MAX)
    }

    pub(super) fn used(&mut self, worker: Slot) {
        self.uses += 1;
        self.workers[worker].last_used = self.uses;
    }
}
