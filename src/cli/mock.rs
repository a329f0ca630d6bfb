//! `drpipe check --mock`.

use std::process::ExitCode;

use super::args::{CheckArgs, LogFormat, ModeArg, RunArgs};
use super::source::Source;
use super::{STOPPED, USAGE, complain, print, run, say};
use crate::cli::run::driving_process::DriverArgs;
use crate::cli::run::ledger;
use crate::event::{Report, Verdict};
use crate::mock::faults::Faults;
use crate::pipeline::Pipeline;

/// Runs the pipeline's graph with mocks and compares the ledger with what it must be.
pub(super) fn check(mut pipeline: Pipeline, faults: &str, args: &CheckArgs) -> ExitCode {
    let faults = match Faults::parse(faults) {
        Ok(faults) => faults,
        Err(error) => return complain(USAGE, format_args!("error: --mock: {error}")),
    };
    if faults.need_processes() && args.mode == ModeArg::Sequential {
        let error =
            "abort, segfault and hang need worker processes, which --mode sequential has not";
        return complain(USAGE, format_args!("error: --mock: {error}"));
    }
    // What the mocks fail on is of no use afterwards: it goes with this directory.
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
        Err(code) => return code,
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
        (_, [_, ..]) => "mock: the run is not the expected one\n".to_owned(),
        (Verdict::Interrupted, []) => "mock: interrupted; the ledger balances\n".to_owned(),
        (Verdict::Stopped(_), []) => "mock: the run was stopped as its policies say, and the ledger \
                                      balances: at every step received = done + failed + dropped, \
                                      and what was emitted arrived\n"
            .to_owned(),
        (_, []) => "mock: the run ended as its policies say, and the ledger is the expected one: \
                    at every step received = done + failed + dropped, and what was emitted arrived\n"
            .to_owned(),
    }
}

/// The options of a run of mocks.
fn run_args(args: &CheckArgs) -> RunArgs {
    RunArgs {
        inline: false,
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
