//! Observes a run: by item, by message, and as a whole. The router tells every [`Change`] to
//! [`Observers::on`]; an observer sees the run, but cannot change it.
//!
//! - `ages`: for how long messages have waited
//! - `change`: what the router tells
//! - `items`: what becomes of each item, for the journal
//! - `order`: the keys of the open messages, where results come in order
//! - `snapshot`: where everything stands
//! - `spans`: when each message waited and ran, for the trace and the journal

pub(super) mod ages;
mod change;
pub(super) mod items;
mod order;
mod snapshot;
pub(super) mod spans;

use super::policy::ordering::Order;
use super::{Action, Batching, Router};
use crate::base::ids::StepId;
use crate::plan::Plan;
use items::Items;
use spans::{Span, Spans};

pub(super) use change::{Change, Hand, RunView};

/// The observers of a run; each is absent unless something needs it.
pub(super) struct Observers {
    /// For the journal. Where there are items, there are spans.
    pub(super) items: Option<Items>,
    /// For the trace and the journal.
    pub(super) spans: Option<Spans>,
    /// For a run that gives its results in order.
    pub(super) order: Option<Order>,
}

impl Observers {
    pub(super) fn new(plan: &Plan) -> Self {
        let order = plan.options.ordered.then(|| Order::new(plan));
        Self { items: None, spans: None, order }
    }

    /// Takes a change in. Records for the journal become actions.
    pub(super) fn on(&mut self, change: Change<'_>, run: &RunView<'_>, actions: &mut Vec<Action>) {
        if let Some(order) = &mut self.order {
            order.on(change, run);
        }
        let Some(spans) = &mut self.spans else { return };
        change.each_attempt(|attempt| {
            let ran = spans.ended(attempt, run);
            if let Some(items) = &mut self.items {
                items.ended(attempt, ran, run, actions);
            }
        });
        spans.on(change, run);
        if let Some(items) = &mut self.items {
            items.on(change, run);
        }
    }

    fn are_absent(&self) -> bool {
        self.order.is_none() && self.spans.is_none()
    }

    /// Whether the step gets its messages in order.
    pub(super) fn is_ordered_end(&self, step: StepId) -> bool {
        self.order.as_ref().is_some_and(|order| order.is_end(step))
    }

    /// Takes the spans since the last call.
    pub(super) fn take_spans(&mut self) -> Vec<Span> {
        self.spans.as_mut().map(Spans::take).unwrap_or_default()
    }
}

impl Router {
    /// Tells the observers what has happened.
    pub(super) fn observe(&mut self, change: Change<'_>) {
        if self.observers.are_absent() && self.acknowledging.is_none() {
            return;
        }
        let run = RunView { steps: &self.steps, workers: &self.workers, now: self.clock.now };
        self.observers.on(change, &run, &mut self.actions);
        if let Some(acknowledging) = &mut self.acknowledging {
            acknowledging.on(change, &run);
        }
    }

    /// Records from here on what becomes of each item.
    pub(crate) fn track_items(&mut self) {
        self.observers.items = Some(Items::default());
        self.record_spans();
    }

    /// Records from here on when each message waited and ran.
    pub(crate) fn trace(&mut self) {
        self.record_spans().trace_all();
    }

    fn record_spans(&mut self) -> &mut Spans {
        let one_thread = self.options.batching != Batching::Adaptive;
        self.observers.spans.get_or_insert_with(|| Spans::new(one_thread))
    }
}
