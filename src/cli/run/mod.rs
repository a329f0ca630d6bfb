//! `drpipe run`.

pub(super) mod args;
mod events;
mod follow_up;
pub(super) mod inline;
pub(super) mod ledger;
mod log;
mod progress;

use std::process::ExitCode;
use std::time::Duration;

use indicatif::MultiProgress;

use super::output::{CommandError, print, print_text, say};
use super::process::attached::AttachedCaller;
use super::process::driving_program::DrivingProgram;
use super::process::signals::{self, PendingSignals};
use super::run_files::{self, is_standard};
use super::{monitor, report};
use crate::base::escape::one_line;
use crate::event::exit_code::STOPPED;
use crate::event::{Event, Report, Verdict};
use crate::pipeline::{Handle, Mode, Pipeline, RunError};
use crate::report::ReportData;
use crate::status::stream::Seen;
use args::RunArgs;
use events::Events;
use progress::Progress;

pub(super) fn run(pipeline: Pipeline, args: &RunArgs) -> ExitCode {
    match perform(pipeline, args) {
        Ok(performed) => ExitCode::from(conclude(&performed, args)),
        Err(error) => error.exit(),
    }
}

/// As [`run`], for a run that a caller is attached to. It hears the end last.
pub(super) fn run_attached(
    mut pipeline: Pipeline,
    args: &RunArgs,
    mut attached: AttachedCaller,
) -> ExitCode {
    if let Some(caller) = attached.caller.take() {
        pipeline.attach(caller);
    }
    match perform(pipeline, args) {
        Ok(performed) => {
            let code = conclude(&performed, args);
            attached.over(code, Some(&performed.report));
            ExitCode::from(code)
        }
        Err(error) => {
            attached.refuse(&error);
            error.exit()
        }
    }
}

/// A run that has come to an end.
pub(super) struct Performed {
    pub(super) report: Report,
    /// Whether every file that the run leaves could be written so far.
    whole: bool,
}

/// Runs to the end, with progress and log lines.
///
/// # Errors
/// If nothing ran or the run could not go on.
pub(super) fn perform(mut pipeline: Pipeline, args: &RunArgs) -> Result<Performed, CommandError> {
    let bars = MultiProgress::new();
    let events = prepare(args, &bars)?;
    set(&mut pipeline, args);
    let progress = Progress::new(pipeline.plan(), &bars, args.quiet);
    let report_data = args.report.is_some().then(ReportData::default);
    let mut watchers = Watchers { args, bars, progress, events, report_data };
    let result = start_and_watch(pipeline, args, &mut watchers);
    let Watchers { progress, events, report_data, .. } = watchers;
    progress.finish();
    if let Some(events) = events {
        events.end(result.as_ref().err());
    }
    // A run that could not start has no report.
    let report_data = report_data.filter(|report_data| report_data.run().is_some());
    let written = match (&args.report, report_data) {
        (Some(file), Some(report_data)) => report::write_page(&report_data, file),
        _ => Ok(()),
    };
    let whole = written.map_err(|error| error.exit()).is_ok();
    result.map(|report| Performed { report, whole })
}

/// Checks the options, sets up the log and opens the file of events, if there is one.
fn prepare(args: &RunArgs, bars: &MultiProgress) -> Result<Option<Events>, CommandError> {
    run_files::are_different(&[
        ("--config", Some(args.source.config())),
        ("--summary", args.summary.as_deref()),
        ("--report", args.report.as_deref()),
        ("--events", args.events.as_deref()),
        ("--trace", args.trace.as_deref()),
        ("--journal", args.journal().as_deref()),
    ])?;
    for (option, file) in [("--summary", &args.summary), ("--report", &args.report)] {
        if let Some(file) = file {
            run_files::check(option, file)?;
        }
    }
    log::start(args, bars)?;
    args.events.as_deref().map(Events::open).transpose()
}

/// Hands the options of the command line to the pipeline.
fn set(pipeline: &mut Pipeline, args: &RunArgs) {
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
}

