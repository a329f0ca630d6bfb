//! Keeps the order of the open messages, where results are to come in order.

use crate::base::ids::{MessageId, Slot, StepId};
use crate::message::batch::Batch;
use crate::router::Router;
use crate::router::step::Phase;

impl Router {
    /// Gives the outputs of one report their keys. What a report of a stage holds was
    /// emitted for the one message that its worker has in hand: in order nobody has more.
    pub(in crate::router) fn order_outputs(&mut self, worker: Slot, held_before: usize) {
        let Some(order) = &mut self.observers.order else { return };
        let worker = &self.workers[worker];
        let parent = worker.in_hand.front().map(Batch::first);
        let parent = parent.and_then(|message| order.key(message)).cloned();
        for (index, held) in (0..).zip(worker.held.iter().skip(held_before)) {
            let key = match &parent {
                Some(parent) => parent.iter().copied().chain([index]).collect(),
                None => order.root(),
            };
            order.enter(key, held.batch.first(), held.to);
        }
    }

    /// Notes that messages have ended: others may be next now.
    pub(in crate::router) fn order_leaves(
        &mut self,
        messages: impl IntoIterator<Item = MessageId>,
    ) {
        let Some(order) = &mut self.observers.order else { return };
        messages.into_iter().for_each(|message| order.leave(message));
        for step in self.steps.ids() {
            if self.observers.is_ordered_end(step) {
                self.steps.mark_dirty(step);
            }
        }
    }

    /// Where in the step's queue a message belongs, counted from the front.
    pub(in crate::router) fn order_in_queue(
        &self,
        step: StepId,
        message: MessageId,
    ) -> Option<usize> {
        let order = self.observers.order.as_ref().filter(|order| order.is_end(step))?;
        let key = order.key(message)?;
        let queue = &self.steps[step].queue;
        Some(queue.partition_point(|other| order.key(other.first()) < Some(key)))
    }

    /// Whether the step may be given what its queue would give next.
    pub(in crate::router) fn is_next_in_order(
        &self,
        step: StepId,
        now: std::time::Duration,
    ) -> bool {
        let Some(order) = self.observers.order.as_ref().filter(|order| order.is_end(step)) else {
            return true;
        };
        let next = self.steps[step].queue.next(now);
        next.is_none_or(|message| order.may_give(message, step))
    }

    /// Whether a queue of results that wait for their turn is at its limit.
    pub(in crate::router) fn results_are_many(&self) -> bool {
        let is_full = |step: &StepId| {
            let step = &self.steps[*step];
            step.phase == Phase::Running && step.queue.room() == 0
        };
        self.observers.order.is_some()
            && self.steps.ids().filter(|s| self.observers.is_ordered_end(*s)).any(|s| is_full(&s))
    }
}
