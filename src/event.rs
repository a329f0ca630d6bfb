//! What observers of a run see.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::config::plan::OnError;
use crate::error::Failure;
use crate::ledger::Counts;

/// How one attempt on a message went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
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

/// One thing that happened in a run. As JSON it has the form that docs/EVENTS.md
/// describes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
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
        #[serde(rename = "wait_s", serialize_with = "seconds")]
        wait: Duration,
    },
    /// The last attempt on a message failed.
    Failed {
        /// The step's name.
        step: Arc<str>,
        /// The worker's number within the step; none if it reached no worker.
        worker: Option<usize>,
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
    /// Where the run stands, sent a few times a second.
    Progress(Snapshot),
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// Time since the run's start, in seconds.
    #[serde(rename = "elapsed_s", serialize_with = "seconds")]
    pub elapsed: Duration,
    /// The steps in the order of the plan.
    pub steps: Vec<StepStatus>,
}

/// Where one step stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepStatus {
    /// Its name.
    pub name: Arc<str>,
    /// What became of its messages.
    #[serde(flatten)]
    pub counts: Counts,
    /// Messages in its queue.
    pub queued: usize,
    /// Bytes in its queue.
    pub queued_bytes: u64,
    /// The most messages that ever stood in its queue.
    pub high_water: usize,
    /// Workers that have work in hand.
    pub busy: usize,
    /// Workers in all.
    pub workers: usize,
    /// The time that its workers have spent in the stage, summed, in seconds.
    #[serde(rename = "busy_time_s", serialize_with = "seconds")]
    pub busy_time: Duration,
    /// The mean time of one call, in seconds.
    #[serde(rename = "mean_s", serialize_with = "seconds")]
    pub mean: Duration,
    /// 99 of 100 calls took at most this time, in seconds.
    #[serde(rename = "p99_s", serialize_with = "seconds")]
    pub p99: Duration,
    /// Whether it has done its last work.
    pub finished: bool,
}

/// A duration as a number of seconds.
pub(crate) fn seconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
