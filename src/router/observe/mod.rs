//! Observes a run: by item, by message, and as a whole. Nothing here changes a queue.
//!
//! - `items`: what becomes of each item, for the journal
//! - `order`: the keys of the open messages, where results come in order
//! - `snapshot`: where everything stands
//! - `spans`: when each message waited and ran, for the trace and the journal

pub(super) mod items;
mod order;
mod snapshot;
pub(super) mod spans;

use std::time::Duration;

use super::policy::ordering::Order;
use crate::base::ids::StepId;
use crate::message::Message;
use crate::message::batch::Batch;
use crate::plan::Plan;
use items::Items;
use spans::{Marks, Span};

/// The observers of a run; each is absent unless something needs it.
pub(super) struct Observers {
    /// For the journal.
    pub(super) items: Option<Items>,
    /// For the trace and the journal.
    pub(super) marks: Option<Marks>,
    /// For a run that gives its results in order.
    pub(super) order: Option<Order>,
}

impl Observers {
    pub(super) fn new(plan: &Plan) -> Self {
        let order = plan.options.ordered.then(|| Order::new(plan));
        Self { items: None, marks: None, order }
    }

    /// Notes that messages are in the queue of their step.
    pub(super) fn queued(&mut self, batch: &Batch, now: Duration) {
        if let Some(marks) = &mut self.marks {
            marks.queued(batch, now);
        }
    }

    /// Notes that a worker has been given messages.
    pub(super) fn given(&mut self, batches: &[Batch], now: Duration) {
        if let Some(marks) = &mut self.marks {
            marks.given(batches, now);
        }
    }

    /// Notes that a failed attempt on a message will be repeated.
    pub(super) fn retried(&mut self, message: &Message, now: Duration) {
        if let Some(marks) = &mut self.marks {
            marks.requeued(message, now);
        }
    }

    /// Notes that an operator tries a failed message of the step again, behind all others.
    pub(super) fn requeued(&mut self, message: &Message, step: StepId, now: Duration) {
        if let Some(items) = &mut self.items {
            items.requeued(message);
        }
        if let Some(order) = &mut self.order {
            let key = order.root();
            order.enter(key, message.id, step);
        }
        self.retried(message, now);
    }

    /// Whether the step gets its messages in order.
    pub(super) fn is_ordered_end(&self, step: StepId) -> bool {
        self.order.as_ref().is_some_and(|order| order.is_end(step))
    }

    /// Takes the spans since the last call.
    pub(super) fn take_spans(&mut self) -> Vec<Span> {
        self.marks.as_mut().map(Marks::take_spans).unwrap_or_default()
    }
}
