//! A snapshot: the state of a run at one moment, per step and per worker.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::times::in_seconds;
use crate::stage::ActionCounts;

/// Where a run stands at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// Time since the run's start, in seconds.
    #[serde(rename = "elapsed_s", with = "in_seconds")]
    pub elapsed: Duration,
    /// Whether the whole run is paused.
    #[serde(default)]
    pub paused: bool,
    /// Whether the producers have stopped, so that the run ends once all is processed.
    #[serde(default)]
    pub draining: bool,
    /// The steps in the order of the plan.
    pub steps: Vec<StepStatus>,
}

/// Where a step stands at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
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
    /// How long ago the first message of normal priority in its queue was made, at least, in
    /// seconds; 0 if there is none.
    #[serde(rename = "oldest_normal_s", with = "in_seconds", default)]
    pub oldest_normal: Duration,
    /// Workers that have work in hand.
    pub busy: usize,
    /// Workers that exist, or that are being started.
    pub workers: usize,
    /// The time that its workers have spent in the stage, summed, in seconds; failed attempts
    /// count too.
    #[serde(rename = "busy_time_s", with = "in_seconds")]
    pub busy_time: Duration,
    /// How long its busy workers have worked on what they have in hand, summed, in seconds:
    /// the part of their time that `busy_time` lacks yet.
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
    /// Messages that it has sent to each of its next steps and that wait for room there, in the
    /// order of the plan: the step has sent them, and the next one has not received them.
    #[serde(default)]
    pub held: Vec<u64>,
    /// The bytes of all held messages.
    #[serde(default)]
    pub held_bytes: u64,
    /// Failed messages that were tried again; they no longer count as failed.
    #[serde(default)]
    pub requeued: u64,
    /// Whether this step is paused, apart from a pause of the whole run.
    #[serde(default)]
    pub paused: bool,
    /// Whether it has finished.
    pub finished: bool,
    /// How often its actions were executed, in the order of their first executions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<ActionCounts>,
    /// Its workers, by number.
    #[serde(default)]
    pub each_worker: Vec<WorkerStatus>,
}

/// Where a worker stands at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// Its number within the step.
    pub worker: usize,
    /// What it does.
    pub state: WorkerState,
    /// How long it has been in this state, in seconds.
    #[serde(rename = "for_s", with = "in_seconds")]
    pub since: Duration,
    /// How many messages it has in hand.
    pub in_hand: usize,
    /// The number of the oldest message in hand.
    pub message: Option<u64>,
    /// The producer's item that the oldest message descends from.
    pub origin: Option<Arc<str>>,
    /// The time that it has spent in the stage, in seconds.
    #[serde(rename = "busy_time_s", with = "in_seconds")]
    pub busy_time: Duration,
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum WorkerState {
    /// Its stage is being built and initialized.
    Starting,
    /// It has nothing in hand.
    Idle,
    /// It has messages in hand, or produces.
    Busy,
    /// It waits for room in a full queue: for what it has emitted or, if it is a producer, for
    /// what it would emit.
    Held,
    /// Its stage finishes.
    Finishing,
}

impl WorkerState {
    /// Returns whether its stage may be running.
    pub(crate) fn is_at_work(self) -> bool {
        matches!(self, Self::Busy | Self::Finishing)
    }
}
