//! `drpipe run`.

pub(crate) mod closing;
pub(crate) mod driving_process;
pub(crate) mod events;
pub(crate) mod inline;
pub(crate) mod ledger;
pub(crate) mod log;
pub(crate) mod memory;
pub(crate) mod progress;
pub(crate) mod run_files;
pub(crate) mod secrets;
pub(crate) mod signals;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::MultiProgress;

use super::args::RunArgs;
use super::format::one_line;
use super::{STOPPED, USAGE, complain, monitor, print, report, say, tell};
use crate::event::{Event, Report, Verdict};
use crate::pipeline::{Mode, Pipeline, RunError};
use crate::report::ReportData;
use crate::status::stream::Seen;
use driving_process::Driver;
use events::Events;
use progress::Progress;
use run_files::is_standard;

pub(super) fn run(pipeline: Pipeline, args: &RunArgs) -> ExitCode {
    match perform(pipeline, args) {
        Ok(performed) => conclude(&performed, args),
        Err(code) => code,
    }
}

/// A run that has come to an end.
pub(super) struct Performed {
    pub(super) report: Report,
    /// Whether every file that it was to leave could be written so far.
    whole: bool,
}

/// Runs to the end, with progress and log lines.
///
/// # Errors
/// The exit code, if nothing was run or the run had to be given up; it was said why.
pub(super) fn perform(mut pipeline: Pipeline, args: &RunArgs) -> Result<Performed, ExitCode> {
    let bars = MultiProgress::new();
    let check = |option, file: &Option<PathBuf>| match file {
        Some(file) => run_files::check(option, file),
        None => Ok(()),
    };
    let prepared = run_files::are_different(&[
        ("--config", Some(args.source.config())),
        ("--summary", args.summary.as_deref()),
        ("--report", args.report.as_deref()),
        ("--events", args.events.as_deref()),
        ("--trace", args.trace.as_deref()),
        ("--journal", args.journal().as_deref()),
    ]);
    let prepared = prepared.and_then(|()| check("--summary", &args.summary));
    let prepared = prepared.and_then(|()| check("--report", &args.report));
    let prepared = prepared.and_then(|()| log::start(args, &bars));
    let events = prepared.and_then(|()| args.events.as_deref().map(Events::open).transpose());
    let events = events.map_err(|error| complain(USAGE, format_args!("error: {error}")))?;
    if let Some(directory) = &args.quarantine {
        pipeline.set_quarantine(directory.clone());
    }
    if args.ordered {
        pipeline.set_ordered(true);
    }
    if let Some(journal) = args.journal() {
        pipeline.set_journal(journal, args.resume);
    }
    if let Some(trace) = &args.trace {
        pipeline.set_trace(trace);
    }
    pipeline.set_drain_limit(Duration::from_secs_f64(args.drain_limit));
    pipeline.set_command(std::env::args_os().map(|a| a.to_string_lossy().into_owned()));
    // Each worker needs descriptors; where the limit cannot be raised, a run
    // that needs more says so when it starts.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let mut progress = Progress::new(pipeline.plan(), &bars, args.quiet);
    let mut report_data = args.report.is_some().then(ReportData::default);
    let watchers = Watchers {
        progress: &mut progress,
        sink: events.as_ref(),
        report_data: report_data.as_mut(),
    };
    let result = start_and_watch(pipeline, args, &bars, watchers);
    progress.finish();
    if let Some(events) = events {
        events.end(&result);
    }
    // Of a run that could not be started there is nothing to report.
    let told = report_data.filter(|report_data| report_data.run().is_some());
    let left = match (&args.report, told) {
        (Some(file), Some(report_data)) => report::leave(&report_data, file),
        _ => Ok(()),
    };
    let whole = left.map_err(|error| say(format_args!("error: {error}"))).is_ok();
    match result {
        Ok(report) => Ok(Performed { report, whole }),
        Err((code, error)) => Err(complain(code, format_args!("error: {error}"))),
    }
}

