//! The summary of a run: what became of each step, and of the whole.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::times::in_seconds;
use super::verdict::Verdict;
use crate::base::path_name::as_text_if_any;
use crate::stage::ActionCounts;
use crate::stage::registry::Kind;

/// The report of a run, which `--summary FILE` writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// The version of drpipe.
    pub version: String,
    /// The name of the run.
    pub run: String,
    /// How it ended.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The exit code that follows from it.
    pub exit_code: u8,
    /// The time from the start of the workers to the end, in seconds.
    #[serde(rename = "elapsed_s", with = "in_seconds")]
    pub elapsed: Duration,
    /// The steps in the order of the plan.
    pub steps: Vec<StepReport>,
    /// The step whose workers were busy for the largest part of the run, if that is at least
    /// half of it; otherwise no step was a bottleneck.
    pub bottleneck: Option<String>,
    /// Messages of the producer that earlier runs had done, so that this one skipped them. They
    /// do not count as emitted.
    pub skipped: u64,
    /// The failures of `finish`.
    pub finish_failures: Vec<String>,
    /// The directory of the failed inputs, if there are any.
    #[serde(default, with = "as_text_if_any")]
    pub quarantine: Option<PathBuf>,
    /// How many failed inputs are kept there.
    pub quarantined: u64,
    /// How many products the steps have announced in each directory.
    #[serde(default)]
    pub products: BTreeMap<String, u64>,
    /// The hash of the configuration.
    pub config_hash: String,
}

/// The report of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepReport {
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: String,
    /// Whether its class is a producer, a stage or a consumer.
    pub kind: Kind,
    /// The most workers that it could have at once.
    pub workers: usize,
    /// What became of its messages.
    #[serde(flatten)]
    pub counts: Counts,
    /// The part of their time that its workers were busy, in percent.
    pub busy_percent: f64,
    /// The time that its workers were busy, summed, in seconds.
    #[serde(rename = "busy_time_s", with = "in_seconds")]
    pub busy_time: Duration,
    /// Half of the calls took at most this time, in seconds.
    #[serde(rename = "median_s", with = "in_seconds")]
    pub median: Duration,
    /// The mean time of one call, in seconds.
    #[serde(rename = "mean_s", with = "in_seconds")]
    pub mean: Duration,
    /// 99 of 100 calls took at most this time, in seconds.
    #[serde(rename = "p99_s", with = "in_seconds")]
    pub p99: Duration,
    /// The most messages that ever stood in its queue.
    pub queue_high_water: usize,
    /// How often its actions were executed, in the order of their first executions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<ActionCounts>,
}

impl Report {
    /// The step of this name.
    pub fn step(&self, name: &str) -> Option<&StepReport> {
        self.steps.iter().find(|step| step.name == name)
    }
}
