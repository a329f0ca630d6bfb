//! Progress: a bar per step on a terminal, now and then a line elsewhere.

use std::collections::{BTreeMap, VecDeque};
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::config::plan::Plan;
use crate::event::{Snapshot, StepStatus};

/// Time between lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The time over which a bar's rate is taken.
const RATE_OVER: Duration = Duration::from_secs(1);
/// The width of a queue's bar in characters.
const QUEUE_WIDTH: usize = 10;

pub(super) enum Progress {
    Silent,
    Bars {
        bars: BTreeMap<String, ProgressBar>,
        limits: BTreeMap<String, Option<usize>>,
        /// The snapshots of the last second: rates are taken over it.
        recent: VecDeque<Snapshot>,
    },
    Lines {
        next: Duration,
        before: Option<Snapshot>,
    },
}

impl Progress {
    /// Bars on a terminal, lines elsewhere, nothing if `quiet`.
    pub(super) fn new(plan: &Plan, multi: &MultiProgress, quiet: bool) -> Self {
        if quiet {
            return Self::Silent;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines { next: LINE_EVERY, before: None };
        }
        let width = plan.steps.iter().map(|step| step.name.chars().count()).max().unwrap_or(0);
        let style = ProgressStyle::with_template("{prefix} {spinner} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bars = plan.steps.iter().map(|step| {
            let bar = multi.add(ProgressBar::new_spinner().with_style(style.clone()));
            bar.set_prefix(format!("{:width$}", step.name));
            (step.name.clone(), bar)
        });
        let bars = bars.collect();
        let limits = plan.steps.iter().map(|s| (s.name.clone(), s.queue_limit)).collect();
        Self::Bars { bars, limits, recent: VecDeque::new() }
    }

    pub(super) fn show(&mut self, snapshot: &Snapshot) {
        match self {
            Self::Silent => {}
            Self::Bars { bars, limits, recent } => {
                for step in &snapshot.steps {
                    if let Some(bar) = bars.get(&*step.name) {
                        let limit = limits.get(&*step.name).copied().flatten();
                        bar.set_message(bar_text(
                            step,
                            limit,
                            rate(step, snapshot, recent.front()),
                        ));
                        bar.tick();
                    }
                }
                let past = |old: &Snapshot| old.elapsed + RATE_OVER <= snapshot.elapsed;
                while recent.get(1).is_some_and(past) {
                    recent.pop_front();
                }
                recent.push_back(snapshot.clone());
            }
            Self::Lines { next, before } => {
                if snapshot.elapsed >= *next {
                    *next = snapshot.elapsed + LINE_EVERY;
                    super::log::progress(&line(snapshot, before.as_ref()));
                    *before = Some(snapshot.clone());
                }
            }
        }
    }

    /// Takes the bars away: the ledger says the rest.
    pub(super) fn finish(self) {
        if let Self::Bars { bars, .. } = self {
            bars.values().for_each(ProgressBar::finish_and_clear);
        }
    }
}

/// What a step has done: a producer emits, the others complete.
fn done(step: &StepStatus) -> u64 {
    if step.counts.received == 0 { step.counts.emitted } else { step.counts.done }
}

/// Messages a second since the snapshot before, or since the start.
fn rate(step: &StepStatus, now: &Snapshot, before: Option<&Snapshot>) -> f64 {
    let earlier = before.and_then(|b| b.steps.iter().find(|other| other.name == step.name));
    let since = before.map_or(Duration::ZERO, |before| before.elapsed);
    let seconds = now.elapsed.saturating_sub(since).as_secs_f64();
    let count = done(step).saturating_sub(earlier.map_or(0, done));
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

fn bar_text(step: &StepStatus, limit: Option<usize>, rate: f64) -> String {
    let filled = match limit {
        Some(limit) if limit > 0 => (step.queued * QUEUE_WIDTH).div_ceil(limit).min(QUEUE_WIDTH),
        _ => 0,
    };
    let queue: String = (0..QUEUE_WIDTH).map(|i| if i < filled { '#' } else { '.' }).collect();
    let failed = match step.counts.failed + step.counts.dropped {
        0 => String::new(),
        count => format!("  failed {count}"),
    };
    format!(
        "done {:>8}  {:>9}/s  queue [{queue}] {:<5} busy {}/{}{failed}",
        done(step),
        significant(rate),
        step.queued,
        step.busy,
        step.workers,
    )
}

fn line(snapshot: &Snapshot, before: Option<&Snapshot>) -> String {
    let steps = snapshot.steps.iter().map(|step| {
        let rate = significant(rate(step, snapshot, before));
        format!("{} done {} ({rate}/s) queue {}", step.name, done(step), step.queued)
    });
    format!("{:.0} s: {}", snapshot.elapsed.as_secs_f64(), steps.collect::<Vec<_>>().join(", "))
}

/// A rate with the digits that matter.
fn significant(rate: f64) -> String {
    if rate >= 100.0 || rate == 0.0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Counts;

    fn snapshot(elapsed: u64, done: u64) -> Snapshot {
        let counts = Counts { received: done + 3, done, ..Counts::default() };
        let step = StepStatus {
            name: "CLEAN".into(),
            counts,
            queued: 3,
            queued_bytes: 0,
            high_water: 3,
            busy: 1,
            workers: 2,
            busy_time: Duration::ZERO,
            mean: Duration::ZERO,
            p99: Duration::ZERO,
            running: Duration::ZERO,
            median: Duration::ZERO,
            sent: Vec::new(),
            waits_for: Vec::new(),
            paused: false,
            finished: false,
            each_worker: Vec::new(),
        };
        let elapsed = Duration::from_secs(elapsed);
        Snapshot { elapsed, steps: vec![step], ..Snapshot::default() }
    }

    #[test]
    fn a_line_says_what_was_done_how_fast_and_what_waits() {
        let (before, now) = (snapshot(5, 100), snapshot(10, 150));
        assert_eq!(line(&now, Some(&before)), "10 s: CLEAN done 150 (10.0/s) queue 3");
    }

    #[test]
    fn a_bar_shows_the_queue_against_its_limit() {
        let text = bar_text(&snapshot(1, 7).steps[0], Some(6), 7.0);
        assert!(text.contains("queue [#####.....] 3"), "{text}");
        assert!(text.contains("busy 1/2"), "{text}");
    }
}
