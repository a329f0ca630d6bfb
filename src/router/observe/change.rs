//! What the router tells its observers.

use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{MessageId, Slot, StepId};
use crate::message::Message;
use crate::message::batch::Batch;
use crate::router::line::Failed;
use crate::router::step::Steps;
use crate::router::workers::Workers;

/// What has just happened. It borrows all that it tells; the rest stands in the [`RunView`].
#[derive(Clone, Copy)]
pub(in crate::router) enum Change<'a> {
    /// A report was taken in: the worker holds its outputs, which have the numbers from `first` on.
    Emitted { worker: Slot, first: MessageId },
    /// A batch entered the queue of its step.
    Queued(&'a Batch),
    /// A worker was given batches.
    Given(&'a [Batch]),
    /// A worker has done messages.
    Done { step: StepId, hand: Hand, batches: &'a [Batch] },
    /// An attempt failed and will be repeated.
    Retried { step: StepId, hand: Hand, message: &'a Message, failed: &'a Failed },
    /// An attempt was put off.
    Deferred { step: StepId, hand: Hand, message: &'a Message },
    /// A message was given up, in a worker's hands or while it waited.
    Failed {
        step: StepId,
        hand: Option<Hand>,
        message: &'a Message,
        failed: &'a Failed,
        /// Its entry in the quarantine.
        entry: Option<&'a str>,
    },
    /// Messages were left when the run was stopped, in a worker's hands or before.
    Dropped { step: StepId, worker: Option<Slot>, batches: &'a [Batch] },
    /// An operator put a failed message back into the queue, behind all others.
    Requeued { step: StepId, message: &'a Message },
    /// A producer has ended calls.
    Produced { worker: Slot, calls: u32, busy: Duration },
    /// A worker's stage has finished.
    Finished { worker: Slot },
}

/// The worker in whose hands attempts ended, and how long all of them took; `busy` is none if
/// the worker has not reported it.
#[derive(Clone, Copy)]
pub(in crate::router) struct Hand {
    pub(in crate::router) worker: Slot,
    pub(in crate::router) busy: Option<Duration>,
}

/// What observers see of the run. Nothing here lets them change it.
pub(in crate::router) struct RunView<'a> {
    pub(in crate::router) steps: &'a Steps,
    pub(in crate::router) workers: &'a Workers,
    pub(in crate::router) now: Duration,
}

/// The end of one attempt of a step on one message.
pub(super) struct Attempt<'a> {
    pub(super) step: StepId,
    /// None if the message was in no worker's hands.
    pub(super) hand: Option<Hand>,
    pub(super) message: MessageId,
    /// From 1.
    pub(super) number: u32,
    pub(super) origin: Option<&'a Arc<str>>,
    pub(super) outcome: Outcome<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum Outcome<'a> {
    Done,
    Retrying(&'a Failed),
    Deferred,
    Failed(&'a Failed),
    Dropped,
}

impl Change<'_> {
    /// Calls `each` with every attempt that the change ends.
    pub(super) fn each_attempt(self, mut each: impl FnMut(&Attempt<'_>)) {
        let (step, hand, message, outcome) = match self {
            Self::Done { step, hand, batches } => {
                return each_message(step, Some(hand), batches, Outcome::Done, each);
            }
            Self::Dropped { step, worker, batches } => {
                let hand = worker.map(|worker| Hand { worker, busy: None });
                return each_message(step, hand, batches, Outcome::Dropped, each);
            }
            Self::Retried { step, hand, message, failed } => {
                (step, Some(hand), message, Outcome::Retrying(failed))
            }
            Self::Deferred { step, hand, message } => {
                (step, Some(hand), message, Outcome::Deferred)
            }
            Self::Failed { step, hand, message, failed, .. } => {
                (step, hand, message, Outcome::Failed(failed))
            }
            _ => return,
        };
        let (number, origin) = (message.attempt + 1, message.origin.as_ref());
        each(&Attempt { step, hand, message: message.id, number, origin, outcome });
    }
}

/// Calls `each` with one attempt per message; each took an equal part of the time.
fn each_message(
    step: StepId,
    hand: Option<Hand>,
    batches: &[Batch],
    outcome: Outcome<'_>,
    mut each: impl FnMut(&Attempt<'_>),
) {
    let count: usize = batches.iter().map(Batch::count).sum();
    let part = |busy: Duration| busy / count.max(1) as u32;
    let hand = hand.map(|Hand { worker, busy }| Hand { worker, busy: busy.map(part) });
    for batch in batches {
        // A message that was tried before travels alone.
        let number = match batch {
            Batch::One(message) => message.attempt + 1,
            Batch::Many { .. } => 1,
        };
        for message in batch.first().successive(batch.count()) {
            each(&Attempt { step, hand, message, number, origin: batch.origin(), outcome });
        }
    }
}
