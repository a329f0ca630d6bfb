//! Cancels items: for their producer, which names them by number, or for an operator, who names
//! them by origin.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::line::Doomed;
use super::observe::Change;
use super::{Action, Cancelled, Held, Refusal, Router, Worker};
use crate::base::ids::{MessageId, Slot, StepId};
use crate::base::nearest::nearest;
use crate::event::Event;
use crate::message::batch::{Batch, Output};
use crate::message::{Message, NO_ITEM};

/// The origins that an operator has cancelled, and the messages of each that were in a worker's
/// hands. Until these are back, nothing of the origin is taken.
#[derive(Default)]
pub(super) struct CancelledOrigins(HashMap<Arc<str>, BTreeSet<MessageId>>);

impl CancelledOrigins {
    #[cfg(test)]
    pub(super) fn has(&self, origin: &str) -> bool {
        self.0.contains_key(origin)
    }

    fn forget(&mut self, batch: &Batch) {
        if let Some(origin) = batch.origin()
            && let Some(in_hand) = self.0.get_mut(origin)
        {
            in_hand.remove(&batch.first());
            if in_hand.is_empty() {
                self.0.remove(origin);
            }
        }
    }
}

/// How much of what is cancelled is where.
#[derive(Default)]
struct Found {
    /// Messages that wait, by step: in its queue, or for room there.
    waiting: HashMap<StepId, u64>,
    in_hand: Vec<(Slot, MessageId)>,
    /// The numbers of their items.
    items: BTreeSet<u64>,
}

impl Router {
    /// Gives an item up, for its producer. If a message of it is in a worker's hands, that is done
    /// only if `running` says so: then what the worker makes of it is not taken, and a worker
    /// process is ended.
    pub(super) fn cancelled(&mut self, producer: Slot, number: u64, running: bool) {
        let is_open = self.acknowledging.as_ref().is_some_and(|all| all.is_open(producer, number));
        let found = if is_open { self.find(Doomed::Item(number)) } else { Found::default() };
        if !is_open || (!running && !found.in_hand.is_empty()) {
            let worker = self.workers.id(producer);
            self.actions.push(Action::NotCancelled { worker, number });
            return;
        }
        self.give_up_all(Doomed::Item(number), found);
    }

    /// Gives up all that descends from this origin, for an operator; see [`Router::cancelled`].
    ///
    /// # Errors
    /// If nothing of it is under way, or a worker is at it and `running` does not say that this
    /// makes no difference.
    pub(super) fn cancel_origin(
        &mut self,
        origin: &str,
        running: bool,
    ) -> Result<Cancelled, Refusal> {
        let found = self.find(Doomed::Origin(origin));
        if found.waiting.is_empty() && found.in_hand.is_empty() {
            let origins = self.origins();
            let near = nearest(origin, origins.iter().map(|name| &**name));
            let hint = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
            return Err(Refusal::NotUnderWay { origin: origin.into(), hint });
        }
        if let (Some((slot, _)), false) = (found.in_hand.first(), running) {
            let step = Arc::clone(&self.steps[self.workers[*slot].step].name);
            return Err(Refusal::InHand(origin.into(), step));
        }
        let waiting = found.waiting.values().sum();
        let cancelled = Cancelled { waiting, in_hand: found.in_hand.len() as u64 };
        if !found.in_hand.is_empty() {
            let in_hand = found.in_hand.iter().map(|(_, message)| *message);
            self.cancelled_origins.0.entry(origin.into()).or_default().extend(in_hand);
        }
        self.give_up_all(Doomed::Origin(origin), found);
        Ok(cancelled)
    }

    fn give_up_all(&mut self, doomed: Doomed<'_>, found: Found) {
        if let Some(acknowledging) = &mut self.acknowledging {
            found.items.iter().for_each(|number| acknowledging.cancel(*number));
        }
        self.publish_cancelled(doomed, &found);
        self.drop_queued(doomed);
        self.drop_deferred(doomed);
        self.drop_held(doomed);
        for (worker, message) in found.in_hand {
            // What such a worker has gathered would be lost with it.
            if !self.steps[self.workers[worker].step].plan.stateful {
                let worker = self.workers.id(worker);
                self.actions.push(Action::End { worker, message });
            }
        }
    }

    fn publish_cancelled(&mut self, doomed: Doomed<'_>, found: &Found) {
        let of_item = |number| self.acknowledging.as_ref()?.origin_of(number);
        let origin = match doomed {
            Doomed::Item(number) => of_item(number),
            Doomed::Origin(origin) => Some(origin.into()),
        };
        for step in self.steps.ids() {
            let waiting = found.waiting.get(&step).copied().unwrap_or(0);
            let hands = found.in_hand.iter().filter(|(slot, _)| self.workers[*slot].step == step);
            let in_hand = hands.count() as u64;
            if waiting + in_hand > 0 {
                let (step, origin) = (Arc::clone(&self.steps[step].name), origin.clone());
                self.publish(Event::Cancelled { step, origin, waiting, in_hand });
            }
        }
    }

    /// Whether something is given up that is still in a worker's hands.
    fn has_cancelled(&self) -> bool {
        !self.cancelled_origins.0.is_empty()
            || self.acknowledging.as_ref().is_some_and(|all| all.has_cancelled())
    }

