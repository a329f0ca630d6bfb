//! The inputs that drivers hand to the router, and the actions that it answers with.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::failure::{Failure, Result};
use crate::base::ids::{MessageId, StepId, WorkerId};
use crate::event::{Cause, Event};
use crate::message::batch::{Batch, Output};
use crate::message::{ItemKey, Payload};
use crate::protocol::report::{Completion, Loss, Production};
use crate::stage::Acknowledgement;

use super::{Record, Span};

/// An input from a driver to the router.
#[derive(Debug)]
pub(crate) enum Input {
    /// The worker has built and initialized its stage.
    Ready { worker: WorkerId },
    /// The worker could not build or initialize its stage.
    InitFailed { worker: WorkerId, failure: Failure },
    /// The worker has processed the oldest messages that it had in hand; `outputs` is what
    /// the successful ones emitted. Both are in order.
    Done { worker: WorkerId, completions: Vec<Completion>, outputs: Vec<Output> },
    /// The worker gives back `count` messages from `first` on: none was begun, for the call that
    /// is under way takes long.
    Returned { worker: WorkerId, first: MessageId, count: u32 },
    /// The producer has used all or a part of its grant.
    Produced { worker: WorkerId, production: Production, outputs: Vec<Output> },
    /// The producer has handed on results of its items.
    Released { worker: WorkerId, bytes: u64 },
    /// The producer no longer wants an item; `running` says that this holds although a worker is
    /// at it.
    Cancelled { worker: WorkerId, number: u64, running: bool },
    /// The worker's stage has finished and emitted `outputs`.
    Finished { worker: WorkerId, result: Result<()>, outputs: Vec<Output> },
    /// The worker has died.
    Lost { worker: WorkerId, loss: Loss },
    /// The worker has violated the protocol.
    Broken { worker: WorkerId, reason: String },
    /// An operator or a signal ends the run early.
    Stop(Stop),
    /// Something that the run depends on has failed: production ends for this reason.
    Halt { reason: String },
    /// The run cannot go on, for this reason: it stops at once.
    Abandon { reason: String },
}

impl Input {
    /// Names the worker that the input is about.
    pub(super) fn worker(&self) -> Option<WorkerId> {
        match self {
            Self::Ready { worker }
            | Self::InitFailed { worker, .. }
            | Self::Done { worker, .. }
            | Self::Returned { worker, .. }
            | Self::Produced { worker, .. }
            | Self::Released { worker, .. }
            | Self::Cancelled { worker, .. }
            | Self::Finished { worker, .. }
            | Self::Lost { worker, .. }
            | Self::Broken { worker, .. } => Some(*worker),
            Self::Stop(_) | Self::Halt { .. } | Self::Abandon { .. } => None,
        }
    }
}

/// A way to end a run early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Produce nothing more; process what was produced to its end.
    Drain,
    /// Drop what waits, and do not wait for what workers have in hand.
    Now,
}

/// A change that an operator wants while the run goes on, or that the caller brings about.
#[derive(Debug)]
pub(crate) enum ControlRequest {
    /// Begin nothing new at this step or, without one, at all.
    Pause { step: Option<StepId> },
    /// Go on after a pause.
    Resume { step: Option<StepId> },
    /// Change the number of the step's workers.
    SetWorkers { step: StepId, workers: usize },
    /// Try a failed input of this run again; `entry` is its quarantine entry.
    Requeue { step: StepId, entry: String, origin: ItemKey, payload: Payload },
    /// Give up all that descends from this origin; `running` says that this holds although a worker
    /// is at it.
    Cancel { origin: String, running: bool },
    /// The caller of the run has gone, for this reason.
    CallerGone { reason: String },
}

/// How many messages a run has given up. Those in the hands of workers are given up with what the
/// workers make of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cancelled {
    /// Messages that waited.
    pub waiting: u64,
    /// Messages in the hands of workers.
    pub in_hand: u64,
}

