//! The lists of a status: failures, lines of the log, products.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::path_name::as_text;
use crate::event::times::in_seconds;
use crate::event::{Cause, Event, Level};
use crate::plan::OnError;

/// The final failure of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailureLine {
    /// The event's number.
    pub number: u64,
    /// Time since the run's start, in seconds.
    #[serde(rename = "at_s", with = "in_seconds")]
    pub at: Duration,
    /// The step.
    pub step: Arc<str>,
    /// The worker; none if the message reached none.
    pub worker: Option<usize>,
    /// The producer's item that the message descends from.
    pub origin: Option<Arc<str>>,
    /// The attempt that failed, from 1.
    pub attempt: u32,
    /// How it failed.
    pub cause: Cause,
    /// Why, with the outermost sentence first.
    pub reason: Vec<String>,
    /// What the step does with failed messages.
    pub policy: OnError,
    /// The quarantine entry that keeps it.
    pub entry: Option<String>,
    /// Whether it left the quarantine and is tried again.
    pub requeued: bool,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Line {
    /// The event's number.
    pub number: u64,
    /// Time since the run's start, in seconds.
    #[serde(rename = "at_s", with = "in_seconds")]
    pub at: Duration,
    /// Its severity.
    pub level: Level,
    /// The step that it is about; none for the whole run.
    pub step: Option<Arc<str>>,
    /// The text, one line or several.
    pub text: String,
}

/// A file that a stage made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProductLine {
    /// The event's number.
    pub number: u64,
    /// Time since the run's start, in seconds.
    #[serde(rename = "at_s", with = "in_seconds")]
    pub at: Duration,
    /// The step.
    pub step: Arc<str>,
    /// The producer's item that the file was made from.
    pub origin: Option<Arc<str>>,
    /// Its path.
    #[serde(with = "as_text")]
    pub path: PathBuf,
}

/// Says that a limit has been passed where that is all that can be done.
pub(crate) fn overdue_in_words(limit: Duration) -> String {
    format!(
        "a message takes longer than the time limit of {} s, and goes on, because its worker is \
         the caller itself",
        limit.as_secs_f64()
    )
}

/// Returns the log line that describes the event, if there is one.
pub(super) fn in_words(event: &Event) -> Option<(Level, Option<Arc<str>>, String)> {
    let about = |step: &Arc<str>| Some(Arc::clone(step));
    Some(match event {
        Event::InitFailed { step, worker, failure } => {
            (Level::Error, about(step), format!("init of worker {worker} failed: {failure}"))
        }
        Event::Retrying { step, origin, attempt, failure, .. } => {
            let what = origin.as_deref().map(|o| format!(" on {o}")).unwrap_or_default();
            let text = format!("attempt {attempt}{what} failed and will be retried: {failure}");
            (Level::Warning, about(step), text)
        }
        Event::ProducerFailed { step, failure } => {
            (Level::Error, about(step), format!("production has ended: {failure}"))
        }
        Event::FinishFailed { step, failure, .. } => {
            (Level::Error, about(step), format!("finish failed: {failure}"))
        }
        Event::WorkerLost { step, worker, reason } => {
            (Level::Error, about(step), format!("worker {worker} was lost: {reason}"))
        }
        Event::Said { step, level, text, .. } => (*level, about(step), text.clone()),
        Event::Stopping { reason } => (Level::Warning, None, reason.clone()),
        Event::Paused { step } => (Level::Info, step.clone(), "paused".to_owned()),
        Event::Resumed { step } => (Level::Info, step.clone(), "resumed".to_owned()),
        Event::WorkersSet { step, workers } => {
            (Level::Info, about(step), format!("set to {workers} workers"))
        }
        Event::Cancelled { step, origin, waiting, in_hand } => {
            let what = origin.as_deref().unwrap_or("an item without a name");
            let taken = format!("{what} was cancelled: {waiting} waiting, {in_hand} in hand");
            (Level::Info, about(step), taken)
        }
        Event::Overdue { step, limit, .. } => {
            (Level::Warning, about(step), overdue_in_words(*limit))
        }
        Event::Requeued { step, entry, .. } => {
            (Level::Info, about(step), format!("{entry} is tried again"))
        }
        _ => return None,
    })
}
