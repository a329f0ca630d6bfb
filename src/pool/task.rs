//! A task that was submitted, and how it ends.

use std::marker::PhantomData;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::progress::Counts;
use crate::base::cause::Cause;
use crate::base::failure::Failure;
use crate::base::lock::lock;
use crate::message::ItemKey;
use crate::pipeline::{End, Intake, Kept};
use crate::stage::data::Data;
use crate::stage::{Acknowledged, Results};

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// Its function returned this failure at the last attempt.
    #[error("{0}")]
    Failed(Failure),
    /// Its function panicked at the last attempt. The worker goes on.
    #[error("{0}")]
    Panicked(Failure),
    /// It took longer than this limit, and its worker process was ended.
    #[error("it took longer than {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// Its worker process ended during it, for this reason; also one that the memory limit ended.
    #[error("{0}")]
    Lost(String),
    /// It was cancelled.
    #[error("it was cancelled")]
    Cancelled,
    /// The pool was stopped before it was done.
    #[error("the pool was stopped before it was done")]
    Dropped,
    /// The pool could not go on, for this reason, and had not done it.
    #[error("the pool could not go on: {0}")]
    RunEnded(String),
}

type Outcome = Result<Results, TaskError>;

/// What a task and its pool share.
pub(super) struct Shared {
    pub(super) name: ItemKey,
    /// The time limit, if it has one.
    limit: Option<Duration>,
    counts: Arc<Counts>,
    outcome: Mutex<Option<Outcome>>,
    ended: Condvar,
}

impl Shared {
    pub(super) fn new(name: ItemKey, limit: Option<Duration>, counts: Arc<Counts>) -> Arc<Self> {
        let (outcome, ended) = (Mutex::new(None), Condvar::new());
        Arc::new(Self { name, limit, counts, outcome, ended })
    }

    fn outcome_of(&self, end: End) -> Outcome {
        match end {
            End::NotDone { reason: Some(why), .. } => Err(TaskError::RunEnded(why.to_string())),
            End::NotDone { reason: None, .. } => Err(TaskError::Dropped),
            End::Told(item) => match item.outcome {
                Acknowledged::Done { results } => Ok(results),
                Acknowledged::Cancelled => Err(TaskError::Cancelled),
                Acknowledged::Dropped => Err(TaskError::Dropped),
                Acknowledged::Failed { cause, failure, .. } => Err(match cause {
                    Cause::Panicked => TaskError::Panicked(failure),
                    Cause::Lost => TaskError::Lost(failure.to_string()),
                    Cause::TimedOut => TaskError::TimedOut(self.limit.unwrap_or_default()),
                    Cause::Cancelled => TaskError::Cancelled,
                    Cause::Failed | Cause::Late | Cause::InVain => TaskError::Failed(failure),
                }),
            },
        }
    }

    /// The value that the task has returned, or why there is none; none before it has ended.
    pub(super) fn result<Out: Data>(&self) -> Option<Result<Out, TaskError>> {
        lock(&self.outcome).clone().map(opened)
    }

    fn wait<Out: Data>(&self, end: Option<Instant>) -> Option<Result<Out, TaskError>> {
        let mut outcome = lock(&self.outcome);
        while outcome.is_none() {
            outcome = match end {
                None => self.ended.wait(outcome).unwrap_or_else(PoisonError::into_inner),
                Some(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    let waited = self.ended.wait_timeout(outcome, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let ended = outcome.clone();
        drop(outcome);
        ended.map(opened)
    }
}

fn opened<Out: Data>(outcome: Outcome) -> Result<Out, TaskError> {
    let results = outcome?;
    if results.len() != 1 {
        let message =
            format!("the task has emitted {} values, expected 1: its result", results.len());
        return Err(TaskError::Failed(Failure::permanent(message)));
    }
    results.get(0).map_err(TaskError::Failed)
}

/// A task as the run's feed keeps it.
pub(super) struct Submitted(pub(super) Arc<Shared>);

impl Kept for Submitted {
    type Ended = Arc<Shared>;

    fn end(self, end: End) -> Arc<Shared> {
        let Self(task) = self;
        let outcome = task.outcome_of(end);
        let counts = &task.counts;
        let count = match &outcome {
            Ok(_) => &counts.done,
            Err(TaskError::Cancelled | TaskError::Dropped | TaskError::RunEnded(_)) => {
                &counts.cancelled
            }
            Err(_) => &counts.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
        *lock(&task.outcome) = Some(outcome);
        task.ended.notify_all();
        task
    }
}

/// A task that a pool has taken.
///
/// It ends once, whatever happens. Dropping this lets the task go on, and lets go of its result.
pub struct Task<Out> {
    shared: Arc<Shared>,
    number: u64,
    intake: Arc<Intake<Submitted>>,
    marker: PhantomData<fn() -> Out>,
}

impl<Out: Data> Task<Out> {
    pub(super) fn new(shared: Arc<Shared>, number: u64, intake: Arc<Intake<Submitted>>) -> Self {
        Self { shared, number, intake, marker: PhantomData }
    }

    /// Waits until the task has ended, and returns what its function has returned. A task that
    /// waits for another one of its own pool keeps a worker busy: if all do so, none goes on.
    ///
    /// # Errors
    /// Why there is no result.
    pub fn wait(self) -> Result<Out, TaskError> {
        // Without a time there is always a result.
        self.shared.wait(None).unwrap_or(Err(TaskError::Dropped))
    }

    /// As [`Task::wait`], but waits for this time at most; none if the task has not ended then.
    pub fn wait_for(&self, time: Duration) -> Option<Result<Out, TaskError>> {
        self.shared.wait(Instant::now().checked_add(time))
    }

    /// Whether the task has ended.
    pub fn is_done(&self) -> bool {
        lock(&self.shared.outcome).is_some()
    }

    /// The name that the task was given, or its value has ([`Data::origin`]).
    pub fn name(&self) -> Option<&str> {
        self.shared.name.as_deref()
    }

    /// Cancels the task unless a worker has it already. Returns whether it is cancelled. Waits for
    /// the router's answer, which takes microseconds while it is not busy.
    pub fn cancel(&self) -> bool {
        self.intake.cancel(self.number, false);
        *lock(&self.shared.outcome) == Some(Err(TaskError::Cancelled))
    }

    /// Cancels the task also if a worker is at it, and does not wait. The process of such a worker
    /// is ended and replaced. A thread cannot be ended: its task goes on to its end, and counts
    /// as cancelled then. A task that has ended is not changed.
    pub fn cancel_running(&self) {
        self.intake.cancel(self.number, true);
    }
}
