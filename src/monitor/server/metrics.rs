//! The metrics of runs in the text format of Prometheus.

use std::fmt::Write;

use crate::status::{State, StepView, View};

type OfStep = fn(&StepView) -> Option<f64>;

/// The metrics of a step: name, type, help, value.
const OF_STEPS: [(&str, &str, &str, OfStep); 19] = [
    ("drpipe_messages_received_total", "counter", "Messages that reached the step.", |s| {
        Some(s.counts.received as f64)
    }),
    ("drpipe_messages_done_total", "counter", "Messages processed without a failure.", |s| {
        Some(s.counts.done as f64)
    }),
    // Failures that are tried again no longer count as failed, and a counter must not fall.
    ("drpipe_messages_failed_total", "counter", "Messages whose last attempt failed.", |s| {
        Some((s.counts.failed + s.requeued) as f64)
    }),
    (
        "drpipe_messages_requeued_total",
        "counter",
        "Failed messages that an operator retried.",
        |s| Some(s.requeued as f64),
    ),
    ("drpipe_messages_dropped_total", "counter", "Messages given up by policy.", |s| {
        Some(s.counts.dropped as f64)
    }),
    ("drpipe_messages_retried_total", "counter", "Attempts beyond the first.", |s| {
        Some(s.counts.retried as f64)
    }),
    ("drpipe_messages_deferred_total", "counter", "Attempts that a stage put off.", |s| {
        Some(s.counts.deferred as f64)
    }),
    ("drpipe_messages_emitted_total", "counter", "Messages sent to next steps.", |s| {
        Some(s.counts.emitted as f64)
    }),
    ("drpipe_results_total", "counter", "Values handed back to the producer of their item.", |s| {
        Some(s.counts.results as f64)
    }),
    ("drpipe_queue_messages", "gauge", "Messages in the queue of the step.", |s| {
        Some(s.queued as f64)
    }),
    ("drpipe_queue_bytes", "gauge", "Bytes in the queue of the step.", |s| {
        Some(s.queued_bytes as f64)
    }),
    (
        "drpipe_held_messages",
        "gauge",
        "Messages sent that wait for room in the next queues.",
        |s| Some(s.held as f64),
    ),
    ("drpipe_held_bytes", "gauge", "Bytes sent that wait for room in the next queues.", |s| {
        Some(s.held_bytes as f64)
    }),
    ("drpipe_queue_limit_messages", "gauge", "The most messages that the queue holds.", |s| {
        s.queue_limit.map(|limit| limit as f64)
    }),
    ("drpipe_queue_limit_bytes", "gauge", "The most bytes that the queue holds.", |s| {
        s.queue_bytes.map(|limit| limit as f64)
    }),
    (
        "drpipe_queue_oldest_normal_seconds",
        "gauge",
        "Age of the first message of normal priority in the queue of the step.",
        |s| Some(s.oldest_normal.as_secs_f64()),
    ),
    ("drpipe_workers", "gauge", "Workers of the step.", |s| Some(s.workers as f64)),
    ("drpipe_workers_busy", "gauge", "Workers that have work in hand.", |s| Some(s.busy as f64)),
    ("drpipe_stage_seconds_total", "counter", "Total time that workers were busy.", |s| {
        Some(s.busy_time.as_secs_f64())
    }),
];

type OfRun = fn(&View) -> Option<f64>;

/// The metrics of a run.
const OF_RUNS: [(&str, &str, &str, OfRun); 9] = [
    ("drpipe_up", "gauge", "1 while the run is under way, 0 when it is over.", |view| {
        Some(f64::from(u8::from(view.state != State::Ended)))
    }),
    ("drpipe_run_elapsed_seconds", "gauge", "Time since the start of the run.", |view| {
        Some(view.elapsed.as_secs_f64())
    }),
    ("drpipe_run_paused", "gauge", "1 while the whole run is paused.", |view| {
        Some(f64::from(u8::from(view.paused)))
    }),
    ("drpipe_run_remaining_seconds", "gauge", "Estimated time until the run ends.", |view| {
        view.eta_s
    }),
    ("drpipe_run_inputs_total", "counter", "Messages that the producers have emitted.", |view| {
        Some(view.emitted as f64)
    }),
    (
        "drpipe_run_inputs_finished",
        "gauge",
        "Messages of the producers that are finished.",
        |view| Some(view.finished as f64),
    ),
    ("drpipe_run_inputs_skipped", "gauge", "Inputs that earlier runs had done.", |view| {
        Some(view.skipped as f64)
    }),
    (
        "drpipe_run_inputs_expected",
        "gauge",
        "Messages that the producers expect to emit.",
        |view| view.expected.map(|count| count as f64),
    ),
    ("drpipe_run_exit_code", "gauge", "The exit code of a run that is over.", |view| {
        view.exit_code.map(f64::from)
    }),
];

