//! The first and the last word of a run's stream.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::RunError;
use crate::config::plan::Plan;
use crate::event::{Event, NextStep, Opened, StepPlan};
use crate::stream::Stream;
use crate::summary::Report;

/// The version of the form of events.
const EVENTS_FORMAT: u32 = 1;
/// The exit code of a run that had to be given up.
const STOPPED: u8 = 3;

/// Ends the stream of a run, however the run ends.
pub(super) struct LastWord(pub(super) Stream);

impl LastWord {
    pub(super) fn say(&self, result: &Result<Report, RunError>) {
        self.0.tell(match result {
            Ok(report) => Event::Ended(Box::new(report.clone())),
            Err(error) => given_up(error),
        });
    }
}

impl Drop for LastWord {
    fn drop(&mut self) {
        // Nothing is told after the end.
        self.0.tell(given_up(&RunError::Panicked));
    }
}

fn given_up(error: &RunError) -> Event {
    Event::Error { exit_code: STOPPED, reason: error.to_string() }
}

/// What is known of a run when it begins. A pipeline without a name is called after its
/// `file`.
pub(super) fn opened(
    run: &str,
    plan: &Plan,
    file: Option<String>,
    sequential: bool,
    journal: Option<PathBuf>,
    command: Vec<String>,
) -> Opened {
    let names: Vec<Arc<str>> = plan.steps.iter().map(|step| step.name.as_str().into()).collect();
    let steps = plan.steps.iter().zip(&names).map(|(step, name)| StepPlan {
        name: Arc::clone(name),
        class: step.class.clone(),
        kind: step.kind,
        workers: step.workers,
        next_steps: step
            .routes
            .iter()
            .map(|route| NextStep { name: Arc::clone(&names[route.to]), feedback: route.feedback })
            .collect(),
        queue_limit: step.queue_limit,
        queue_bytes: step.queue_bytes,
        on_error: step.on_error,
        retries: step.retries,
    });
    Opened {
        format: EVENTS_FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        run: run.to_owned(),
        started: jiff::Timestamp::now().to_string(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        pid: std::process::id(),
        pipeline: plan.name.clone().or(file).unwrap_or_else(program),
        sequential,
        directory: std::env::current_dir().unwrap_or_default(),
        command,
        config: plan.config.clone(),
        config_hash: plan.config_hash.clone(),
        quarantine: plan.quarantine.clone(),
        journal,
        plan: steps.collect(),
        steps: names,
    }
}

/// The name of this program.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Unique on this machine: the time, the process and a number within it.
pub(super) fn run_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let suffix = if count == 0 { String::new() } else { format!("-{count}") };
    format!("{time}-{}{suffix}", std::process::id())
}
