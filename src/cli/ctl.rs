//! `drpipe ctl`: steers a run from another terminal.

use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand};
use serde_json::{Value, json};

use super::output::{CommandError, print, print_text, say, table};
use super::target::{self, Key, Target};
use crate::base::escape::one_line;
use crate::base::format;
use crate::status::{View, pipeline_in_words};

const EXAMPLES: &str = "\
Examples:
  drpipe ctl
  drpipe ctl status
  drpipe ctl pause CLEAN
  drpipe ctl resume
  drpipe ctl workers CLEAN 4
  drpipe ctl retry 000001-CLEAN
  drpipe ctl cancel raw/m08c_0042.fits --running
  drpipe ctl drain --run m08c
  drpipe ctl status --run http://tel2:5565/ --json

Exit codes:
  0  done
  2  the command line is wrong, or there is no such run, step or failed input
  3  the run refused, or could not be reached";

#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct CtlArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The run: its name, a unique beginning or end of its name, or the address of its
    /// monitor (http://host:port); needed only if several are under way
    #[arg(long, global = true, value_name = "RUN", allow_hyphen_values = true)]
    run: Option<String>,
    #[command(flatten)]
    key: Key,
}

/// What steps have handed back, and how often their actions were executed, if there is any.
fn more_in_words(view: &View) -> String {
    let hand_back = view.steps.iter().filter(|step| step.counts.results > 0);
    let results = hand_back
        .map(|step| format!("results of {}: {}\n", one_line(&step.name), step.counts.results));
    let mut text: String = results.collect();
    let rows = view.steps.iter().flat_map(|step| {
        step.actions.iter().map(|action| {
            [
                one_line(&action.name),
                one_line(&step.name),
                action.done.to_string(),
                action.skipped.to_string(),
                action.failed.to_string(),
                action.deferred.to_string(),
                format::span(action.busy.as_secs_f64()),
            ]
        })
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        text += &table(["action", "step", "done", "skipped", "failed", "deferred", "time"], &rows);
    }
    text
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the runs that are under way (the default)
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print where the run stands
    Status {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Begin nothing new, at one step or in the whole run; workers finish what they have in hand
    Pause {
        /// The step; without one, the whole run
        step: Option<String>,
    },
    /// Resume after a pause
    Resume {
        /// The step; without one, the whole run
        step: Option<String>,
    },
    /// Set the number of a step's workers for the rest of the run
    Workers {
        /// The step
        step: String,
        /// The number of workers
        #[arg(value_name = "N")]
        workers: usize,
    },
    /// Try a failed input again, from the step at which it failed
    Retry {
        /// Its entry in the quarantine, such as 000001-CLEAN
        entry: String,
    },
    /// Give up all that descends from an item: what waits of it is dropped
    Cancel {
        /// Its origin, as the log and the dashboard name it, such as a file's path
        #[arg(allow_hyphen_values = true)]
        origin: String,
        /// Also if a worker is at it: what that makes of it is not taken, and a worker process is
        /// ended
        #[arg(long)]
        running: bool,
    },
    /// Take no more input and process what was taken, as after the first signal
    Drain,
    /// Drop what is queued and end at once, as after the second signal
    Stop,
}

pub(super) fn ctl(args: CtlArgs) -> ExitCode {
    let CtlArgs { verb, run, key } = args;
    let (run, token) = (run.as_deref(), key.token.as_deref());
    let for_programs =
        matches!(verb, Some(Verb::List { json: true } | Verb::Status { json: true }));
    let done = match verb.unwrap_or(Verb::List { json: false }) {
        Verb::List { json } => target::all(run, token).map(|runs| list(&runs, json)),
        Verb::Status { json } => target::one(run, token).and_then(|run| status(&run, json)),
        Verb::Cancel { origin, running } => {
            target::one(run, token).and_then(|run| cancel(&run, &origin, running))
        }
        verb => target::one(run, token).and_then(|run| steer(&run, &verb)),
    };
    match done {
        Ok(text) if for_programs => print(text.as_bytes()),
        Ok(text) => print_text(&text),
        Err(error) => error.exit(),
    }
}

/// Makes the run carry out an action; returns a sentence that says so.
fn steer(run: &Target, verb: &Verb) -> Result<String, CommandError> {
    let of_step = |step: &Option<String>| match step {
        Some(step) => (json!({ "step": step }), step.clone()),
        None => (json!({}), format!("run {}", run.name)),
    };
    let (action, body, said) = match verb {
        Verb::Pause { step } => {
            let (body, what) = of_step(step);
            (
                "pause",
                body,
                format!(
                    "{what} is paused: workers finish what they have in hand and begin nothing new"
                ),
            )
        }
        Verb::Resume { step } => {
            let (body, what) = of_step(step);
            ("resume", body, format!("{what} continues"))
        }
        Verb::Workers { step, workers } => {
            let body = json!({ "step": step, "workers": workers });
            ("workers", body, format!("{step} is set to {workers} workers"))
        }
        Verb::Retry { entry } => {
            ("retry", json!({ "entry": entry }), format!("{entry} is tried again"))
        }
        Verb::Drain => {
            let said = format!(
                "run {} takes no more input and ends when it has processed what it has taken",
                run.name
            );
            ("drain", json!({}), said)
        }
        Verb::Stop => ("stop", json!({}), format!("run {} is ending now", run.name)),
        Verb::List { .. } | Verb::Status { .. } | Verb::Cancel { .. } => return Ok(String::new()),
    };
    run.post(action, &body).map(|_| said + "\n")
}

/// Cancels an item; returns a sentence that says how much of it was given up.
fn cancel(run: &Target, origin: &str, running: bool) -> Result<String, CommandError> {
    let answer = run.post("cancel", &json!({ "origin": origin, "running": running }))?;
    let count = |key: &str| answer[key].as_u64().unwrap_or_default();
    let (waiting, in_hand) = (count("waiting"), count("in_hand"));
    let messages = if waiting == 1 { "message that waited is" } else { "messages that waited are" };
    let mut said = format!("{} is cancelled: {waiting} {messages} dropped", one_line(origin));
    if in_hand > 0 {
        said += &format!("; what workers make of {in_hand} in hand is not taken");
    }
    Ok(said + "\n")
}

/// The runs, a line each; warns of those that do not answer.
fn list(runs: &[Target], json: bool) -> String {
    let rows: Vec<Value> = runs.iter().filter_map(row).collect();
    if json {
        return format!("{:#}\n", Value::Array(rows));
    }
    if rows.is_empty() {
        say("no run is under way");
        return String::new();
    }
    let headings =
        ["run", "state", "elapsed", "left", "finished", "failures", "bottleneck", "pipeline"];
    let cells = rows.iter().map(|row| {
        let number = |key: &str| row[key].as_u64().unwrap_or_default();
        let time = |key: &str| row[key].as_f64().map_or_else(|| "-".to_owned(), format::clock);
        let text = |key: &str| row[key].as_str().map_or_else(|| "-".to_owned(), one_line);
        let state = if row["paused"] == true { "paused".to_owned() } else { text("state") };
        let finished = match row["expected"].as_u64() {
            Some(expected) => format!("{}/{expected}", number("finished")),
            None => number("finished").to_string(),
        };
        let name = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let failures = number("failure_count").to_string();
        [
            text("run"),
            state,
            time("elapsed_s"),
            time("eta_s"),
            finished,
            failures,
            text("bottleneck"),
            pipeline_in_words(&name("pipeline"), &name("directory")),
        ]
    });
    table(headings, &cells.collect::<Vec<_>>())
}

fn row(run: &Target) -> Option<Value> {
    let rows = target::runs(&run.client).map_err(|error| error.message);
    match rows {
        Ok(rows) => rows.into_iter().find(|row| row["run"] == run.name.as_str()),
        Err(why) => {
            say(format_args!("warning: run {} does not answer: {why}", run.name));
            None
        }
    }
}

fn status(run: &Target, json: bool) -> Result<String, CommandError> {
    let body = run.get("view")?;
    let wrong = |error: serde_json::Error| {
        let name = &run.name;
        CommandError::stopped(format_args!(
            "run {name} sent an answer that this version of drpipe does not understand: {error}"
        ))
    };
    if json {
        let value: Value = serde_json::from_slice(&body).map_err(wrong)?;
        return Ok(format!("{value:#}\n"));
    }
    let view: View = serde_json::from_slice(&body).map_err(wrong)?;
    Ok(in_words(&view))
}

/// The state of the run: a line, a sentence and a table of its steps.
fn in_words(view: &View) -> String {
    let View { run, host, pid, .. } = view;
    let (state, elapsed) = (view.state_in_words(), format::clock(view.elapsed.as_secs_f64()));
    let progress = view.progress_in_words();
    let part = view.part_done().map(|part| format::percent(part) + ", ").unwrap_or_default();
    let mut text = format!(
        "run {run} of {} on {host} (process {pid}): {state} for {elapsed}, \
         {part}{progress}{}\n{}\n",
        view.pipeline_in_words(),
        view.failures_in_words(),
        one_line(&view.sentence())
    );
    if view.state == crate::status::State::Ended {
        text = text.replacen(" for ", " after ", 1);
    }
    let headings = [
        "step", "standing", "done", "rate", "queue", "held", "busy", "median", "p99", "failed",
        "dropped", "retried", "deferred",
    ];
    let rows = view.steps.iter().map(|step| {
        [
            one_line(&step.name),
            step.standing.in_words().to_owned(),
            step.progressed.to_string(),
            format::rate(step.rate),
            step.queue_in_words(),
            step.held_in_words(),
            format!("{}/{}", step.busy, step.workers),
            format::span(step.median.as_secs_f64()),
            format::span(step.p99.as_secs_f64()),
            step.counts.failed.to_string(),
            step.counts.dropped.to_string(),
            step.counts.retried.to_string(),
            step.counts.deferred.to_string(),
        ]
    });
    text += &table(headings, &rows.collect::<Vec<_>>());
    text += &more_in_words(view);
    let last = view.failures.iter().rev().filter(|failure| !failure.requeued).take(5);
    let failures: Vec<String> = last
        .map(|failure| {
            let entry = failure.entry.as_deref().unwrap_or("-");
            let reason = failure.reason.join(": ");
            one_line(&format!("  {entry}  {}: {reason}", failure.step)) + "\n"
        })
        .collect();
    if !failures.is_empty() {
        text += "the latest failures:\n";
        text += &failures.concat();
    }
    text
}
