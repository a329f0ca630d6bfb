//! Records what becomes of each item, for the journal. An item is what a producer emits
//! with an origin, together with all that descends from it.
//!
//! An item is open while any of its messages is held, queued or in hand. As a
//! worker's outputs are held before its completions are counted, the number of
//! open messages falls to 0 only when nothing of the item is left.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::failure::Failure;
use crate::base::ids::{Slot, StepId, WorkerId};
use crate::message::Message;
use crate::message::batch::{Batch, Output};
use crate::plan::Plan;
use crate::router::{Action, AttemptOutcome, Ran, Router};

/// Something to be written into the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// What became of one attempt of a step on one message.
    Attempt {
        origin: Arc<str>,
        step: Arc<str>,
        /// From 1.
        attempt: u32,
        outcome: AttemptOutcome,
        ran: Ran,
    },
    /// No message of the item is left.
    Closed {
        origin: Arc<str>,
        /// How many messages the producer emitted with this origin since the
        /// item was last closed.
        occurrences: u32,
        end: End,
    },
}

/// How an item ended: by what went worst with its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    /// A step has kept something of it for its `finish`.
    Gathered {
        step: Arc<str>,
    },
    /// Messages were left when the run was stopped.
    Dropped,
    Failed {
        step: Arc<str>,
        failure: Failure,
    },
}

impl End {
    fn severity(&self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Gathered { .. } => 1,
            Self::Dropped => 2,
            Self::Failed { .. } => 3,
        }
    }
}

/// The open items.
pub(in crate::router) struct Items {
    open: HashMap<Arc<str>, Item>,
    /// For each step, whether it keeps something of its messages for `finish`.
    gathers: Vec<bool>,
}

struct Item {
    /// Messages held, queued or in hand.
    messages: usize,
    occurrences: u32,
    end: End,
}

impl Items {
    fn enter(&mut self, origin: &Arc<str>, produced: bool) {
        let item = self.open.entry(Arc::clone(origin)).or_insert(Item {
            messages: 0,
            occurrences: 0,
            end: End::Done,
        });
        item.messages += 1;
        item.occurrences += u32::from(produced);
    }

    /// Opens the item of a failed message that is tried again. The message is no new occurrence,
    /// so the item stays failed for the journal.
    pub(in crate::router) fn requeued(&mut self, message: &Message) {
        if let Some(origin) = &message.origin {
            self.enter(origin, false);
        }
    }

    /// Ends one message of the item; returns a record once none is left.
    fn leave(&mut self, origin: &Arc<str>, end: End) -> Option<Record> {
        let item = self.open.get_mut(origin)?;
        if end.severity() > item.end.severity() {
            item.end = end;
        }
        item.messages -= 1;
        if item.messages > 0 {
            return None;
        }
        let (origin, Item { occurrences, end, .. }) = self.open.remove_entry(origin)?;
        Some(Record::Closed { origin, occurrences, end })
    }

    #[cfg(test)]
    pub(in crate::router) fn open_count(&self) -> usize {
        self.open.len()
    }
}

/// The messages that have an origin: they travel alone.
fn tracked(batch: &Batch) -> Option<&Message> {
    match batch {
        Batch::One(message) if message.origin.is_some() => Some(message),
        Batch::One(_) | Batch::Many { .. } => None,
    }
}

impl Router {
    /// Records from here on what becomes of each item.
    pub(crate) fn track_items(&mut self, plan: &Plan) {
        let gathers = plan.steps.iter().map(|step| step.gathers).collect();
        self.observers.items = Some(Items { open: HashMap::new(), gathers });
        self.mark_times();
    }

    /// Whether the worker's stage is a producer.
    pub(crate) fn is_producer(&self, worker: WorkerId) -> bool {
        self.steps[self.workers[worker.slot].step].is_producer()
    }

    /// The name of a worker's step.
    pub(crate) fn step_name(&self, worker: WorkerId) -> Arc<str> {
        Arc::clone(&self.steps[self.workers[worker.slot].step].name)
    }

    pub(in crate::router) fn item_enters(&mut self, worker: Slot, output: &Output) {
        if let (Some(items), Output::One { origin: Some(origin), .. }) =
            (&mut self.observers.items, output)
        {
            items.enter(origin, self.steps[self.workers[worker].step].is_producer());
        }
    }

    /// Records that the step has done these messages.
    pub(in crate::router) fn items_done(&mut self, step: StepId, batches: &[Batch]) {
        let Some(items) = &self.observers.items else { return };
        let end = match items.gathers[step.index()] {
            true => End::Gathered { step: Arc::clone(&self.steps[step].name) },
            false => End::Done,
        };
        for message in batches.iter().filter_map(tracked) {
            self.item_leaves(message, end.clone());
        }
    }

    /// Records that messages of the step were left when the run was stopped, in the hands of
    /// this worker or before they reached one.
    pub(in crate::router) fn items_dropped<'a>(
        &mut self,
        step: StepId,
        worker: Option<Slot>,
        batches: impl IntoIterator<Item = &'a Batch>,
    ) {
        if self.observers.marks.is_none() {
            return;
        }
        for batch in batches {
            self.mark_dropped(step, worker, batch);
            if let (Some(message), true) = (tracked(batch), self.observers.items.is_some()) {
                self.item_leaves(message, End::Dropped);
            }
        }
    }

    /// Records that the message was given up.
    pub(in crate::router) fn item_failed(
        &mut self,
        step: StepId,
        message: &Message,
        ran: Ran,
        failure: &Failure,
    ) {
        if self.observers.items.is_some() {
            self.record_attempt(step, message, ran, AttemptOutcome::Failed(failure.clone()));
            let step = Arc::clone(&self.steps[step].name);
            self.item_leaves(message, End::Failed { step, failure: failure.clone() });
        }
    }

    /// Records the end of the step's attempt on the message, if it belongs to an item.
    pub(in crate::router) fn record_attempt(
        &mut self,
        step: StepId,
        message: &Message,
        ran: Ran,
        outcome: AttemptOutcome,
    ) {
        if let (Some(origin), true) = (&message.origin, self.observers.items.is_some()) {
            self.actions.push(Action::Record(Record::Attempt {
                origin: Arc::clone(origin),
                step: Arc::clone(&self.steps[step].name),
                attempt: message.attempt + 1,
                outcome,
                ran,
            }));
        }
    }

    fn item_leaves(&mut self, message: &Message, end: End) {
        let left = self.observers.items.as_mut().zip(message.origin.as_ref());
        if let Some(record) = left.and_then(|(items, origin)| items.leave(origin, end)) {
            self.actions.push(Action::Record(record));
        }
    }
}
