//! `drpipe check`: checks the configuration and, with `--mock`, that its graph runs as its policies
//! say.

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::output::{complain, print, print_text, say};
use super::process::driving_program::DriverArgs;
use super::run;
use super::run::args::{LogFormat, ModeArg, RunArgs};
use super::run::ledger;
use super::source::{Named, Source};
use crate::base::escape::one_line;
use crate::event::exit_code::{STOPPED, USAGE};
use crate::event::{Report, Verdict};
use crate::mock::faults::Faults;
use crate::pipeline::Pipeline;
use crate::plan::{Plan, Step};

const MOCK_HELP: &str = "\
With --mock, mocks replace the stages: the graph, the workers, the queue limits and the policies
are real, but no stage of the pipeline runs. Producers emit numbered messages, each stage passes
a message on to one of its next steps, and FAULTS says how often something goes wrong:
  fail=P, panic=P     a message fails, or its stage panics
  undeclared=P        it is sent to a step that is not among the next steps
  slow=P              it takes 5 ms
  messages=N          how many messages each producer emits; default 100
  seed=N              selects which messages go wrong; default 0
P is between 0 and 1. What goes wrong depends only on the seed, the step and the message, so
drpipe predicts the ledger and compares it with that of the run. Waits before retries are short.

Examples:
  drpipe check --config pipeline.json
  drpipe check --config pipeline.json --mock fail=0.1,panic=0.05,slow=0.02,messages=500

Exit codes:
  0  the configuration is valid, and the mocks' ledger is the expected one
  2  the configuration or the command line is wrong
  3  the mocks' ledger is not the expected one
  130  interrupted";

#[derive(Debug, ClapArgs)]
#[command(after_help = MOCK_HELP)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub(super) named: Named,
    /// Run the graph with mocks that go wrong, such as fail=0.1,panic=0.05,messages=500
    #[arg(long, value_name = "FAULTS")]
    pub(super) mock: Option<String>,
    /// Where the mocks' workers run
    #[arg(long, value_enum, requires = "mock", default_value_t = ModeArg::Threads)]
    pub(super) mode: ModeArg,
    /// What the run of mocks logs
    #[arg(long, value_name = "FILTER", requires = "mock", default_value = "off")]
    pub(super) log_level: String,
}

pub(super) fn check(pipeline: Pipeline, args: &CheckArgs) -> ExitCode {
    match &args.mock {
        Some(faults) => run_mocks(pipeline, faults, args),
        None => show_plan(&pipeline, args),
    }
}

fn show_plan(pipeline: &Pipeline, args: &CheckArgs) -> ExitCode {
    let plan = pipeline.plan();
    let mut text =
        format!("{}: the configuration is valid\n", one_line(&args.named.source().shown()));
    for (index, step) in plan.steps.iter().enumerate() {
        text +=
            &format!("  {} ({}, {}){}\n", step.name, step.class, staff(step), leads(plan, index));
    }
    print_text(&text)
}

/// `3 workers`, `1 to 3 workers in processes`, `2 workers on threads and 1 in processes`.
fn staff(step: &Step) -> String {
    let of = |least: usize, most: usize| {
        let workers = if most == 1 { "worker" } else { "workers" };
        let range = if least < most { format!("{least} to {most}") } else { most.to_string() };
        (range, workers)
    };
    let threads = step.options.nb_thread.max;
    let limit = |name: &str, value: Option<String>| {
        value.map(|value| format!(", {name} {value}")).unwrap_or_default()
    };
    let limits =
        limit("timeout", step.options.timeout.map(|time| format!("{} s", time.as_secs_f64())))
            + &limit(
                "memory_limit",
                step.options.memory_limit.map(|bytes| format!("{bytes} bytes")),
            );
    let (on_threads, workers) = of(step.options.nb_thread.min, threads);
    let (in_processes, working) = of(step.options.nb_process.min, step.processes());
    match (threads, step.processes()) {
        (_, 0) => format!("{on_threads} {workers}{limits}"),
        (0, 1) => format!("{in_processes} {working} in a process{limits}"),
        (0, _) => format!("{in_processes} {working} in processes{limits}"),
        _ => format!("{on_threads} {workers} on threads and {in_processes} in processes{limits}"),
    }
}

