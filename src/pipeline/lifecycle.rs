//! The first and the last event of a run's stream.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::RunError;
use super::options::Options;
use crate::base::redact;
use crate::event::{Event, NextStep, Opened, Report, StepPlan};
use crate::plan::Plan;
use crate::status::stream::Stream;

/// The version of the form of events; readers of another form must not guess.
const EVENTS_FORMAT: u32 = 1;
/// The exit code of a run that had to be given up.
const STOPPED: u8 = 3;

/// Ends the stream of a run, however the run ends.
pub(super) struct LastWord(pub(super) Stream);

impl LastWord {
    pub(super) fn say(&self, result: &Result<Report, RunError>) {
        self.0.publish(match result {
            Ok(report) => Event::Ended(Box::new(report.clone())),
            Err(error) => given_up(error),
        });
    }
}

impl Drop for LastWord {
    fn drop(&mut self) {
        // Does nothing after the end.
        self.0.publish(given_up(&RunError::Panicked));
    }
}

fn given_up(error: &RunError) -> Event {
    Event::Error { exit_code: STOPPED, reason: error.to_string() }
}

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

/// Makes the name of a run: the time, and six letters and digits that make it unique. Two stand
/// for the part of the second, so that names sort by time. Four are random: programs in
/// containers may have the same process number, and a machine without a clock the same time.
pub(super) fn run_name() -> String {
    let now = jiff::Timestamp::now();
    // The system seeds the hasher's keys at random.
    name_at(now, RandomState::new().hash_one((std::process::id(), now.as_nanosecond())))
}

fn name_at(now: jiff::Timestamp, chance: u64) -> String {
    const DIGITS: [char; 36] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h',
        'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z',
    ];
    let digit = |number: u64| DIGITS[(number % 36) as usize];
    // A letter first: what begins with a digit could be a number, and would be sorted as one.
    let part = u64::from(now.subsec_millisecond().unsigned_abs()) / 2;
    let time = [digit(10 + part / 36), digit(part)];
    let chance = (0..4).map(|place| digit(chance >> (16 * place)));
    let unique: String = time.into_iter().chain(chance).collect();
    format!("{}-{unique}", now.strftime("%Y%m%dT%H%M%SZ"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_the_order_of_time() {
        let at =
            |millisecond: i64| jiff::Timestamp::from_millisecond(1_741_918_530_000 + millisecond);
        let names: Vec<String> =
            (0..2000).step_by(2).map(|ms| name_at(at(ms).unwrap(), 7)).collect();
        assert!(names.is_sorted_by(|early, late| early < late), "{names:?}");
        assert!(names.iter().all(|name| name.len() == 23), "{names:?}");
        let chances: std::collections::BTreeSet<String> =
            (0..1000).map(|_| name_at(at(0).unwrap(), RandomState::new().hash_one(0))).collect();
        // Two of a thousand may be equal now and then.
        assert!(chances.len() > 990, "{}", chances.len());
    }
}
