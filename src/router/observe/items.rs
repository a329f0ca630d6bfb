//! Records what becomes of each item, for the journal. An item is what a producer emits
//! with an origin, together with all that descends from it.
//!
//! An item is open while any of its messages is held, queued or in hand. As a
//! worker's outputs are held before its completions are counted, the number of
//! open messages falls to 0 only when nothing of the item is left.

use std::collections::HashMap;
use std::sync::Arc;

use super::change::{Attempt, Change, Outcome, RunView};
use crate::base::failure::Failure;
use crate::router::{Action, AttemptOutcome, Ran};

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
#[derive(Default)]
pub(in crate::router) struct Items {
    open: HashMap<Arc<str>, Item>,
}

struct Item {
    /// Messages held, queued or in hand.
    messages: usize,
    occurrences: u32,
    end: End,
}

impl Items {
    /// Counts the messages that a change adds.
    pub(super) fn on(&mut self, change: Change<'_>, run: &RunView<'_>) {
        match change {
            Change::Emitted { worker, first } => {
                let worker = &run.workers[worker];
                let produced = run.steps[worker.step].is_producer();
                let origins = worker.held_from(first).filter_map(|held| held.batch.origin());
                origins.for_each(|origin| self.enter(origin, produced));
            }
            // No new occurrence, so that the item stays failed for the journal.
            Change::Requeued { message, .. } => {
                message.origin.iter().for_each(|origin| self.enter(origin, false));
            }
            _ => {}
        }
    }

    /// Records an attempt, and its item if no message of it is left.
    pub(super) fn ended(
        &mut self,
        attempt: &Attempt<'_>,
        ran: Ran,
        run: &RunView<'_>,
        actions: &mut Vec<Action>,
    ) {
        let Some(origin) = attempt.origin else { return };
        let step = &run.steps[attempt.step];
        let name = || Arc::clone(&step.name);
        let (number, outcome, end) = match attempt.outcome {
            Outcome::Done if step.plan.stateful => {
                (attempt.number, AttemptOutcome::Done, Some(End::Gathered { step: name() }))
            }
            Outcome::Done => (attempt.number, AttemptOutcome::Done, Some(End::Done)),
            Outcome::Retrying(failed) => {
                (failed.attempt, AttemptOutcome::Retrying(failed.failure.clone()), None)
            }
            // It was no attempt yet.
            Outcome::Deferred => return,
            Outcome::Failed(failed) => {
                let end = End::Failed { step: name(), failure: failed.failure.clone() };
                (failed.attempt, AttemptOutcome::Failed(failed.failure.clone()), Some(end))
            }
            Outcome::Dropped => (attempt.number, AttemptOutcome::Dropped, Some(End::Dropped)),
        };
        let origin = Arc::clone(origin);
        let closed = end.and_then(|end| self.leave(&origin, end));
        let record = Record::Attempt { origin, step: name(), attempt: number, outcome, ran };
        actions.push(Action::Record(record));
        actions.extend(closed.map(Action::Record));
    }

    fn enter(&mut self, origin: &Arc<str>, produced: bool) {
        let item = self.open.entry(Arc::clone(origin)).or_insert(Item {
            messages: 0,
            occurrences: 0,
            end: End::Done,
        });
        item.messages += 1;
        item.occurrences += u32::from(produced);
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
