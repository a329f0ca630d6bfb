//! What observers of a run see.

pub mod counts;
pub mod summary;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::failure::Failure;
use crate::base::path_name::{as_text, as_text_if_any};
use crate::plan::OnError;
use crate::stage::registry::Kind;
use counts::{Counts, in_seconds};
use summary::Report;

/// How one attempt on a message went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// What is known of a run when it begins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// The version of the form of events: 1.
    pub format: u32,
    /// The version of drpipe.
    pub version: String,
    /// The name of the run.
    pub run: String,
    /// When it began, in UTC, as RFC 3339 has it.
    pub started: String,
    /// The machine.
    pub host: String,
    /// The program's process.
    pub pid: u32,
    /// The pipeline's name: what its configuration says, or that file without its ending,
    /// or the program that made it.
    #[serde(default)]
    pub pipeline: String,
    /// Whether one message at a time is done in the whole run.
    #[serde(default)]
    pub sequential: bool,
    /// The directory that relative paths are relative to.
    #[serde(with = "as_text")]
    pub directory: PathBuf,
    /// The program's arguments; empty if the run is part of another program.
    #[serde(default)]
    pub command: Vec<String>,
    /// The configuration with the command line's settings; null if a program made
    /// the pipeline.
    #[serde(default)]
    pub config: serde_json::Value,
    /// The hash of the configuration.
    pub config_hash: String,
    /// Where failed inputs are kept.
    #[serde(with = "as_text")]
    pub quarantine: PathBuf,
    /// The journal, if one is kept.
    #[serde(default, with = "as_text_if_any")]
    pub journal: Option<PathBuf>,
    /// The names of the steps in the order of the plan.
    pub steps: Vec<Arc<str>>,
    /// The steps in the same order.
    pub plan: Vec<StepPlan>,
}

/// What is known of a step when a run begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepPlan {
    /// Its name.
    pub name: Arc<str>,
    /// Its class.
    pub class: String,
    /// What its class is.
    pub kind: Kind,
    /// The most workers that it has by the configuration.
    pub workers: usize,
    /// The steps that it leads to, the default first.
    pub next_steps: Vec<NextStep>,
    /// The most messages that its queue holds; none is unbounded.
    pub queue_limit: Option<usize>,
    /// The most bytes that its queue holds; none is unbounded.
    pub queue_bytes: Option<u64>,
    /// What is done with a message that failed.
    pub on_error: OnError,
    /// How often a failed message is tried again.
    pub retries: u32,
}

/// An edge of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextStep {
    /// The name of the step that it leads to.
    pub name: Arc<str>,
    /// Whether it closes a loop.
    pub feedback: bool,
}

/// Where a run stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Time since the run's start, in seconds.
    #[serde(rename = "elapsed_s", with = "in_seconds")]
    pub elapsed: Duration,
    /// Whether the whole run is paused.
    #[serde(default)]
    pub paused: bool,
    /// Whether nothing more is produced.
    #[serde(default)]
    pub draining: bool,
    /// The steps in the order of the plan.
    pub steps: Vec<StepStatus>,
}

/// Where one step stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Workers that there are, or that are being started.
    pub workers: usize,
    /// The time that its workers have spent in the stage, summed, in seconds, whatever came
    /// of it.
    #[serde(rename = "busy_time_s", with = "in_seconds")]
    pub busy_time: Duration,
    /// How long its busy workers have been at what they have in hand, summed, in
    /// seconds: the part of their time that `busy_time` does not have yet.
    #[serde(rename = "running_s", with = "in_seconds", default)]
    pub running: Duration,
    /// Half of the calls took at most this time, in seconds.
    #[serde(rename = "median_s", with = "in_seconds", default)]
    pub median: Duration,
    /// The mean time of one call, in seconds.
    #[serde(rename = "mean_s", with = "in_seconds")]
    pub mean: Duration,
    /// 99 of 100 calls took at most this time, in seconds.
    #[serde(rename = "p99_s", with = "in_seconds")]
    pub p99: Duration,
    /// Messages sent to each of its next steps, in the order of the plan.
    #[serde(default)]
    pub sent: Vec<u64>,
    /// The steps whose full queues its workers wait for.
    #[serde(default)]
    pub waits_for: Vec<Arc<str>>,
    /// Messages that it has sent to each of its next steps and that wait for room there,
    /// in the order of the plan: they are among those sent and not yet among those received.
    #[serde(default)]
    pub held: Vec<u64>,
    /// Bytes of them all.
    #[serde(default)]
    pub held_bytes: u64,
    /// Messages that failed and were taken up again: they are not among those that failed.
    #[serde(default)]
    pub requeued: u64,
    /// Whether it is paused by itself.
    #[serde(default)]
    pub paused: bool,
    /// Whether it has done its last work.
    pub finished: bool,
    /// Its workers, by number.
    #[serde(default)]
    pub each_worker: Vec<WorkerStatus>,
}

/// Where one worker stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its number within the step.
    pub worker: usize,
    /// What it is doing.
    pub state: WorkerState,
    /// How long it has been at it, in seconds.
    #[serde(rename = "for_s", with = "in_seconds")]
    pub since: Duration,
    /// How many messages it has in hand.
    pub in_hand: usize,
    /// The number of the oldest of them.
    pub message: Option<u64>,
    /// What that one descends from.
    pub origin: Option<Arc<str>>,
    /// The time that it has spent in the stage, in seconds.
    #[serde(rename = "busy_time_s", with = "in_seconds")]
    pub busy_time: Duration,
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// Its stage is being built and initialized.
    Starting,
    /// It has nothing in hand.
    Idle,
    /// It has messages in hand, or produces.
    Busy,
    /// What it has emitted waits for room in a full queue, or, of a producer, what it
    /// would emit.
    Held,
    /// Its stage finishes.
    Finishing,
}

impl WorkerState {
    /// Whether its stage may be running.
    pub(crate) fn is_at_work(self) -> bool {
        matches!(self, Self::Busy | Self::Finishing)
    }
}