    /// Whether the messages are given up.
    pub(super) fn is_cancelled(&self, batch: &Batch) -> bool {
        self.has_cancelled() && self.is_given_up(batch.item(), batch.origin())
    }

    pub(super) fn is_cancelled_message(&self, message: &Message) -> bool {
        self.has_cancelled() && self.is_given_up(message.item, message.origin.as_ref())
    }

    fn is_given_up(&self, item: u64, origin: Option<&Arc<str>>) -> bool {
        self.acknowledging.as_ref().is_some_and(|all| all.is_cancelled(item))
            || origin.is_some_and(|origin| self.cancelled_origins.0.contains_key(origin))
    }

    /// Removes what descends from messages that were given up.
    pub(super) fn without_cancelled(&self, mut outputs: Vec<Output>) -> Vec<Output> {
        if self.has_cancelled() {
            outputs.retain(|output| !self.is_given_up(output.item(), output.origin()));
        }
        outputs
    }

    /// Drops messages that a worker has done and that were given up meanwhile: what it has made of
    /// them is not taken. Returns the others, and those that a step has gathered.
    pub(super) fn drop_done(
        &mut self,
        step: StepId,
        worker: Slot,
        taken: Vec<Batch>,
    ) -> Vec<Batch> {
        if !self.has_cancelled() {
            return taken;
        }
        if self.steps[step].plan.stateful {
            taken.iter().for_each(|batch| self.cancelled_origins.forget(batch));
            return taken;
        }
        let is_given_up = |batch: &Batch| self.is_cancelled(batch);
        let (given_up, done): (Vec<_>, Vec<_>) = taken.into_iter().partition(is_given_up);
        for batch in given_up {
            self.drop_cancelled(step, Some(worker), batch);
        }
        done
    }

    /// Drops messages that were given up: they waited, or were in a worker's hands, or come back
    /// from there.
    pub(super) fn drop_cancelled(&mut self, step: StepId, worker: Option<Slot>, batch: Batch) {
        self.steps[step].counts.dropped += batch.count() as u64;
        self.complete(step, batch.count());
        self.cancelled_origins.forget(&batch);
        let batches = &[batch];
        self.failures.forget(batches);
        self.deferrals.forget(batches);
        self.bring_news();
        self.observe(Change::Dropped { step, worker, batches });
        self.mark_ordered_ends_dirty();
        self.steps.mark_dirty(step);
    }

    /// Looks through all queues and hands: nothing is tracked for this.
    fn find(&self, doomed: Doomed<'_>) -> Found {
        let mut found = Found::default();
        let mut waits = |step, message: &Message| {
            *found.waiting.entry(step).or_default() += 1;
            found.items.insert(message.item);
        };
        for step in self.steps.ids() {
            let queued = self.steps[step].queue.messages();
            queued.filter(|message| doomed.is(message)).for_each(|message| waits(step, message));
        }
        let deferred = self.deferrals.messages().filter(|(_, message)| doomed.is(message));
        deferred.for_each(|(step, message)| waits(step, message));
        for held in self.workers.iter().flat_map(Worker::all_held) {
            let message = held.batch.alone().filter(|message| doomed.is(message));
            message.into_iter().for_each(|message| waits(held.to, message));
        }
        for slot in self.workers.slots() {
            for batch in self.workers[slot].in_hand.iter().filter(|batch| doomed.has(batch)) {
                found.in_hand.push((slot, batch.first()));
                found.items.insert(batch.item());
            }
        }
        found.items.remove(&NO_ITEM);
        found
    }

    /// The origins of all that is under way.
    fn origins(&self) -> BTreeSet<Arc<str>> {
        let queued = self.steps.iter().flat_map(|step| step.queue.messages());
        let queued = queued.chain(self.deferrals.messages().map(|(_, message)| message));
        let workers = self.workers.iter();
        let held = workers.clone().flat_map(Worker::all_held).map(|held| &held.batch);
        let hands = held.chain(workers.flat_map(|worker| &worker.in_hand)).filter_map(Batch::alone);
        queued.chain(hands).filter_map(|message| message.origin.clone()).collect()
    }

    fn drop_queued(&mut self, doomed: Doomed<'_>) {
        for step in self.steps.ids() {
            for batch in self.steps[step].queue.remove(doomed) {
                self.drop_cancelled(step, None, batch);
            }
        }
    }

    /// Drops what waits for room. Workers whose next output was among it wait for another queue.
    fn drop_held(&mut self, doomed: Doomed<'_>) {
        for slot in self.workers.slots() {
            let is_doomed = |held: &Held| doomed.has(&held.batch);
            if !self.workers[slot].all_held().any(is_doomed) {
                continue;
            }
            let all = self.workers[slot].take_held();
            let (dropped, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(is_doomed);
            for held in kept {
                self.workers[slot].held[held.batch.priority()].push_back(held);
            }
            let from = self.workers[slot].step;
            for Held { to, batch, .. } in dropped {
                let count = batch.count();
                self.steps[to].counts.received += count as u64;
                self.groups.enter(to, count);
                self.complete(from, count);
                self.drop_cancelled(to, None, batch);
            }
            for step in self.steps.ids() {
                let lines = self.steps[step].waiting.iter_mut();
                lines.for_each(|waiting| waiting.retain(|waiting| *waiting != slot));
                self.steps.mark_dirty(step);
            }
            self.commit_outputs(slot);
        }
    }
}
