//! Makes the report of a run.

use std::time::Duration;

use super::Mode;
use crate::base::ids::StepId;
use crate::driver::{EndedRun, Totals};
use crate::event::{Report, StepReport, Verdict};
use crate::plan::Plan;
use crate::sinks::SinkReport;
use crate::status::bottleneck;

pub(super) fn report(
    run: String,
    plan: &Plan,
    mode: Mode,
    ended: EndedRun,
    elapsed: Duration,
) -> Report {
    let EndedRun { router, sinks: SinkReport { finished, skipped }, totals } = ended;
    let Totals { products, mut actions } = totals;
    let snapshot = router.snapshot(elapsed);
    let steps: Vec<StepReport> = std::iter::zip(&plan.steps, snapshot.steps)
        .enumerate()
        .map(|(index, (step, status))| (step, status, router.workforce(StepId::at(index), elapsed)))
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
            actions: actions.remove(&status.name).unwrap_or_default(),
        })
        .collect();
    // No verdict may hide that an input could not be kept or a record not be written.
    let verdict = finished.lost.map_or_else(|| router.verdict(), Verdict::Stopped);
    let (quarantine, quarantined) = finished.quarantined.unzip();
    let bottleneck = bottleneck::of_whole_run(steps.iter().map(|step| step.busy_percent / 100.0));
    Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        run,
        exit_code: verdict.exit_code(),
        verdict,
        elapsed,
        bottleneck: bottleneck.map(|index| steps[index].name.clone()),
        steps,
        skipped,
        finish_failures: router.finish_failures().to_vec(),
        quarantine,
        quarantined: quarantined.unwrap_or_default(),
        products,
        config_hash: plan.config_hash.clone(),
    }
}

/// The part of their time that workers were busy, in percent. A worker that is leaving may be
/// busy a little longer than it is counted.
fn part(busy: Duration, there: Duration) -> f64 {
    (100.0 * busy.as_secs_f64() / there.as_secs_f64().max(f64::MIN_POSITIVE)).min(100.0)
}
