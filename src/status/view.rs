//! The view of a run, which all displays show: the numbers of its status with rates, their meaning,
//! and the progress of the run.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bottleneck::{self, BUSY_ENOUGH, HELD_BACK};
use super::lines::{FailureLine, Line, ProductLine};
use super::pace::{self, StepPace};
use super::state::{State, Status};
use super::time_left;
use crate::base::path_name::as_text;
use crate::event::exit_code::STOPPED;
use crate::event::times::in_seconds;
use crate::event::{ActionCounts, Counts, StepPlan, StepStatus, Verdict, WorkerStatus};
use crate::plan::OnError;
use crate::stage::registry::Kind;

/// The view of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct View {
    /// The number of the last event that it includes.
    pub number: u64,
    /// The name of the run.
    pub run: String,
    /// The name of the pipeline.
    #[serde(default)]
    pub pipeline: String,
    /// The directory in which it was started.
    #[serde(default, with = "as_text")]
    pub directory: PathBuf,
    /// The version of drpipe.
    pub version: String,
    /// When it began: UTC, in the form of RFC 3339.
    pub started: String,
    /// The name of the machine.
    pub host: String,
    /// The process ID of the program.
    pub pid: u32,
    /// The phase of the run.
    pub state: State,
    /// Whether the whole run is paused.
    pub paused: bool,
    /// How it ended.
    pub verdict: Option<String>,
    /// Why, if it was stopped or could not go on.
    pub reason: Option<String>,
    /// The exit code, once it has ended.
    pub exit_code: Option<u8>,
    /// The time since its start, in seconds.
    #[serde(rename = "elapsed_s", with = "in_seconds")]
    pub elapsed: Duration,
    /// The estimated time until its end, in seconds, if it is known.
    pub eta_s: Option<f64>,
    /// How many messages the producers have emitted.
    pub emitted: u64,
    /// How many messages they expect to emit in this run, if they know.
    pub expected: Option<u64>,
    /// How many of the emitted messages are finished: nothing that descends from them waits or
    /// is in hand. Where a step makes several messages of one, each counts as a part of it.
    #[serde(default)]
    pub finished: u64,
    /// How many messages earlier runs had done, so that this one does not emit them.
    #[serde(default)]
    pub skipped: u64,
    /// The step that limits the pace.
    pub bottleneck: Option<Arc<str>>,
    /// The state of the run and what limits its pace: the most important sentence, and one with
    /// details.
    #[serde(default)]
    pub says: [String; 2],
    /// The steps in the order of the plan.
    pub steps: Vec<StepView>,
    /// The number of all failures so far.
    pub failure_count: u64,
    /// The latest failures, the newest last.
    pub failures: VecDeque<FailureLine>,
    /// The latest lines of the log, the newest last.
    pub lines: VecDeque<Line>,
    /// The latest products, the newest last.
    pub products: VecDeque<ProductLine>,
}

