//! The summary of a run: what became of each step, and of the whole.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::times::in_seconds;
use super::verdict::Verdict;
use crate::base::path_name::as_text_if_any;
use crate::stage::registry::Kind;

/// What became of a run: what `--summary FILE` writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// From the start of the workers to the end, in seconds.
    #[serde(rename = "elapsed_s", with = "in_seconds")]
    pub elapsed: Duration,
    /// The steps in the order of the plan.
    pub steps: Vec<StepReport>,
    /// The step whose workers were busy for the largest part of the run, if that is half of
    /// it at least: otherwise nothing was a bottleneck.
    pub bottleneck: Option<String>,
    /// Messages of the producer that were not processed, because the journal has
    /// them as done. They are not among those emitted.
    pub skipped: u64,
    /// What failed in `finish`, in words.
    pub finish_failures: Vec<String>,
    /// Where the failed inputs are, if there are any.
    #[serde(default, with = "as_text_if_any")]
    pub quarantine: Option<PathBuf>,
    /// How many inputs are there.
    pub quarantined: u64,
    /// How many files the run's steps have announced as products, by directory.
    #[serde(default)]
    pub products: BTreeMap<String, u64>,
    /// The hash of the configuration.
    pub config_hash: String,
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: String,
    /// What its class is.
    pub kind: Kind,
    /// The most workers that it could have at a time.
    pub workers: usize,
    /// What became of its messages.
    #[serde(flatten)]
    pub counts: Counts,
    /// The part of the run's time that its workers were busy, in percent.
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
}

impl Report {
    /// The step of this name.
    pub fn step(&self, name: &str) -> Option<&StepReport> {
        self.steps.iter().find(|step| step.name == name)
    }
}
