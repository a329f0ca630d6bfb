//! Keeps the order of the open messages, where results are to come in order.

use super::change::{Change, RunView};
use crate::base::ids::{MessageId, StepId};
use crate::message::Priority;
use crate::router::Router;
use crate::router::policy::ordering::Order;
use crate::router::step::Phase;

impl Order {
    /// Keeps the keys of the open messages.
    pub(super) fn on(&mut self, change: Change<'_>, run: &RunView<'_>) {
        match change {
            // In order a worker has one message in hand at most: all that a stage emits
            // descends from it.
            Change::Emitted { worker, first } => {
                let worker = &run.workers[worker];
                let parent = worker.in_hand.front().and_then(|batch| self.key(batch.first()));
                let parent = parent.cloned();
                for (index, held) in (0..).zip(worker.held_from(first)) {
                    let key = match &parent {
                        Some(parent) => parent.iter().copied().chain([index]).collect(),
                        None => self.root(),
                    };
                    self.enter(key, held.batch.first(), held.to);
                }
            }
            Change::Requeued { step, message } => {
                let key = self.root();
                self.enter(key, message.id, step);
            }
            Change::Done { batches, .. } | Change::Dropped { batches, .. } => {
                batches.iter().for_each(|batch| self.leave(batch.first()));
            }
            Change::Failed { message, .. } => self.leave(message.id),
            _ => {}
        }
    }
}

impl Router {
    /// Has the steps that get their messages in order looked at again: with messages that
    /// have come to their end, others may be next.
    pub(in crate::router) fn mark_ordered_ends_dirty(&mut self) {
        if self.observers.order.is_none() {
            return;
        }
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

    /// Whether a queue of results that wait for their turn is at its limit. In order they stand in
    /// one line.
    pub(in crate::router) fn results_are_many(&self) -> bool {
        let is_full = |step: &StepId| {
            let step = &self.steps[*step];
            step.phase == Phase::Running && step.queue.line(Priority::Normal).room() == 0
        };
        self.observers.order.is_some()
            && self.steps.ids().filter(|s| self.observers.is_ordered_end(*s)).any(|s| is_full(&s))
    }
}
