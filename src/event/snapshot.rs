//! A snapshot: the state of a run at one moment, per step and per worker.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::times::in_seconds;

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
#[non_exhaustive]
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
