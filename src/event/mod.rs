//! The events of a run: everything that its observers learn.

mod counts;
pub(crate) mod exit_code;
mod opened;
mod snapshot;
mod summary;
pub(crate) mod times;
pub(crate) mod verdict;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::failure::Failure;
use crate::base::path_name::as_text;
use crate::plan::OnError;
use times::in_seconds;

pub use crate::base::cause::Cause;
pub use crate::stage::ActionCounts;
pub use counts::Counts;
pub use opened::{NextStep, Opened, StepPlan};
pub use snapshot::{Snapshot, StepStatus, WorkerState, WorkerStatus};
pub use summary::{Report, StepReport};
pub use verdict::Verdict;

/// The severity of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Level {
    /// Helps to find a fault.
    Debug,
    /// Describes normal progress.
    Info,
    /// Something looks wrong, but the run continues.
    Warning,
    /// Something went wrong.
    Error,
}

/// An event with its place in the stream of its run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EventRecord {
    /// Counts from 1 without gaps, in the order in which things happened.
    pub number: u64,
    /// Time since the run's start, in seconds.
    #[serde(rename = "at_s", with = "in_seconds")]
    pub at: Duration,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Something that happened in a run. docs/EVENTS.md describes its form as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
#[non_exhaustive]
pub enum Event {
    /// The run is about to begin. Always the first event.
    Opened(Box<Opened>),
    /// Every worker is ready; work begins.
    Started,
    /// A worker's `init` failed: the run cannot begin.
    InitFailed {
        /// The step's name.
        step: Arc<str>,
        /// The worker's number within the step.
        worker: usize,
        /// Why.
        failure: Failure,
    },
    /// An attempt on a message failed and will be repeated.
    Retrying {
        /// The step's name.
        step: Arc<str>,
        /// The producer's item that the message descends from.
        origin: Option<Arc<str>>,
        /// The attempt that failed, from 1.
        attempt: u32,
        /// How it failed.
        cause: Cause,
        /// Why it failed.
        failure: Failure,
        /// The wait before the next attempt, in seconds.
        #[serde(rename = "wait_s", with = "in_seconds")]
        wait: Duration,
    },
    /// A stage put a message off: it is tried again later. A step that does so very often
    /// announces only some of them.
    Deferred {
        /// The step's name.
        step: Arc<str>,
        /// The producer's item that the message descends from.
        origin: Option<Arc<str>>,
        /// How often it was put off since another message ended, from 1.
        round: u32,
        /// The wait before the next attempt, in seconds; it is shorter if another message ends.
        #[serde(rename = "wait_s", with = "in_seconds")]
        wait: Duration,
        /// What it waits for, in the words of its stage.
        why: String,
    },
    /// The last attempt on a message failed.
    Failed {
        /// The step's name.
        step: Arc<str>,
        /// The worker's number within the step; none if the message reached no worker.
        worker: Option<usize>,
        /// The message's number in the run.
        #[serde(default)]
        message: u64,
        /// The producer's item that the message descends from.
        origin: Option<Arc<str>>,
        /// The attempt that failed, from 1.
        attempt: u32,
        /// How it failed.
        cause: Cause,
        /// Why it failed.
        failure: Failure,
        /// What the step does with failed messages.
        policy: OnError,
        /// The quarantine entry that keeps it, if one does.
        entry: Option<String>,
    },
    /// The producer failed: production has ended early.
    ProducerFailed {
        /// The step's name.
        step: Arc<str>,
        /// Why.
        failure: Failure,
    },
    /// A worker's `finish` failed.
    FinishFailed {
        /// The step's name.
        step: Arc<str>,
        /// The worker's number within the step.
        worker: usize,
        /// Why.
        failure: Failure,
    },
    /// A worker died.
    WorkerLost {
        /// The step's name.
        step: Arc<str>,
        /// The worker's number within the step.
        worker: usize,
        /// What is known about its end.
        reason: String,
    },
    /// A worker process logged or printed something.
    Said {
        /// The step's name.
        step: Arc<str>,
        /// The worker's number within the step.
        worker: usize,
        /// Its severity.
        level: Level,
        /// The logger within the worker; empty if the text was printed.
        logger: String,
        /// One line or several.
        text: String,
    },
    /// The step has finished.
    StepFinished {
        /// The step's name.
        step: Arc<str>,
        /// Its final counts.
        #[serde(flatten)]
        counts: Counts,
    },
    /// The run will end before its inputs do.
    Stopping {
        /// Why.
        reason: String,
    },
    /// A run that resumes an earlier one decided whether to skip a message of the producer.
    Decided {
        /// The message's name.
        origin: Arc<str>,
        /// Whether it is done already and is not processed again.
        skipped: bool,
        /// Why.
        why: String,
    },
    /// The producer emits messages without an origin. The journal cannot tell them apart, so
    /// a run that resumes this one processes all of them again.
    Untracked {
        /// The step's name.
        step: Arc<str>,
    },
    /// The producer announced how many messages it expects to emit in all.
    Expected {
        /// The step's name.
        step: Arc<str>,
        /// How many.
        total: u64,
    },
    /// A stage made a file. A step that makes very many announces only some of them.
    Product {
        /// The step's name.
        step: Arc<str>,
        /// The worker's number within the step.
        worker: usize,
        /// The producer's item that the file was made from.
        origin: Option<Arc<str>>,
        /// Its path.
        #[serde(with = "as_text")]
        path: PathBuf,
    },
    /// One step, or the whole run, begins nothing new.
    Paused {
        /// The step's name; none for the whole run.
        step: Option<Arc<str>>,
    },
    /// One step, or the whole run, resumes after a pause.
    Resumed {
        /// The step's name; none for the whole run.
        step: Option<Arc<str>>,
    },
    /// An operator set the number of a step's workers.
    WorkersSet {
        /// The step's name.
        step: Arc<str>,
        /// The number of workers.
        workers: usize,
    },
    /// A failed input left the quarantine and is tried again.
    Requeued {
        /// The step's name.
        step: Arc<str>,
        /// The producer's item that the message descends from.
        origin: Option<Arc<str>>,
        /// The quarantine entry that kept it.
        entry: String,
    },
    /// An operator or the producer no longer wanted an item: all that descends from it was given up.
    Cancelled {
        /// The name of the step at which it was.
        step: Arc<str>,
        /// The producer's item.
        origin: Option<Arc<str>>,
        /// How many messages waited there.
        waiting: u64,
        /// How many were in the hands of workers: what these make of them is not taken.
        in_hand: u64,
    },
    /// The caller, the program that has started the run, has provided a worker.
    Attached {
        /// The step's name.
        step: Arc<str>,
        /// The worker's number within the step.
        worker: usize,
        /// The number of its process.
        pid: u32,
    },
    /// A worker in the caller itself has passed a time limit, which nobody can enforce there.
    Overdue {
        /// The step's name.
        step: Arc<str>,
        /// The worker's number within the step.
        worker: usize,
        /// The message's number in the run.
        message: u64,
        /// The limit, in seconds.
        #[serde(rename = "limit_s", with = "in_seconds")]
        limit: Duration,
    },
    /// Where the run stands; at most ten times a second.
    Progress(Snapshot),
    /// The run is over. Always the last event, unless that is `Error`.
    Ended(Box<Report>),
    /// The run could not go on.
    Error {
        /// The exit code.
        exit_code: u8,
        /// Why.
        reason: String,
    },
}
