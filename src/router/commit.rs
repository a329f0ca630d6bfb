//! How messages move: commitment of outputs, backpressure, dispatch, grants.

use std::iter::repeat_n;
use std::time::Duration;

use super::acknowledge::descend;
use super::bad_report::BadReport;
use super::line::Line;
use super::observe::{Change, Hand};
use super::policy::dispatch::{self, Portion};
use super::step::Route;
use super::worker::BYTES_AHEAD;
use super::{
    Action, Alarm, Attempted, Batching, Held, Phase, ProducerState, Router, State, Worker,
};
use crate::base::ids::{MessageId, RouteId, Slot, StepId};
use crate::event::Cause;
use crate::message::Priority;
use crate::message::batch::{Batch, Output};
use crate::protocol::report::{Completion, Outcome, Production};
use crate::stage::Next;

impl Router {
    pub(super) fn done(
        &mut self,
        worker: Slot,
        completions: Vec<Completion>,
        outputs: Vec<Output>,
        now: Duration,
    ) {
        if let Err(error) = self.check_report(worker, &completions, &outputs) {
            return self.dismiss(worker, error.to_string(), now);
        }
        let step = self.workers[worker].step;
        self.steps[step].pool.consecutive_crashes = 0;
        self.stage_outputs(worker, self.without_cancelled(outputs));
        for completion in completions {
            self.steps[step].times.record(completion.busy, completion.count);
            self.workers[worker].busy += completion.busy;
            let taken = self.workers[worker].take_from_hand(completion.count as usize);
            let hand = Hand { worker, busy: Some(completion.busy) };
            let (cause, failure) = match completion.outcome {
                Outcome::Done => {
                    let done = self.drop_done(step, worker, taken);
                    self.batches_done(step, hand, &done, completion.silent);
                    continue;
                }
                Outcome::Failed(failure) => (Cause::Failed, failure),
                Outcome::Deferred { wait, why } => {
                    for message in taken.into_iter().flat_map(Batch::into_messages) {
                        self.deferred(hand, message, (wait, why.clone()), now);
                    }
                    continue;
                }
                Outcome::Panicked(failure) => (Cause::Panicked, failure),
            };
            for message in taken.into_iter().flat_map(Batch::into_messages) {
                let failed = Attempted { cause, failure: failure.clone(), forgivable: 0 };
                self.attempt_failed(hand, message, failed, now);
            }
        }
        self.workers[worker].since = now;
        self.workers[worker].is_slow = false;
        self.workers.used(worker);
        self.commit_outputs(worker);
        self.steps.mark_dirty(step);
    }

    /// Counts messages that are done, of which `silent` have emitted nothing.
    fn batches_done(&mut self, step: StepId, hand: Hand, batches: &[Batch], silent: u32) {
        let count: usize = batches.iter().map(Batch::count).sum();
        if count == 0 {
            return;
        }
        self.observe(Change::Done { step, hand, batches });
        self.failures.forget(batches);
        self.deferrals.forget(batches);
        self.bring_news();
        self.mark_ordered_ends_dirty();
        let of_step = &mut self.steps[step];
        of_step.counts.done += count as u64;
        if !of_step.routes.is_empty() {
            of_step.counts.filtered += u64::from(silent).min(count as u64);
        }
        if of_step.plan.stateful {
            self.workers[hand.worker].kept += count as u64;
        }
        self.complete(step, count);
    }

    /// Puts messages that a worker gives back at the head of their queue, so that they do not
    /// wait for the worker's present call. It gets no others before it reports.
    pub(super) fn returned(&mut self, worker: Slot, first: MessageId, count: u32, now: Duration) {
        let Some(batches) = self.workers[worker].take_back(first, count as usize) else {
            let reason = "it gave back messages that it was not given".to_owned();
            return self.dismiss(worker, reason, now);
        };
        self.workers[worker].is_slow = true;
        self.give_back(worker, batches);
        self.steps.mark_dirty(self.workers[worker].step);
    }

