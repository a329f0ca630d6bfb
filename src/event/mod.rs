//! What observers of a run see.

mod counts;
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

pub use counts::Counts;
pub use opened::{NextStep, Opened, StepPlan};
pub use snapshot::{Snapshot, StepStatus, WorkerState, WorkerStatus};
pub use summary::{Report, StepReport};
pub use verdict::Verdict;

/// How one attempt on a message went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Cause {
    /// The stage returned a failure.
    Failed,
    /// The stage panicked.
    Panicked,
    /// The worker died while it was at work on the message.
    Lost,
    /// The message took longer than the step's `timeout`; its worker was ended.
    #[serde(rename = "timed out")]
    TimedOut,
    /// The message was for a step that had already finished.
    Late,
}

/// How weighty a line of a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Level {
    /// For those who look for a fault.
    Debug,
    /// What is going on.
    Info,
    /// Something is odd.
    Warning,
    /// Something went wrong.
    Error,
}

/// One event of a run's stream, with its place there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// From 1, in the order in which things happened; none is left out.
    pub number: u64,
    /// Time since the run's start, in seconds.
    #[serde(rename = "at_s", with = "in_seconds")]
    pub at: Duration,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// One thing that happened in a run. As JSON it has the form that docs/EVENTS.md
/// describes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
#[non_exhaustive]
pub enum Event {
    /// The run is about to begin. Always the first.
    Opened(Box<Opened>),
    /// Every worker is ready; work begins.
    Started,
    /// A worker's `init` failed: nothing can be run.
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
        /// What the message descends from.
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
    /// The last attempt on a message failed.
    Failed {
        /// The step's name.
        step: Arc<str>,
        /// The worker's number within the step; none if it reached no worker.
        worker: Option<usize>,
        /// The message's number, as its worker was told it.
        #[serde(default)]
        message: u64,
        /// What the message descends from.
        origin: Option<Arc<str>>,
        /// The attempt that failed, from 1.
        attempt: u32,
        /// How it failed.
        cause: Cause,
        /// Why it failed.
        failure: Failure,
        /// What is done with the message.
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
        /// What is known of its end.
        reason: String,
    },
    /// A worker process has logged or printed something.
    Said {
        /// The step's name.
        step: Arc<str>,
        /// The worker's number within the step.
        worker: usize,
        /// How weighty it is.
        level: Level,
        /// Whose words they are within the worker; empty if they were printed.
        logger: String,
        /// The words, perhaps several lines.
        text: String,
    },
    /// The step has done its last work.
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
    /// A run that resumes an earlier one has decided about a message of the producer.
    Decided {
        /// What the message is called.
        origin: Arc<str>,
        /// True if it is done and is not processed again.
        skipped: bool,
        /// Why.
        why: String,
    },
    /// The producer emits messages without an origin: the journal cannot tell
    /// them apart, and a run that resumes this one does them all again.
    Untracked {
        /// The step's name.
        step: Arc<str>,
    },
    /// The producer has said how many messages it expects to emit in all.
    Expected {
        /// The step's name.
        step: Arc<str>,
        /// How many.
        total: u64,
    },
    /// A stage has made a file. Of steps that make very many, not all are told.
    Product {
        /// The step's name.
        step: Arc<str>,
        /// The worker's number within the step.
        worker: usize,
        /// What the file was made from.
        origin: Option<Arc<str>>,
        /// Its path.
        #[serde(with = "as_text")]
        path: PathBuf,
    },
    /// Nothing new is begun, at one step or at all of them.
    Paused {
        /// The step's name; none if it is the whole run.
        step: Option<Arc<str>>,
    },
    /// What was paused goes on.
    Resumed {
        /// The step's name; none if it is the whole run.
        step: Option<Arc<str>>,
    },
    /// Somebody has set the number of a step's workers.
    WorkersSet {
        /// The step's name.
        step: Arc<str>,
        /// How many there are to be.
        workers: usize,
    },
    /// A failed input was taken out of quarantine, to be tried again.
    Requeued {
        /// The step's name.
        step: Arc<str>,
        /// What the message descends from.
        origin: Option<Arc<str>>,
        /// The quarantine entry that kept it.
        entry: String,
    },
    /// Where the run stands, sent a few times a second.
    Progress(Snapshot),
    /// The run is over. Always the last, unless it is `Error`.
    Ended(Box<Report>),
    /// The run had to be given up.
    Error {
        /// The exit code.
        exit_code: u8,
        /// Why, in words.
        reason: String,
    },
}
