//! What goes into the router and what comes out: the words between it and the
//! drivers.

use std::sync::Arc;

use crate::base::failure::{Failure, Result};
use crate::base::ids::{StepId, WorkerId};
use crate::event::{Cause, Event};
use crate::message::batch::{Batch, Output};
use crate::message::{ItemKey, Payload};
use crate::protocol::report::{Completion, Loss, Production};

use super::{Record, Span};

/// What a driver tells the router.
#[derive(Debug)]
pub(crate) enum Input {
    /// The worker has built and initialized its stage.
    Ready { worker: WorkerId },
    /// The worker could not.
    InitFailed { worker: WorkerId, failure: Failure },
    /// The worker has processed the oldest messages that it had in hand, in
    /// order; `outputs` holds what those that are done emitted, in order.
    Done { worker: WorkerId, completions: Vec<Completion>, outputs: Vec<Output> },
    /// The producer has used its grant, or a part of it.
    Produced { worker: WorkerId, production: Production, outputs: Vec<Output> },
    /// The worker has finished, and emitted `outputs` in doing so.
    Finished { worker: WorkerId, result: Result<()>, outputs: Vec<Output> },
    /// The worker has died.
    Lost { worker: WorkerId, loss: Loss },
    /// The worker does not keep to the protocol.
    Broken { worker: WorkerId, reason: String },
    /// The run shall end before its inputs do.
    Stop(Stop),
    /// What the run depends on has failed: production ends, with this reason.
    Halt { reason: String },
}

impl Input {
    /// The worker that the input is about.
    pub(super) fn worker(&self) -> Option<WorkerId> {
        match self {
            Self::Ready { worker }
            | Self::InitFailed { worker, .. }
            | Self::Done { worker, .. }
            | Self::Produced { worker, .. }
            | Self::Finished { worker, .. }
            | Self::Lost { worker, .. }
            | Self::Broken { worker, .. } => Some(*worker),
            Self::Stop(_) | Self::Halt { .. } => None,
        }
    }
}

/// How a run is made to end early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nothing more is produced; what was produced is processed to its end.
    Drain,
    /// What waits is dropped; what is in hand is awaited no longer.
    Now,
}

/// What an operator wants changed while the run goes on.
#[derive(Debug)]
pub(crate) enum ControlRequest {
    /// Begin nothing new, at this step or at all.
    Pause { step: Option<StepId> },
    /// Go on.
    Resume { step: Option<StepId> },
    /// Have so many workers.
    SetWorkers { step: StepId, workers: usize },
    /// Try a failed input of this run again, which is kept in this entry.
    Requeue { step: StepId, entry: String, origin: ItemKey, payload: Payload },
}

/// What the router wants done.
#[derive(Debug)]
pub(crate) enum Action {
    /// Let the producer emit `count` items, or fewer.
    Grant { worker: WorkerId, count: u32 },
    /// Hand the messages to the worker, in this order.
    Work { worker: WorkerId, batches: Vec<Batch> },
    /// Let the worker's stage finish.
    Finish { worker: WorkerId },
    /// Let the worker end; nothing more is heard of it.
    Stop { worker: WorkerId },
    /// Start a worker anew in this place.
    Spawn { worker: WorkerId },
    /// Keep a failed input.
    Quarantine(Box<FailedInput>),
    /// Tell the observers.
    Tell(Event),
    /// Write this into the journal.
    Record(Record),
    /// Write these into the trace.
    Spans(Vec<Span>),
}

impl Action {
    /// Whose stage it lets work.
    pub(crate) fn worker(&self) -> Option<WorkerId> {
        match self {
            Self::Grant { worker, .. } | Self::Work { worker, .. } | Self::Finish { worker } => {
                Some(*worker)
            }
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