/// Those who are told every event of a run.
struct Watchers<'a> {
    progress: &'a mut Progress,
    sink: Option<&'a Events>,
    report_data: Option<&'a mut ReportData>,
}

fn start_and_watch(
    pipeline: Pipeline,
    args: &RunArgs,
    bars: &MultiProgress,
    watchers: Watchers<'_>,
) -> Result<Report, (u8, String)> {
    let Watchers { progress, sink, mut report_data } = watchers;
    let signals = signals::hear().and_then(|signals| {
        Driver::of(&args.driver)?.map_or(Ok(()), |driver| signals.attend(driver))?;
        Ok(signals)
    });
    let signals =
        signals.map_err(|error| (STOPPED, format!("cannot watch for signals: {error}")))?;
    let shown = monitor::options(args, pipeline.plan());
    let asked = if pipeline.plan().sequential { Mode::Sequential } else { Mode::Threads };
    let mode = args.mode.map_or(asked, Mode::from);
    let handle = pipeline.start(mode).map_err(|error| {
        let usage = matches!(error, RunError::Journal(_) | RunError::Trace { .. });
        let code = if usage { USAGE } else { STOPPED };
        (code, error.to_string())
    })?;
    signals.watch(handle.control(), Duration::from_secs_f64(args.drain_limit));
    let monitor = monitor::start(&handle, shown);
    let mut watcher = handle.stream().watch();
    loop {
        let told = match watcher.next(None) {
            Seen::Event(told) => told,
            Seen::Missed(count) => {
                log::missed(count);
                if let Some(sink) = sink {
                    sink.missed(count);
                }
                if let Some(report_data) = &mut report_data {
                    report_data.missed(count);
                }
                continue;
            }
            Seen::Nothing => continue,
            Seen::End => break,
        };
        if let Some(sink) = sink {
            sink.tell(&told);
        }
        if let Some(report_data) = &mut report_data {
            report_data.add(&told);
        }
        match &told.event {
            Event::Progress(snapshot) => {
                progress.show(snapshot.elapsed, || handle.stream().view());
            }
            Event::Decided { origin, skipped, why } if args.explain => {
                let line = explained(origin, *skipped, why);
                // The run goes on when nobody reads any more.
                let _ = bars.suspend(|| print(line.as_bytes()));
            }
            event => log::log(event, args.log_format),
        }
    }
    if let Some(report_data) = report_data {
        report_data.catch_up(handle.stream().status());
    }
    let result = handle.wait().map_err(|error| (STOPPED, error.to_string()));
    if let Some(monitor) = monitor {
        monitor.stop();
    }
    result
}

/// One line, whatever is in a file's name or a failure's text.
fn explained(origin: &str, skipped: bool, why: &str) -> String {
    let decision = if skipped { "skip" } else { "run" };
    format!("{decision}\t{}\t{}\n", one_line(origin), one_line(why))
}

/// Prints the ledger and writes the summary. What the run was to leave and cannot be
/// written is an error, however the run went, and keeps nothing else from being written.
pub(super) fn conclude(Performed { report, whole }: &Performed, args: &RunArgs) -> ExitCode {
    let mut whole = *whole;
    if let Some(file) = &args.summary
        && let Err(error) = run_files::write(report, file)
    {
        let file = file.display();
        say(format_args!("error: cannot write the summary {file}: {error}"));
        whole = false;
    }
    if let (true, Verdict::Stopped(reason)) = (args.quiet, &report.verdict) {
        tracing::error!("stopped: {reason}");
    }
    if !args.quiet {
        let closing = closing::text(report, args);
        let ledger = ledger::text(report) + &closing;
        // Standard output is the summary's or the report's alone where it was asked for.
        match [&args.summary, &args.report].into_iter().flatten().any(|file| is_standard(file)) {
            true => say(ledger.trim_end()),
            false => whole &= tell(&ledger) == ExitCode::SUCCESS,
        }
    }
    ExitCode::from(if whole { report.exit_code } else { STOPPED })
}