/// Why a run does not do what an operator wants; nothing has changed then. Steps go by name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The run has ended.
    #[error("the run is over")]
    Over,
    /// The run drains or was stopped.
    #[error("the run is stopping: it only finishes what it has taken")]
    Stopping,
    /// Not all workers are ready.
    #[error("the run is still starting its workers")]
    Starting,
    /// The step has finished.
    #[error("\"{0}\" has finished")]
    Finished(Arc<str>),
    /// The step at which the input failed has finished.
    #[error("\"{0}\" has finished; use drpipe quarantine retry, which starts a run of its own")]
    FinishedBeforeRetry(Arc<str>),
    /// The step cannot be resumed alone.
    #[error("the whole run is paused, and \"{0}\" with it: resume the run")]
    AllPaused(Arc<str>),
    /// A producer always has one worker.
    #[error("\"{0}\" is a producer: it has one worker")]
    Producer(Arc<str>),
    /// The class of the step allows one worker only.
    #[error("\"{0}\" can have one worker only: its class writes one product")]
    OneProduct(Arc<str>),
    /// In the sequential mode the number of workers is fixed.
    #[error("in the sequential mode each step has one worker")]
    Sequential,
    /// A step must have a worker.
    #[error("expected 1 to {most} workers, found 0; to stop the step, pause it")]
    NoWorkers {
        /// The most workers that a step can have.
        most: usize,
    },
    /// More workers than a step can have.
    #[error("expected 1 to {most} workers, found {found}")]
    TooManyWorkers {
        /// The most workers that a step can have.
        most: usize,
        /// The number that was asked for.
        found: usize,
    },
    /// The entry was tried again in this run.
    #[error("{0} was tried again already")]
    TriedAgain(String),
    /// Nothing descends from this origin; perhaps another one was meant.
    #[error("nothing of {origin:?} is under way: it has ended, or has not come{hint}")]
    NotUnderWay {
        /// The name that was given.
        origin: String,
        /// The question whether a similar name was meant.
        hint: String,
    },
    /// A worker of the step has something of this origin in hand.
    #[error(
        "\"{1}\" has {0:?} in hand: it can be cancelled only if what is running may be (--running)"
    )]
    InHand(String, Arc<str>),
    /// The caller's workers have something in hand, or more is to come.
    #[error("the run has work that only its caller can do")]
    AtWork,
}

/// An action that the router wants a driver to carry out.
#[derive(Debug)]
pub(crate) enum Action {
    /// Let the producer emit at most `count` items.
    Grant { worker: WorkerId, count: u32 },
    /// Hand the messages to the worker, in this order.
    Work { worker: WorkerId, batches: Vec<Batch> },
    /// Let the worker's stage finish.
    Finish { worker: WorkerId },
    /// End the worker; the router ignores its later reports.
    Stop { worker: WorkerId },
    /// Start a worker in this slot.
    Spawn { worker: WorkerId },
    /// Tell the producer what became of these items.
    Acknowledge { worker: WorkerId, items: Vec<Acknowledgement> },
    /// Tell the producer that an item goes on that it wanted to cancel.
    NotCancelled { worker: WorkerId, number: u64 },
    /// End the worker's process when it is at this message.
    End { worker: WorkerId, message: MessageId },
    /// Write the failed input to quarantine.
    Quarantine(Box<FailedInput>),
    /// Publish the event.
    Publish(Event),
    /// Write the record to the journal.
    Record(Record),
    /// Write the spans to the trace.
    Spans(Vec<Span>),
}

impl Action {
    /// Names the worker whose stage the action lets work.
    pub(crate) fn worker(&self) -> Option<WorkerId> {
        match self {
            Self::Grant { worker, .. }
            | Self::Work { worker, .. }
            | Self::Finish { worker }
            | Self::Acknowledge { worker, .. } => Some(*worker),
            _ => None,
        }
    }
}

/// A failed input on its way to quarantine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FailedInput {
    /// The name of its quarantine entry.
    pub(crate) entry: String,
    pub(crate) step: Arc<str>,
    pub(crate) worker: Option<usize>,
    pub(crate) origin: ItemKey,
    /// From 1.
    pub(crate) attempt: u32,
    pub(crate) cause: Cause,
    pub(crate) failure: Failure,
    pub(crate) payload: Payload,
}

/// What became of one attempt of a step on one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AttemptOutcome {
    Done,
    /// It failed and will be repeated.
    Retrying(Failure),
    /// It failed and was given up.
    Failed(Failure),
    /// It was left when the run was stopped.
    Dropped,
}
