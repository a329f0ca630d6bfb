//! Reports: what a worker says about its work, and what is known about a worker's end.

use std::time::Duration;

use crate::base::failure::{Failure, Result};
use crate::base::ids::MessageId;
use crate::event::Cause;
use crate::stage::Next;

/// The result of the attempts on successive messages that a worker had in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) first: MessageId,
    /// The number of messages: 1 unless all of them are done.
    pub(crate) count: u32,
    /// The result of each attempt.
    pub(crate) outcome: Outcome,
    /// The number of messages that emitted nothing.
    pub(crate) silent: u32,
    /// The stage's total running time.
    pub(crate) busy: Duration,
}

/// The result of one attempt on a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Failed(Failure),
    /// Once more, after a wait; zero is the router's own.
    Deferred {
        wait: Duration,
        why: Failure,
    },
    Panicked(Failure),
}

/// A producer's report on its grant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Production {
    /// What the last call returned; none while another call runs under the same grant.
    pub(crate) result: Option<Result<Next>>,
    /// The number of calls of `next`.
    pub(crate) calls: u32,
    /// The total running time of the calls.
    pub(crate) busy: Duration,
}

/// What is known about a worker's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) reason: String,
    /// Why the attempt on the suspect failed: a lost worker or a timeout.
    pub(crate) cause: Cause,
    pub(crate) suspect: Suspect,
    pub(crate) blame: Blame,
}

/// How a worker's end is charged to the message that the worker was processing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The message exceeded a limit: the attempt failed like any other.
    Limit,
    /// The worker died, perhaps by chance: `lost_retries` are used up before `retries`.
    Death,
    /// Somebody asked the worker to end, perhaps together with a group of processes.
    /// The first such request is not charged to the message.
    Request,
    /// The worker ended as planned, at no message, and a successor takes its place.
    Plan,
}

/// The message that a lost worker was processing; the attempt on it has failed.
/// The other messages in hand were not begun, or are processed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suspect {
    /// Unknown: the oldest message in hand.
    Oldest,
    /// This message, if it is still in hand.
    Message(MessageId),
    /// The worker was processing no message.
    None,
}

impl Loss {
    /// The loss of a worker that was processing no message.
    pub(crate) fn of_no_message(reason: String) -> Self {
        Self { reason, cause: Cause::Lost, suspect: Suspect::None, blame: Blame::Death }
    }

    /// A loss about which only the reason is known.
    pub(crate) fn unexplained(reason: impl Into<String>) -> Self {
        let (cause, suspect, blame) = (Cause::Lost, Suspect::Oldest, Blame::Death);
        Self { reason: reason.into(), cause, suspect, blame }
    }
}
