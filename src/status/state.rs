//! The status of a run: the sum of its events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lines::{FailureLine, Line, ProductLine, in_words};
use super::pace::Pace;
use super::series::History;
use crate::event::{Event, EventRecord, Opened, Report, Snapshot};

/// So many of the latest failures, lines and products are kept.
const MOST_FAILURES: usize = 100;
const MOST_LINES: usize = 100;
const MOST_PRODUCTS: usize = 24;

/// Where a run stands.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// The number of the last event that is in it.
    pub number: u64,
    /// The time of that event since the run's start.
    pub at: Duration,
    /// What is known since the beginning.
    pub opened: Opened,
    /// How far the run is.
    pub state: State,
    /// The latest numbers.
    pub snapshot: Snapshot,
    /// How many messages each producer expects to emit.
    pub expected: BTreeMap<Arc<str>, u64>,
    /// Messages of the producers that earlier runs had done.
    pub skipped: u64,
    /// The latest failures, the newest last.
    pub failures: VecDeque<FailureLine>,
    /// How many failures there were in all.
    pub failure_count: u64,
    /// The latest lines of the log, the newest last.
    pub lines: VecDeque<Line>,
    /// The latest products, the newest last.
    pub products: VecDeque<ProductLine>,
    /// How the numbers went.
    pub history: History,
    /// What became of the run.
    pub report: Option<Report>,
    /// Why the run had to be given up.
    pub error: Option<String>,
    pub(super) pace: Pace,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// Workers are being started.
    #[default]
    Starting,
    /// Work is being done.
    Running,
    /// No more input is taken; what was taken is processed.
    Draining,
    /// It is over.
    Ended,
}

impl Status {
    /// Takes one event in.
    pub fn apply(&mut self, told: &EventRecord) {
        self.number = told.number;
        self.at = told.at;
        match &told.event {
            Event::Opened(opened) => self.opened = (**opened).clone(),
            Event::Started => self.state = State::Running,
            Event::Progress(snapshot) => {
                let working = self.state != State::Starting;
                self.pace.add(&self.opened.plan, snapshot, self.skipped, working);
                self.history.add(snapshot);
                self.snapshot = snapshot.clone();
            }
            Event::Expected { step, total } => {
                self.expected.insert(Arc::clone(step), *total);
            }
            Event::Decided { skipped, .. } => self.skipped += u64::from(*skipped),
            Event::Failed { .. } => self.failed(told),
            Event::Requeued { entry, .. } => self.requeued(entry),
            Event::Paused { step } => self.set_paused(step.as_deref(), true),
            Event::Resumed { step } => self.set_paused(step.as_deref(), false),
            Event::Product { step, origin, path, .. } => {
                let (step, origin, path) = (Arc::clone(step), origin.clone(), path.clone());
                let line = ProductLine { number: told.number, at: told.at, step, origin, path };
                push(&mut self.products, line, MOST_PRODUCTS);
            }
            Event::Ended(report) => {
                self.state = State::Ended;
                self.report = Some((**report).clone());
                self.end(report);
            }
            Event::Error { reason, .. } => {
                self.state = State::Ended;
                self.error = Some(reason.clone());
            }
            _ => {}
        }
        if let Event::Stopping { .. } = told.event {
            self.state = State::Draining;
        }
        if let Some((level, step, text)) = in_words(&told.event) {
            let line = Line { number: told.number, at: told.at, level, step, text };
            push(&mut self.lines, line, MOST_LINES);
        }
    }

    fn failed(&mut self, told: &EventRecord) {
        let Event::Failed { step, worker, origin, attempt, cause, failure, policy, entry, .. } =
            &told.event
        else {
            return;
        };
        self.failure_count += 1;
        let line = FailureLine {
            number: told.number,
            at: told.at,
            step: Arc::clone(step),
            worker: *worker,
            origin: origin.clone(),
            attempt: *attempt,
            cause: *cause,
            reason: failure.chain().to_vec(),
            policy: *policy,
            entry: entry.clone(),
            requeued: false,
        };
        push(&mut self.failures, line, MOST_FAILURES);
    }

    /// Whoever has steered sees at once that it was done.
    fn set_paused(&mut self, step: Option<&str>, paused: bool) {
        let Some(name) = step else {
            self.snapshot.paused = paused;
            return;
        };
        for step in self.snapshot.steps.iter_mut().filter(|step| &*step.name == name) {
            step.paused = paused;
        }
    }

    fn requeued(&mut self, entry: &str) {
        for line in &mut self.failures {
            line.requeued |= line.entry.as_deref() == Some(entry);
        }
    }

    /// The last numbers are those of the report.
    fn end(&mut self, report: &Report) {
        self.snapshot.elapsed = report.elapsed;
        self.snapshot.paused = false;
        self.skipped = report.skipped;
        for (status, last) in self.snapshot.steps.iter_mut().zip(&report.steps) {
            status.counts = last.counts;
            (status.median, status.mean, status.p99) = (last.median, last.mean, last.p99);
            (status.busy, status.queued, status.queued_bytes) = (0, 0, 0);
            (status.busy_time, status.running) = (last.busy_time, Duration::ZERO);
            status.high_water = last.queue_high_water;
            status.workers = last.workers;
            if let [all] = &mut status.sent[..] {
                *all = last.counts.emitted;
            }
            status.waits_for.clear();
            status.held.fill(0);
            status.held_bytes = 0;
            status.each_worker.clear();
            status.paused = false;
        }
        self.history.add(&self.snapshot);
    }
}

fn push<T>(lines: &mut VecDeque<T>, line: T, most: usize) {
    if lines.len() == most {
        lines.pop_front();
    }
    lines.push_back(line);
}
