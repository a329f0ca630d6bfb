//! What became of a run.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::Mode;
use crate::config::plan::Plan;
use crate::event::seconds;
use crate::ledger::Counts;
use crate::observe::Left;
use crate::registry::Kind;
use crate::router::{Router, Verdict};

/// What became of a run: what `--summary FILE` writes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The version of drpipe.
    pub version: &'static str,
    /// The name of the run.
    pub run: String,
    /// How it ended.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The exit code that follows from it.
    pub exit_code: u8,
    /// From the start of the workers to the end, in seconds.
    #[serde(rename = "elapsed_s", serialize_with = "seconds")]
    pub elapsed: Duration,
    /// The steps in the order of the plan.
    pub steps: Vec<StepReport>,
    /// The step whose workers were busy for the largest part of the run.
    pub bottleneck: Option<String>,
    /// Messages of the producer that were not processed, because the journal has
    /// them as done. They are not among those emitted.
    pub skipped: u64,
    /// What failed in `finish`, in words.
    pub finish_failures: Vec<String>,
    /// Where the failed inputs are, if there are any.
    pub quarantine: Option<PathBuf>,
    /// How many inputs are there.
    pub quarantined: u64,
    /// The hash of the configuration.
    pub config_hash: String,
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: String,
    /// What its class is.
    pub kind: Kind,
    /// How many workers it had.
    pub workers: usize,
    /// What became of its messages.
    #[serde(flatten)]
    pub counts: Counts,
    /// The part of the run's time that its workers were busy, in percent.
    pub busy_percent: f64,
    /// The mean time of one call, in seconds.
    #[serde(rename = "mean_s", serialize_with = "seconds")]
    pub mean: Duration,
    /// 99 of 100 calls took at most this time, in seconds.
    #[serde(rename = "p99_s", serialize_with = "seconds")]
    pub p99: Duration,
    /// The most messages that ever stood in its queue.
    pub queue_high_water: usize,
}

impl Report {
    pub(super) fn new(
        run: String,
        plan: &Plan,
        mode: Mode,
        router: &Router,
        left: Left,
        elapsed: Duration,
    ) -> Self {
        let snapshot = router.snapshot(elapsed);
        let steps: Vec<StepReport> = std::iter::zip(&plan.steps, snapshot.steps)
            .map(|(step, status)| {
                (step, status, if mode == Mode::Threads { step.workers } else { 1 })
            })
            .map(|(step, status, threads)| StepReport {
                name: step.name.clone(),
                class: step.class.clone(),
                kind: step.kind,
                workers: step.workers,
                counts: status.counts,
                busy_percent: 100.0 * status.busy_time.as_secs_f64()
                    / (elapsed.as_secs_f64() * threads as f64).max(f64::MIN_POSITIVE),
                mean: status.mean,
                p99: status.p99,
                queue_high_water: status.high_water,
            })
            .collect();
        let Left { kept, journal } = left;
        // An input that could not be kept is lost, and a record that could not be
        // written too: no verdict may hide that.
        let verdict = match kept.error.or(journal.error) {
            Some(error) => Verdict::Stopped(error),
            None => router.verdict(),
        };
        let busiest = steps.iter().max_by(|a, b| a.busy_percent.total_cmp(&b.busy_percent));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            run,
            exit_code: verdict.exit_code(),
            verdict,
            elapsed,
            bottleneck: busiest.map(|step| step.name.clone()),
            steps,
            skipped: journal.skipped,
            finish_failures: router.finish_failures().to_vec(),
            quarantine: kept.directory,
            quarantined: kept.count,
            config_hash: plan.config_hash.clone(),
        }
    }

    /// The step of this name.
    pub fn step(&self, name: &str) -> Option<&StepReport> {
        self.steps.iter().find(|step| step.name == name)
    }
}