/// The view of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepView {
    /// Its name.
    pub name: Arc<str>,
    /// Its class.
    pub class: String,
    /// Whether its class is a producer, a stage or a consumer.
    pub kind: Kind,
    /// What it does with failed messages.
    pub on_error: OnError,
    /// What it means for the pace of the run.
    pub standing: Standing,
    /// The steps whose full queues hold it back.
    pub held_by: Vec<Arc<str>>,
    /// Whether this step is paused, apart from a pause of the whole run.
    pub paused: bool,
    /// What became of its messages.
    #[serde(flatten)]
    pub counts: Counts,
    /// Messages done, or emitted if it is a producer.
    pub progressed: u64,
    /// Messages a second.
    pub rate: f64,
    /// The part of their time that its workers are busy, 0 to 1.
    pub utilisation: f64,
    /// Messages in its queue.
    pub queued: usize,
    /// The limit of that; none if it is unbounded.
    pub queue_limit: Option<usize>,
    /// Bytes in its queue.
    pub queued_bytes: u64,
    /// The limit of that; none if it is unbounded.
    pub queue_bytes: Option<u64>,
    /// The most messages that ever stood in its queue.
    pub high_water: usize,
    /// How long ago the first message of normal priority in its queue was made, at least, in
    /// seconds; 0 if there is none.
    #[serde(rename = "oldest_normal_s", with = "in_seconds", default)]
    pub oldest_normal: Duration,
    /// Messages in the hands of its workers.
    #[serde(default)]
    pub in_hand: usize,
    /// Messages that it has sent and that wait for room in the next queues.
    #[serde(default)]
    pub held: u64,
    /// The bytes of those messages.
    #[serde(default)]
    pub held_bytes: u64,
    /// Failed messages that were tried again; they no longer count as failed.
    #[serde(default)]
    pub requeued: u64,
    /// Workers that have work in hand.
    pub busy: usize,
    /// Workers.
    pub workers: usize,
    /// Half of the calls took at most this time, in seconds.
    #[serde(rename = "median_s", with = "in_seconds")]
    pub median: Duration,
    /// The mean time of one call, in seconds.
    #[serde(rename = "mean_s", with = "in_seconds")]
    pub mean: Duration,
    /// 99 of 100 calls took at most this time, in seconds.
    #[serde(rename = "p99_s", with = "in_seconds")]
    pub p99: Duration,
    /// The time that its workers have been busy, summed, in seconds.
    #[serde(rename = "busy_time_s", with = "in_seconds")]
    pub busy_time: Duration,
    /// Its edges, in the order of the plan.
    pub next_steps: Vec<EdgeView>,
    /// How often its actions were executed, in the order of their first executions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<ActionCounts>,
    /// Its workers, by number.
    pub each_worker: Vec<WorkerStatus>,
}

/// The view of an edge of the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EdgeView {
    /// The name of the step that it leads to.
    pub name: Arc<str>,
    /// Whether it closes a loop.
    pub feedback: bool,
    /// Messages sent over the edge.
    pub sent: u64,
    /// Those of them that wait for room in the queue at its end.
    #[serde(default)]
    pub held: u64,
    /// Messages a second.
    pub rate: f64,
}

/// What a step means for the pace of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Standing {
    /// Its workers are starting.
    Starting,
    /// It limits the pace of the run.
    Bottleneck,
    /// A full queue behind it holds it back.
    HeldBack,
    /// It has more workers than work.
    Waiting,
    /// It is busy, and another step is busier.
    Working,
    /// It is paused.
    Paused,
    /// It has finished.
    Finished,
}

impl Status {
    /// Returns the view of the run.
    pub fn view(&self) -> View {
        let mut view = numbers(self);
        view.says = view.in_words();
        view
    }
}

/// The view without its sentences.
fn numbers(status: &Status) -> View {
    let Status { opened, snapshot, state, pace, .. } = status;
    let rows: Vec<(&StepPlan, &StepStatus, StepPace)> =
        std::iter::zip(&opened.plan, &snapshot.steps)
            .enumerate()
            .map(|(index, (plan, step))| (plan, step, pace.of(index)))
            .collect();
    let bottleneck = bottleneck(status, &rows);
    let verdict = status.report.as_ref().map(|report| &report.verdict);
    let reason = match verdict {
        Some(Verdict::Stopped(reason)) => Some(reason.clone()),
        _ => status.error.clone(),
    };
    View {
        number: status.number,
        run: opened.run.clone(),
        pipeline: opened.pipeline.clone(),
        directory: opened.directory.clone(),
        version: opened.version.clone(),
        started: opened.started.clone(),
        host: opened.host.clone(),
        pid: opened.pid,
        state: *state,
        paused: snapshot.paused,
        verdict: verdict
            .map(|v| v.name().to_owned())
            .or(status.error.as_ref().map(|_| "stopped".to_owned())),
        reason,
        exit_code: status
            .report
            .as_ref()
            .map(|report| report.exit_code)
            .or(status.error.as_ref().map(|_| STOPPED)),
        elapsed: if *state == State::Ended { snapshot.elapsed } else { status.at },
        eta_s: time_left::time_left(status, pace),
        emitted: time_left::emitted(status),
        expected: time_left::expected(status),
        finished: time_left::finished(status),
        skipped: status.skipped,
        says: Default::default(),
        bottleneck: bottleneck.map(|index| Arc::clone(&rows[index].1.name)),
        steps: rows
            .iter()
            .enumerate()
            .map(|(index, row)| step(status, row, bottleneck == Some(index)))
            .collect(),
        failure_count: status.failure_count,
        failures: status.failures.clone(),
        lines: status.lines.clone(),
        products: status.products.clone(),
    }
}

