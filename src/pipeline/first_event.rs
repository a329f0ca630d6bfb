//! The first event of a run: what is known of it when it begins.

use std::sync::Arc;

use super::options::Options;
use crate::base::redact;
use crate::event::{NextStep, Opened, StepPlan};
use crate::plan::Plan;

/// The version of the form of events; readers of another form must not guess.
const EVENTS_FORMAT: u32 = 1;

/// What is known of a run when it begins. A pipeline without a name is called after its file.
pub(super) fn opened(run: &str, plan: &Plan, options: Options, sequential: bool) -> Opened {
    let Options { journal, command, file, .. } = options;
    let names: Vec<Arc<str>> = plan.steps.iter().map(|step| step.name.as_str().into()).collect();
    let steps = plan.steps.iter().zip(&names).map(|(step, name)| StepPlan {
        name: Arc::clone(name),
        class: step.class.clone(),
        kind: step.kind,
        workers: step.workers(),
        next_steps: step
            .routes
            .iter()
            .map(|route| NextStep { name: Arc::clone(&names[route.to]), feedback: route.feedback })
            .collect(),
        queue_limit: *step.options.queue_limit,
        queue_bytes: *step.options.queue_bytes,
        on_error: *step.options.on_error,
        retries: *step.options.retries,
    });
    Opened {
        format: EVENTS_FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        run: run.to_owned(),
        started: jiff::Timestamp::now().to_string(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        pid: std::process::id(),
        pipeline: plan.options.name.value.clone().or(file).unwrap_or_else(program),
        sequential,
        directory: std::env::current_dir().unwrap_or_default(),
        command,
        config: redact::configuration(plan.config.clone()),
        config_hash: plan.config_hash.clone(),
        quarantine: plan.options.quarantine.value.clone(),
        journal: journal.map(|file| file.path),
        plan: steps.collect(),
        steps: names,
    }
}

/// The name of this program.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
