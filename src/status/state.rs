//! The status of a run: the sum of its events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lines::{FailureLine, Line, ProductLine, in_words};
use super::pace::Pace;
use super::series::History;
use crate::event::{Event, EventRecord, Opened, Report, Snapshot};

/// Retention limits: every view holds all of these, and viewers receive five views a second.
const MAX_FAILURES: usize = 100;
const MAX_LINES: usize = 100;
const MAX_PRODUCTS: usize = 24;

/// Where a run stands.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Status {
    /// The number of the last event in the sum.
    pub number: u64,
    /// The time of that event since the run's start.
    pub at: Duration,
    /// The contents of the first event.
    pub opened: Opened,
    /// The phase of the run.
    pub state: State,
    /// The latest snapshot.
    pub snapshot: Snapshot,
    /// How many messages each producer expects to emit in all.
    pub expected: BTreeMap<Arc<str>, u64>,
    /// Messages of the producers that earlier runs had done.
    pub skipped: u64,
    /// The latest failures, the newest last.
    pub failures: VecDeque<FailureLine>,
    /// The number of all failures so far.
    pub failure_count: u64,
    /// The latest lines of the log, the newest last.
    pub lines: VecDeque<Line>,
    /// The latest products, the newest last.
    pub products: VecDeque<ProductLine>,
    /// How the numbers have changed over time.
    pub history: History,
    /// The report, once the run has ended.
    pub report: Option<Report>,
    /// Why the run could not go on.
    pub error: Option<String>,
    pub(super) pace: Pace,
}

/// The phase of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// Workers are being started.
    #[default]
    Starting,
    /// Workers process messages.
    Running,
    /// The run takes no more input, and processes what it has taken.
    Draining,
    /// The run is over.
    Ended,
}

impl Status {
    /// Adds one event to the sum.
    pub(crate) fn apply(&mut self, record: &EventRecord) {
        self.number = record.number;
        self.at = record.at;
        match &record.event {
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
            Event::Failed { .. } => self.failed(record),
            Event::Requeued { entry, .. } => self.requeued(entry),
            Event::Paused { step } => self.set_paused(step.as_deref(), true),
            Event::Resumed { step } => self.set_paused(step.as_deref(), false),
            Event::Product { step, origin, path, .. } => {
                let (step, origin, path) = (Arc::clone(step), origin.clone(), path.clone());
                let line = ProductLine { number: record.number, at: record.at, step, origin, path };
                push(&mut self.products, line, MAX_PRODUCTS);
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
        if let Event::Stopping { .. } = record.event {
            self.state = State::Draining;
        }
        if let Some((level, step, text)) = in_words(&record.event) {
            let line = Line { number: record.number, at: record.at, level, step, text };
            push(&mut self.lines, line, MAX_LINES);
        }
    }

    fn failed(&mut self, record: &EventRecord) {
        let Event::Failed { step, worker, origin, attempt, cause, failure, policy, entry, .. } =
            &record.event
        else {
            return;
        };
        self.failure_count += 1;
        let line = FailureLine {
            number: record.number,
            at: record.at,
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
        push(&mut self.failures, line, MAX_FAILURES);
    }

    /// Shows a pause at once: an operator must see the effect before the next snapshot.
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

    /// Replaces the last snapshot's numbers by those of the report.
    fn end(&mut self, report: &Report) {
        self.snapshot.elapsed = report.elapsed;
        self.snapshot.paused = false;
        self.skipped = report.skipped;
        for (status, last) in self.snapshot.steps.iter_mut().zip(&report.steps) {
            status.counts = last.counts;
            (status.median, status.mean, status.p99) = (last.median, last.mean, last.p99);
            (status.busy, status.queued, status.queued_bytes) = (0, 0, 0);
            status.oldest_normal = Duration::ZERO;
            (status.busy_time, status.running) = (last.busy_time, Duration::ZERO);
            status.high_water = last.queue_high_water;
            status.workers = last.workers;
            if let [all] = &mut status.sent[..] {
                *all = last.counts.emitted;
            }
            status.waits_for.clear();
            status.held.fill(0);
            status.held_bytes = 0;
            status.actions.clone_from(&last.actions);
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