/// The step that limits the pace of the run, by its place in the plan.
fn bottleneck(status: &Status, rows: &[(&StepPlan, &StepStatus, StepPace)]) -> Option<usize> {
    if status.state == State::Ended {
        let name = status.report.as_ref()?.bottleneck.as_deref()?;
        return rows.iter().position(|(_, step, _)| &*step.name == name);
    }
    bottleneck::now(rows.iter().map(|(_, step, pace)| (*step, pace)))
}

fn step(
    status: &Status,
    row: &(&StepPlan, &StepStatus, StepPace),
    is_bottleneck: bool,
) -> StepView {
    let (plan, step, pace) = row;
    let standing = standing(status, step, pace, is_bottleneck);
    let progressed = pace::done(step);
    let last = status.report.as_ref().and_then(|report| report.step(&step.name));
    StepView {
        name: Arc::clone(&step.name),
        class: plan.class.clone(),
        kind: plan.kind,
        on_error: plan.on_error,
        standing,
        held_by: if standing == Standing::HeldBack { step.waits_for.clone() } else { Vec::new() },
        paused: step.paused,
        counts: step.counts,
        progressed,
        rate: overall_rate(status, progressed).unwrap_or(pace.rate),
        utilisation: last.map_or(pace.utilisation, |last| last.busy_percent / 100.0),
        queued: step.queued,
        queue_limit: plan.queue_limit,
        queued_bytes: step.queued_bytes,
        queue_bytes: plan.queue_bytes,
        high_water: step.high_water,
        oldest_normal: step.oldest_normal,
        in_hand: step.each_worker.iter().map(|worker| worker.in_hand).sum(),
        held: step.held.iter().sum(),
        held_bytes: step.held_bytes,
        requeued: step.requeued,
        busy: step.busy,
        workers: step.workers,
        median: step.median,
        mean: step.mean,
        p99: step.p99,
        busy_time: step.busy_time,
        next_steps: edges(status, row),
        actions: step.actions.clone(),
        each_worker: step.each_worker.clone(),
    }
}

fn standing(status: &Status, step: &StepStatus, pace: &StepPace, is_bottleneck: bool) -> Standing {
    if status.state == State::Ended || step.finished {
        Standing::Finished
    } else if step.paused || status.snapshot.paused {
        Standing::Paused
    } else if status.state == State::Starting {
        Standing::Starting
    } else if is_bottleneck {
        Standing::Bottleneck
    } else if pace.held >= HELD_BACK {
        Standing::HeldBack
    } else if pace.utilisation < BUSY_ENOUGH {
        Standing::Waiting
    } else {
        Standing::Working
    }
}

fn edges(
    status: &Status,
    (plan, step, pace): &(&StepPlan, &StepStatus, StepPace),
) -> Vec<EdgeView> {
    let edges = plan.next_steps.iter().enumerate().map(|(route, next)| {
        let sent = step.sent.get(route).copied().unwrap_or_default();
        let rate = pace.sent.get(route).copied().unwrap_or_default();
        EdgeView {
            name: Arc::clone(&next.name),
            feedback: next.feedback,
            sent,
            held: step.held.get(route).copied().unwrap_or_default(),
            rate: overall_rate(status, sent).unwrap_or(rate),
        }
    });
    edges.collect()
}

/// Messages a second over the whole run, once it has ended.
fn overall_rate(status: &Status, count: u64) -> Option<f64> {
    let seconds = status.snapshot.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    (status.state == State::Ended).then(|| count as f64 / seconds)
}
