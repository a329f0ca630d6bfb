//! `drpipe run`.

use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use indicatif::MultiProgress;

use super::args::RunArgs;
use super::progress::Progress;
use super::{STOPPED, USAGE, complain, ledger, log, print, signals, summary};
use crate::event::Event;
use crate::pipeline::{Pipeline, Report};

pub(super) fn run(mut pipeline: Pipeline, args: &RunArgs) -> ExitCode {
    let bars = MultiProgress::new();
    let prepared = args.summary.as_deref().map_or(Ok(()), summary::check);
    if let Err(error) = prepared.and_then(|()| log::start(args, &bars)) {
        return complain(USAGE, format_args!("error: {error}"));
    }
    if let Some(directory) = &args.quarantine {
        pipeline.set_quarantine(directory.clone());
    }
    // Each worker needs descriptors; where the limit cannot be raised, a run
    // that needs more says so when it starts.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let mut progress = Progress::new(pipeline.plan(), &bars, args.quiet);
    let result = start_and_watch(pipeline, args, &mut progress);
    progress.finish();
    match result {
        Ok(report) => conclude(&report, args),
        Err(error) => complain(STOPPED, format_args!("error: {error}")),
    }
}

fn start_and_watch(
    pipeline: Pipeline,
    args: &RunArgs,
    progress: &mut Progress,
) -> Result<Report, String> {
    let (observer, events) = mpsc::channel();
    let handle =
        pipeline.start(args.mode.into(), vec![observer]).map_err(|error| error.to_string())?;
    signals::watch(handle.stopper(), Duration::from_secs_f64(args.drain_limit))
        .map_err(|error| format!("cannot watch for signals: {error}"))?;
    // The events end with the run.
    for event in events {
        match event {
            Event::Progress(snapshot) => progress.show(snapshot),
            event => log::log(&event),
        }
    }
    handle.wait().map_err(|error| error.to_string())
}

/// Prints the ledger and writes the summary; what cannot be written is an
/// error, however the run went.
fn conclude(report: &Report, args: &RunArgs) -> ExitCode {
    if let Some(file) = &args.summary
        && let Err(error) = summary::write(report, file)
    {
        let file = file.display();
        return complain(STOPPED, format_args!("error: cannot write the summary {file}: {error}"));
    }
    if !args.quiet && print(ledger::text(report).as_bytes()) != ExitCode::SUCCESS {
        return ExitCode::from(STOPPED);
    }
    ExitCode::from(report.exit_code)
}