/// ` -> CLEAN, FIX (feedback)`, or nothing.
fn leads(plan: &Plan, index: usize) -> String {
    let routes = plan.steps[index].routes.iter().map(|route| {
        let name = &plan.steps[route.to].name;
        if route.feedback { format!("{name} (feedback)") } else { name.clone() }
    });
    let names: Vec<String> = routes.collect();
    if names.is_empty() { String::new() } else { format!(" -> {}", names.join(", ")) }
}

/// Runs the pipeline's graph with mocks and compares its ledger with the predicted one.
fn run_mocks(mut pipeline: Pipeline, faults: &str, args: &CheckArgs) -> ExitCode {
    let faults = match Faults::parse(faults) {
        Ok(faults) => faults,
        Err(error) => return complain(USAGE, format_args!("error: --mock: {error}")),
    };
    if faults.need_processes() && args.mode == ModeArg::Sequential {
        let error =
            "abort, segfault and hang need worker processes, which --mode sequential does not have";
        return complain(USAGE, format_args!("error: --mock: {error}"));
    }
    // Nobody needs the failed inputs of mocks afterwards; they go with this directory.
    let quarantine = match tempfile::Builder::new().prefix("drpipe-mock-").tempdir() {
        Ok(directory) => directory,
        Err(error) => {
            let what = "cannot make a temporary directory";
            return complain(STOPPED, format_args!("error: {what}: {error}"));
        }
    };
    pipeline.set_quarantine(quarantine.path().to_owned());
    let (pipeline, expectation) = match pipeline.mocked(&faults) {
        Ok(mocked) => mocked,
        Err(error) => return complain(USAGE, format_args!("error: --mock: {error}")),
    };
    let mut report = match run::perform(pipeline, &run_args(args)) {
        Ok(performed) => performed.report,
        Err(error) => return error.exit(),
    };
    report.quarantine = None;
    let differences = expectation.differences(&report);
    let printed = print((ledger::text(&report) + &conclusion(&report, &differences)).as_bytes());
    differences.iter().for_each(|difference| say(format_args!("error: {difference}")));
    match report.verdict {
        _ if !differences.is_empty() || printed != ExitCode::SUCCESS => ExitCode::from(STOPPED),
        Verdict::Interrupted => ExitCode::from(report.exit_code),
        _ => ExitCode::SUCCESS,
    }
}

fn conclusion(report: &Report, differences: &[String]) -> String {
    match (&report.verdict, differences) {
        (_, [_, ..]) => "mock: the run did not go as expected\n".to_owned(),
        (Verdict::Interrupted, []) => "mock: interrupted; the ledger balances\n".to_owned(),
        (Verdict::Stopped(_), []) => "mock: the policies stopped the run as expected, and the \
                                      ledger balances: at every step received = done + failed + \
                                      dropped, and everything emitted arrived\n"
            .to_owned(),
        (_, []) => "mock: the run ended as its policies require, and the ledger is as expected: \
                    at every step received = done + failed + dropped, and everything emitted \
                    arrived\n"
            .to_owned(),
    }
}

/// The options of a run of mocks.
fn run_args(args: &CheckArgs) -> RunArgs {
    RunArgs {
        inline: false,
        attach: false,
        ordered: false,
        source: Source::default(),
        mode: Some(args.mode),
        summary: None,
        events: None,
        journal: None,
        trace: None,
        report: None,
        resume: false,
        explain: false,
        quarantine: None,
        drain_limit: 60.0,
        log_format: LogFormat::Text,
        log_level: args.log_level.clone(),
        quiet: false,
        monitor: None,
        monitor_token: None,
        driver: DriverArgs::default(),
    }
}