fn start_and_watch(
    pipeline: Pipeline,
    args: &RunArgs,
    watchers: &mut Watchers<'_>,
) -> Result<Report, CommandError> {
    let signals = pending_signals(args).map_err(|error| {
        CommandError::stopped(format_args!("cannot watch for signals: {error}"))
    })?;
    let shown = monitor::options(args, pipeline.plan());
    let shown = shown.map_err(CommandError::usage)?;
    let asked = if pipeline.plan().sequential { Mode::Sequential } else { Mode::Threads };
    let mode = args.mode.map_or(asked, Mode::from);
    let handle = pipeline.start(mode).map_err(|error| match error {
        RunError::Journal(_) | RunError::Trace { .. } => CommandError::usage(error),
        error => CommandError::stopped(error),
    })?;
    signals.watch(handle.control(), Duration::from_secs_f64(args.drain_limit));
    let monitor = monitor::start(&handle, shown);
    watchers.watch(&handle);
    let result = handle.wait().map_err(CommandError::stopped);
    if let Some(monitor) = monitor {
        monitor.stop();
    }
    result
}

/// Receives signals from now on; the end of the driver, if there is one, counts as two of them.
fn pending_signals(args: &RunArgs) -> std::io::Result<PendingSignals> {
    let signals = signals::hear()?;
    if let Some(driver) = DrivingProgram::of(&args.driver)? {
        signals.attend(driver)?;
    }
    Ok(signals)
}

/// Everything that watches the events of a run.
struct Watchers<'a> {
    args: &'a RunArgs,
    bars: MultiProgress,
    progress: Progress,
    events: Option<Events>,
    report_data: Option<ReportData>,
}

impl Watchers<'_> {
    /// Watches the run to its end.
    fn watch(&mut self, handle: &Handle) {
        let mut watcher = handle.stream().watch();
        loop {
            match watcher.next(None) {
                Seen::Event(record) => {
                    if let Some(events) = &self.events {
                        events.add(&record);
                    }
                    if let Some(report_data) = &mut self.report_data {
                        report_data.add(&record);
                    }
                    self.show(&record.event, handle);
                }
                Seen::Missed(count) => self.missed(count),
                Seen::Nothing => {}
                Seen::End => break,
            }
        }
        if let Some(report_data) = &mut self.report_data {
            report_data.catch_up(handle.stream().status());
        }
    }

    fn show(&mut self, event: &Event, handle: &Handle) {
        match event {
            Event::Progress(snapshot) => {
                self.progress.show(snapshot.elapsed, || handle.stream().view());
            }
            Event::Decided { origin, skipped, why } if self.args.explain => {
                let line = explained(origin, *skipped, why);
                // The run continues if nobody reads any more.
                let _ = self.bars.suspend(|| print(line.as_bytes()));
            }
            event => log::log(event, self.args.log_format),
        }
    }

    fn missed(&mut self, count: u64) {
        log::missed(count);
        if let Some(events) = &self.events {
            events.missed(count);
        }
        if let Some(report_data) = &mut self.report_data {
            report_data.missed(count);
        }
    }
}

/// One line, whatever a file's name or the reason contains.
fn explained(origin: &str, skipped: bool, why: &str) -> String {
    let decision = if skipped { "skip" } else { "run" };
    format!("{decision}\t{}\t{}\n", one_line(origin), one_line(why))
}

/// Writes the summary and prints the ledger; returns the exit code. A file that cannot be written is an error, whatever
/// the result of the run; the other files are still written.
pub(super) fn conclude(Performed { report, whole }: &Performed, args: &RunArgs) -> u8 {
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
        let ledger = ledger::text(report) + &follow_up::text(report, args);
        // Standard output belongs to the summary or the report if it was asked for there.
        match [&args.summary, &args.report].into_iter().flatten().any(|file| is_standard(file)) {
            true => say(ledger.trim_end()),
            false => whole &= print_text(&ledger) == ExitCode::SUCCESS,
        }
    }
    if whole { report.exit_code } else { STOPPED }
}
