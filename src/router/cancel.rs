//! Cancels items that their producer no longer wants.

use super::{Action, Held, Router};
use crate::base::ids::{MessageId, Slot, StepId};
use crate::message::batch::{Batch, Output};
use crate::router::observe::Change;

impl Router {
    /// Gives an item up, for its producer. If a message of it is in a worker's hands, that is done
    /// only if `running` says so: then what the worker makes of it is not taken, and a worker
    /// process is ended.
    pub(super) fn cancelled(&mut self, producer: Slot, number: u64, running: bool) {
        let is_open = self.acknowledging.as_ref().is_some_and(|all| all.is_open(producer, number));
        let in_hand = if is_open { self.in_hand_of(number) } else { Vec::new() };
        if !is_open || (!running && !in_hand.is_empty()) {
            let worker = self.workers.id(producer);
            self.actions.push(Action::NotCancelled { worker, number });
            return;
        }
        if let Some(acknowledging) = &mut self.acknowledging {
            acknowledging.cancel(number);
        }
        self.drop_queued(number);
        self.drop_held(number);
        for (worker, message) in in_hand {
            // What such a worker has gathered would be lost with it.
            if !self.steps[self.workers[worker].step].plan.stateful {
                let worker = self.workers.id(worker);
                self.actions.push(Action::End { worker, message });
            }
        }
    }

    /// Whether the messages of this item are given up.
    pub(super) fn is_cancelled(&self, item: u64) -> bool {
        self.acknowledging.as_ref().is_some_and(|all| all.is_cancelled(item))
    }

    /// Removes what descends from items that were given up.
    pub(super) fn without_cancelled(&self, mut outputs: Vec<Output>) -> Vec<Output> {
        if self.acknowledging.as_ref().is_some_and(|all| all.has_cancelled()) {
            outputs.retain(|output| !self.is_cancelled(output.item()));
        }
        outputs
    }

    /// Drops messages of an item that was given up, in a worker's hands or on their way back
    /// from there.
    pub(super) fn drop_cancelled(&mut self, step: StepId, worker: Option<Slot>, batch: Batch) {
        self.steps[step].counts.dropped += batch.count() as u64;
        self.complete(step, batch.count());
        let batches = &[batch];
        self.failures.forget(batches);
        self.observe(Change::Dropped { step, worker, batches });
        self.mark_ordered_ends_dirty();
        self.steps.mark_dirty(step);
    }

    fn in_hand_of(&self, number: u64) -> Vec<(Slot, MessageId)> {
        let slots = self.workers.slots();
        let hands = slots
            .flat_map(|slot| self.workers[slot].in_hand.iter().map(move |batch| (slot, batch)));
        let of_item = hands.filter(|(_, batch)| batch.item() == number);
        of_item.map(|(slot, batch)| (slot, batch.first())).collect()
    }

    fn drop_queued(&mut self, number: u64) {
        for step in self.steps.ids() {
            for batch in self.steps[step].queue.remove_item(number) {
                self.drop_cancelled(step, None, batch);
            }
        }
    }

    /// Drops what waits for room. Workers whose next output was among it wait for another queue.
    fn drop_held(&mut self, number: u64) {
        for slot in self.workers.slots() {
            let held = &mut self.workers[slot].held;
            if !held.iter().any(|held| held.batch.item() == number) {
                continue;
            }
            let all = std::mem::take(held);
            let (dropped, kept) = all.into_iter().partition(|held| held.batch.item() == number);
            self.workers[slot].held = kept;
            let from = self.workers[slot].step;
            for Held { to, batch, .. } in Vec::<Held>::from(dropped) {
                let count = batch.count();
                self.steps[to].counts.received += count as u64;
                self.groups.enter(to, count);
                self.complete(from, count);
                self.drop_cancelled(to, None, batch);
            }
            for step in self.steps.ids() {
                self.steps[step].waiting.retain(|waiting| *waiting != slot);
                self.steps.mark_dirty(step);
            }
            self.commit_outputs(slot);
        }
    }
}