    /// A report must name the worker's oldest messages in order; anything else
    /// is a fault of the worker.
    fn check_report(
        &self,
        worker: Slot,
        completions: &[Completion],
        outputs: &[Output],
    ) -> Result<(), BadReport> {
        let Worker { state, ref in_hand, .. } = self.workers[worker];
        if state != State::Ready || completions.is_empty() {
            return Err(BadReport::NotAtWork);
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
                return Err(BadReport::NotItsMessages);
            }
        }
        if self.acknowledging.is_some() {
            let items = in_hand.iter().flat_map(|batch| repeat_n(batch.item(), batch.count()));
            let each = |one: &Completion| (one.outcome == Outcome::Done, one.count as usize);
            let are_done = completions.iter().map(each).flat_map(|(is, count)| repeat_n(is, count));
            let done = items.zip(are_done).filter(|(_, is_done)| *is_done).map(|(item, _)| item);
            if !descend(outputs, done) {
                return Err(BadReport::NotItsItems);
            }
        }
        self.check_routes(worker, outputs)
    }

    pub(super) fn check_routes(&self, worker: Slot, outputs: &[Output]) -> Result<(), BadReport> {
        let step = &self.steps[self.workers[worker].step];
        let routes = step.routes.len();
        let results = *step.plan.options.results;
        let is_known =
            |route: &RouteId| route.index() < routes || (results && *route == RouteId::RESULTS);
        match outputs.iter().map(Output::route).find(|route| !is_known(route)) {
            Some(RouteId(route)) => Err(BadReport::NoSuchRoute { route, routes }),
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
        let is_feed = self.steps[self.workers[worker].step].plan.feed;
        let checked = match self.workers[worker].producer {
            ProducerState::Feeding if self.workers[worker].is_starting() => {
                Err(BadReport::NotAtWork)
            }
            ProducerState::Granted | ProducerState::Feeding => {
                let routes = self.check_routes(worker, &outputs);
                routes.and_then(|()| self.check_items(worker, &outputs))
            }
            ProducerState::Exhausted if is_feed => Err(BadReport::AfterTheLast),
            ProducerState::Exhausted | ProducerState::Idle(_) | ProducerState::AtBarrier => return,
        };
        if let Err(error) = checked {
            return self.dismiss(worker, error.to_string(), now);
        }
        if is_feed {
            return self.fed(worker, production, outputs, now);
        }
        let step = self.workers[worker].step;
        self.steps[step].times.record(production.busy, production.calls);
        let Production { calls, busy, .. } = production;
        self.observe(Change::Produced { worker, calls, busy });
        self.workers[worker].busy += production.busy;
        self.stage_outputs(worker, outputs);
        let Some(result) = production.result else {
            // The call that is going on began when those before it had ended.
            let since = self.workers[worker].since;
            self.workers[worker].since = since.saturating_add(production.busy).min(now);
            self.workers[worker].consecutive_failures = 0;
            return self.commit_outputs(worker);
        };
        self.workers[worker].since = now;
        // Of several calls only the last can have failed.
        if production.calls > 1 || result.is_ok() {
            self.workers[worker].consecutive_failures = 0;
        }
        let state = match result {
            Ok(Next::More) => {
                self.wait_of(worker, Duration::ZERO);
                ProducerState::Idle(Duration::ZERO)
            }
            Ok(Next::Idle(wait)) => {
                let wait = self.wait_of(worker, wait);
                ProducerState::Idle(now.saturating_add(wait))
            }
            Ok(Next::Barrier) => {
                // Until the barrier has fallen it is told of everything.
                self.wait_of(worker, Duration::ZERO);
                ProducerState::AtBarrier
            }
            Ok(Next::Done) => ProducerState::Exhausted,
            Err(failure) => self.production_failed(worker, failure, now),
        };
        if let ProducerState::Idle(until) = state
            && until > now
        {
            self.clock.set(until, Alarm::Step(step));
        }
        self.workers[worker].producer = state;
        self.complete(step, 1);
        self.commit_outputs(worker);
        self.steps.mark_dirty(step);
    }

    /// Takes the outputs of a report in: from here on they are the router's, whatever
    /// becomes of the worker.
    pub(super) fn stage_outputs(&mut self, worker: Slot, outputs: Vec<Output>) {
        let first = self.steps.number(0);
        outputs.into_iter().for_each(|output| self.stage_output(worker, output));
        self.observe(Change::Emitted { worker, first });
    }

    fn stage_output(&mut self, worker: Slot, output: Output) {
        let from = self.workers[worker].step;
        if output.route() == RouteId::RESULTS {
            return self.take_result(from, output);
        }
        let step = &mut self.steps[from];
        let route = &mut step.routes[output.route().index()];
        let count = output.count();
        step.counts.emitted += count as u64;
        route.sent += count as u64;
        let Route { to, feedback, .. } = *route;
        let batch = Batch::new(self.steps.number(count), output);
        self.groups.enter(from, count);
        let held = &mut self.workers[worker].held[batch.priority()];
        if self.observers.order.is_some() {
            // In order each message goes its own way.
            let single = batch.into_messages().map(Batch::One);
            held.extend(single.map(|batch| Held { to, feedback, batch }));
        } else {
            held.push_back(Held { to, feedback, batch });
        }
    }

    /// Moves the worker's held outputs into their queues, those of each priority in order, until
    /// one finds no room; then the worker waits its turn at that queue.
    pub(super) fn commit_outputs(&mut self, worker: Slot) {
        Priority::ALL.into_iter().for_each(|priority| self.commit_held(worker, priority));
        if !self.workers[worker].holds() {
            self.steps.mark_dirty(self.workers[worker].step);
        }
    }

    fn commit_held(&mut self, worker: Slot, priority: Priority) {
        let from = self.workers[worker].step;
        while let Some(held) = self.workers[worker].held[priority].front_mut() {
            let to = held.to;
            let target = &self.steps[to];
            let exempt = held.feedback
                || target.phase != Phase::Running
                || self.observers.is_ordered_end(to);
            let waiting = &target.waiting[priority];
            let in_turn = waiting.front().is_none_or(|first| *first == worker);
            let admitted = match exempt || self.ending.is_abandoned() {
                true => held.batch.count(),
                false if in_turn => target.queue.admits(&held.batch),
                false => 0,
            };
            if admitted == 0 {
                if !waiting.contains(&worker) {
                    self.steps[to].waiting[priority].push_back(worker);
                }
                return;
            }
            let batch = if admitted < held.batch.count() {
                held.batch.split_to(admitted)
            } else {
                let Some(held) = self.workers[worker].held[priority].pop_front() else { return };
                held.batch
            };
            let waiting = &mut self.steps[to].waiting[priority];
            if waiting.front() == Some(&worker) {
                waiting.pop_front();
            }
            self.enqueue(to, batch);
            self.complete(from, admitted);
        }
    }

    /// Puts messages into the queue of their step.
    fn enqueue(&mut self, to: StepId, batch: Batch) {
        let count = batch.count();
        let step = &mut self.steps[to];
        step.counts.received += count as u64;
        if self.ending.is_abandoned() {
            step.counts.dropped += count as u64;
            return self.observe(Change::Dropped { step: to, worker: None, batches: &[batch] });
        }
        self.groups.enter(to, count);
        if step.phase != Phase::Running {
            return batch.into_messages().for_each(|message| self.arrived_late(to, message));
        }
        self.observe(Change::Queued(&batch));
        match self.order_in_queue(to, batch.first()) {
            Some(place) => self.steps[to].queue.insert(place, batch),
            None => self.steps[to].queue.push(batch),
        }
        self.steps.mark_dirty(to);
    }

    /// Notes that `count` messages of the step have ended.
    pub(super) fn complete(&mut self, step: StepId, count: usize) {
        self.groups.leave(step, count);
    }

    /// Moves what can be moved; false if nothing could.
    pub(super) fn move_messages(&mut self, now: Duration) -> bool {
        self.steps.mark_producers_dirty();
        if self.options.batching == Batching::OneByOne {
            // The last step comes first: what can be finished does not wait for what is not
            // begun, and is not lost should the run be stopped.
            self.steps.ids().for_each(|step| self.steps.mark_dirty(step));
            self.steps.sort_dirty();
        }
        let mut moved = false;
        while let Some(step) = self.steps.pop_dirty() {
            moved |= self.grant(step, now) | self.dispatch(step, now);
            for priority in Priority::ALL {
                moved |= self.admit_waiting(step, priority);
            }
        }
        moved
    }

    /// Lets the workers that wait for room in a line of the step's queue place their outputs.
    fn admit_waiting(&mut self, step: StepId, priority: Priority) -> bool {
        let mut moved = false;
        while let Some(&worker) = self.steps[step].waiting[priority].front() {
            let received = self.steps[step].counts.received;
            self.commit_outputs(worker);
            if self.steps[step].counts.received == received {
                break;
            }
            moved = true;
            // Having placed some, the worker may wait for this queue again:
            // behind the others.
            if self.steps[step].waiting[priority].front() == Some(&worker) {
                break;
            }
        }
        moved
    }

    /// Hands the step's messages to its workers.
    fn dispatch(&mut self, step: StepId, now: Duration) -> bool {
        if self.steps.is_paused(step) || self.awaits_release(step) {
            return false;
        }
        let portion = self.portion(step);
        let mut moved = false;
        while let Some(priority) = self.steps[step].queue.servable(now)
            && self.may_begin()
            && self.is_next_in_order(step, now)
        {
            let servable = self.steps[step].queue.line(priority).servable(now);
            let room = self.room_ahead(step, priority);
            self.workers.update_rosters();
            let chosen = dispatch::choose(self.workers.roster(step), servable, portion, room);
            let Some((worker, count)) = chosen else { break };
            self.give(worker, priority, count, now);
            moved = true;
        }
        moved
    }

    fn give(&mut self, worker: Slot, priority: Priority, most: usize, now: Duration) {
        let step = self.workers[worker].step;
        let mut batches: Vec<Batch> = Vec::with_capacity(1);
        let (mut count, mut bytes) = (0, 0);
        while count < most && (count == 0 || bytes < BYTES_AHEAD) {
            let queue = &mut self.steps[step].queue;
            let Some(batch) = queue.pop(priority, most - count, now) else { break };
            count += batch.count();
            bytes += batch.len();
            batches.push(batch);
        }
        let news = self.deferrals.news();
        self.workers[worker].give(&batches, count, (now, news));
        self.observe(Change::Given(&batches));
        self.workers.used(worker);
        // There is room now for those that wait.
        self.steps.mark_dirty(step);
        self.actions.push(Action::Work { worker: self.workers.id(worker), batches });
    }

    fn grant(&mut self, step: StepId, now: Duration) -> bool {
        if !self.steps[step].is_producer()
            || self.ending.is_draining()
            || self.steps.is_paused(step)
        {
            return false;
        }
        let count = self.worth_granting(step);
        let mut moved = false;
        for position in 0..self.steps[step].workers.len() {
            let index = self.steps[step].workers[position];
            let due = self.is_due(index, now);
            let free = self.may_begin();
            let worker = &mut self.workers[index];
            if count > 0 && due && worker.may_be_granted() && free {
                worker.producer = ProducerState::Granted;
                worker.since = now;
                self.groups.enter(step, 1);
                self.actions
                    .push(Action::Grant { worker: self.workers.id(index), count: count as u32 });
                moved = true;
            }
        }
        moved
    }

    /// Whether a producer waits for nothing. One at a barrier waits for the end of everything, and
    /// is told of it first; meanwhile no other producer adds to it.
    fn is_due(&self, producer: Slot, now: Duration) -> bool {
        match self.workers[producer].producer {
            ProducerState::Idle(until) => until <= now && !self.is_behind_barrier(),
            ProducerState::AtBarrier => self.groups.are_empty() && !self.has_to_acknowledge(),
            ProducerState::Granted | ProducerState::Feeding | ProducerState::Exhausted => false,
        }
    }

    pub(super) fn is_behind_barrier(&self) -> bool {
        let producers = self.steps.producers();
        let at_barrier = |slot: &Slot| self.workers[*slot].producer == ProducerState::AtBarrier;
        producers.len() > 1
            && producers.iter().flat_map(|step| &self.steps[*step].workers).any(at_barrier)
    }

    /// How many messages a worker of the step gets.
    fn portion(&self, step: StepId) -> Portion {
        if self.options.batching != Batching::Adaptive
            || (self.observers.order.is_some() && !self.steps[step].is_producer())
        {
            return Portion::ONE;
        }
        let step = &self.steps[step];
        let Some(mean) = step.times.recent() else { return Portion::ONE };
        Portion::of(step.plan.batch_ahead(mean), step.plan.worth_waking(mean), mean)
    }

    /// The room in the fullest of the queues that the step emits into: a batch
    /// should not make more than can be placed. What it makes has the priority of its messages.
    fn room_ahead(&self, step: StepId, priority: Priority) -> usize {
        self.lines_ahead(step, priority).map(Line::room).min().unwrap_or(usize::MAX)
    }

    /// How many messages a producer would be granted now.
    pub(super) fn worth_granting(&self, step: StepId) -> usize {
        if self.results_are_many() {
            return 0;
        }
        let most = self.portion(step).most.min(self.window_room(step));
        let priority = *self.steps[step].plan.options.priority;
        let room = self.lines_ahead(step, priority).map(|line| line.room_for_grant(most));
        room.min().unwrap_or(most).min(most)
    }

    fn lines_ahead(&self, step: StepId, priority: Priority) -> impl Iterator<Item = &Line> {
        let bounded = self.steps[step].routes.iter().filter(|route| !route.feedback);
        bounded.map(move |route| self.steps[route.to].queue.line(priority))
    }
}

#[cfg(test)]
mod tests;