/// The metrics of the runs.
pub(crate) fn text(views: &[View]) -> String {
    let mut text = String::new();
    head(&mut text, "drpipe_run_info", "gauge", "Facts about the run; always 1.");
    for view in views {
        let directory = view.directory.display().to_string();
        let labels = [
            ("run", view.run.as_str()),
            ("pipeline", &view.pipeline),
            ("directory", &directory),
            ("version", &view.version),
            ("host", &view.host),
        ];
        sample(&mut text, "drpipe_run_info", &labels, 1.0);
    }
    for (name, kind, about, value) in OF_RUNS {
        head(&mut text, name, kind, about);
        for view in views {
            if let Some(value) = value(view) {
                sample(&mut text, name, &[("run", &view.run)], value);
            }
        }
    }
    for (name, kind, about, value) in OF_STEPS {
        head(&mut text, name, kind, about);
        for (view, step) in steps(views) {
            if let Some(value) = value(step) {
                sample(&mut text, name, &[("run", &view.run), ("step", &step.name)], value);
            }
        }
    }
    times(&mut text, views);
    actions(&mut text, views);
    text
}

/// The executions of actions. Those of a step that counts many are so many lines.
fn actions(text: &mut String, views: &[View]) {
    let all =
        || steps(views).flat_map(|(view, step)| step.actions.iter().map(move |a| (view, step, a)));
    if all().next().is_none() {
        return;
    }
    let name = "drpipe_action_total";
    head(text, name, "counter", "Executions of an action that the step counts itself.");
    for (view, step, action) in all() {
        for (outcome, count) in [
            ("done", action.done),
            ("skipped", action.skipped),
            ("failed", action.failed),
            ("deferred", action.deferred),
        ] {
            let step: [(&str, &str); 2] = [("run", &view.run), ("step", &step.name)];
            let labels = [step[0], step[1], ("action", &action.name), ("outcome", outcome)];
            sample(text, name, &labels, count as f64);
        }
    }
    let name = "drpipe_action_seconds_total";
    head(text, name, "counter", "Total time of the executions of an action.");
    for (view, step, action) in all() {
        let labels = [("run", view.run.as_str()), ("step", &step.name), ("action", &action.name)];
        sample(text, name, &labels, action.busy.as_secs_f64());
    }
}

fn steps(views: &[View]) -> impl Iterator<Item = (&View, &StepView)> {
    views.iter().flat_map(|view| view.steps.iter().map(move |step| (view, step)))
}

fn times(text: &mut String, views: &[View]) {
    let name = "drpipe_stage_call_seconds";
    head(text, name, "gauge", "The fraction \"quantile\" of the calls took at most this time.");
    for (view, step) in steps(views) {
        for (quantile, time) in [("0.5", step.median), ("0.99", step.p99)] {
            let labels = [("run", view.run.as_str()), ("step", &step.name), ("quantile", quantile)];
            sample(text, name, &labels, time.as_secs_f64());
        }
    }
}

fn head(text: &mut String, name: &str, kind: &str, about: &str) {
    // Writing to a string never fails.
    let _ = write!(text, "# HELP {name} {about}\n# TYPE {name} {kind}\n");
}

fn sample(text: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    let labels: Vec<String> =
        labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
    let _ = writeln!(text, "{name}{{{}}} {value}", labels.join(","));
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = String::new();
        sample(&mut text, "m", &[("step", "a\"b\\c\nd")], 1.5);
        assert_eq!(text, "m{step=\"a\\\"b\\\\c\\nd\"} 1.5\n");
    }
}
