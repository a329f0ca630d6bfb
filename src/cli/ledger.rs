//! The ledger at the end of a run.

use std::time::Duration;

use crate::pipeline::{Report, StepReport, Verdict};
use crate::registry::Kind;

const HEADINGS: [&str; 10] = [
    "step", "workers", "received", "done", "filtered", "failed", "dropped", "busy %", "mean", "p99",
];

/// The ledger as a table, and what follows from it.
pub(super) fn text(report: &Report) -> String {
    let rows: Vec<[String; 10]> = report.steps.iter().map(row).collect();
    let mut widths = HEADINGS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = line(&HEADINGS.map(str::to_owned), &widths);
    for row in &rows {
        text += &line(row, &widths);
    }
    text + &conclusion(report)
}

fn row(step: &StepReport) -> [String; 10] {
    let counts = &step.counts;
    let received = match step.kind {
        // A producer receives nothing: what it has done is to emit.
        Kind::Producer => ["-".into(), counts.emitted.to_string()],
        _ => [counts.received.to_string(), counts.done.to_string()],
    };
    let [received, done] = received;
    [
        step.name.clone(),
        step.workers.to_string(),
        received,
        done,
        counts.filtered.to_string(),
        counts.failed.to_string(),
        counts.dropped.to_string(),
        format!("{:.0}", step.busy_percent),
        duration(step.mean),
        duration(step.p99),
    ]
}

fn line(cells: &[String; 10], widths: &[usize; 10]) -> String {
    let mut line = format!("{:<width$}", cells[0], width = widths[0]);
    for (cell, width) in cells.iter().zip(widths).skip(1) {
        line += &format!("  {cell:>width$}");
    }
    line + "\n"
}

fn conclusion(report: &Report) -> String {
    let mut text = String::new();
    if let Some(step) = report.bottleneck.as_deref().and_then(|name| report.step(name)) {
        text += &format!(
            "bottleneck: {} (busy {:.0} % of {} on {} {})\n",
            step.name,
            step.busy_percent,
            duration(report.elapsed),
            step.workers,
            if step.workers == 1 { "worker" } else { "workers" },
        );
    }
    if report.skipped > 0 {
        text += &format!("skipped: {} done in earlier runs\n", report.skipped);
    }
    if let Some(directory) = &report.quarantine {
        let inputs = if report.quarantined == 1 { "input" } else { "inputs" };
        text += &format!(
            "quarantine: {} failed {inputs} in {}\n",
            report.quarantined,
            directory.display()
        );
    }
    text += &match &report.verdict {
        Verdict::Done => format!("done in {}\n", duration(report.elapsed)),
        Verdict::SomeFailed => {
            format!("done in {}, but not everything succeeded\n", duration(report.elapsed))
        }
        Verdict::Stopped(reason) => format!("stopped: {reason}\n"),
        Verdict::Interrupted => format!("interrupted after {}\n", duration(report.elapsed)),
    };
    text
}

/// Three digits and a unit that suits them.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let (value, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s if s > 0.0 => (s * 1e6, "us"),
        _ => return "-".into(),
    };
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        let shown = |nanoseconds| duration(Duration::from_nanos(nanoseconds));
        assert_eq!(shown(1_234), "1.23 us");
        assert_eq!(shown(12_340_000), "12.3 ms");
        assert_eq!(shown(123_400_000_000), "123 s");
        assert_eq!(shown(0), "-");
    }
}
