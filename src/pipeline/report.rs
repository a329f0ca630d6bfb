//! Makes the report of a run.

use std::time::Duration;

use super::Mode;
use crate::event::verdict::BUSY_ENOUGH;
use crate::event::{Report, StepReport, Verdict};
use crate::plan::Plan;
use crate::router::Router;
use crate::sinks::SinkReport;

pub(super) fn report(
    run: String,
    plan: &Plan,
    mode: Mode,
    router: &Router,
    left: SinkReport,
    elapsed: Duration,
) -> Report {
    let snapshot = router.snapshot(elapsed);
    let steps: Vec<StepReport> = std::iter::zip(&plan.steps, snapshot.steps)
        .enumerate()
        .map(|(index, (step, status))| (step, status, router.workforce(index, elapsed)))
        .map(|(step, status, (workers, there))| StepReport {
            name: step.name.clone(),
            class: step.class.clone(),
            kind: step.kind,
            workers,
            counts: status.counts,
            busy_percent: part(
                status.busy_time,
                if mode == Mode::Threads { there } else { elapsed },
            ),
            busy_time: status.busy_time,
            median: status.median,
            mean: status.mean,
            p99: status.p99,
            queue_high_water: status.high_water,
        })
        .collect();
    let SinkReport { kept, journal, products } = left;
    // An input that could not be kept is lost, and a record that could not be
    // written too: no verdict may hide that.
    let verdict = match kept.error.or(journal.error) {
        Some(error) => Verdict::Stopped(error),
        None => router.verdict(),
    };
    let candidates = steps.iter().filter(|step| step.busy_percent >= 100.0 * BUSY_ENOUGH);
    let busiest = candidates.max_by(|a, b| a.busy_percent.total_cmp(&b.busy_percent));
    Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
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
        products,
        config_hash: plan.config_hash.clone(),
    }
}

/// In percent. One that is to go may be busy a little longer than it is counted.
fn part(busy: Duration, there: Duration) -> f64 {
    (100.0 * busy.as_secs_f64() / there.as_secs_f64().max(f64::MIN_POSITIVE)).min(100.0)
}
