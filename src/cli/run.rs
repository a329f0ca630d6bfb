//! `drpipe run`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use indicatif::MultiProgress;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::args::RunArgs;
use super::progress::Progress;
use super::{STOPPED, USAGE, ledger, log};
use crate::event::Event;
use crate::pipeline::{Handle, Pipeline, Report};

pub(super) fn run(mut pipeline: Pipeline, args: &RunArgs) -> ExitCode {
    let bars = MultiProgress::new();
    if let Err(error) = log::start(args, &bars) {
        eprintln!("error: {error}");
        return ExitCode::from(USAGE);
    }
    if let Some(directory) = &args.quarantine {
        pipeline.set_quarantine(directory.clone());
    }
    let mut progress = Progress::new(pipeline.plan(), &bars, args.quiet);
    let result = start_and_watch(pipeline, args, &mut progress);
    progress.finish();
    match result.and_then(|report| conclude(&report, args).map(|()| report)) {
        Ok(report) => ExitCode::from(report.exit_code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(STOPPED)
        }
    }
}

fn start_and_watch(
    pipeline: Pipeline,
    args: &RunArgs,
    progress: &mut Progress,
) -> Result<Report, String> {
    let (interrupts, signals) = mpsc::channel();
    watch_signals(interrupts).map_err(|error| format!("cannot watch for signals: {error}"))?;
    let (observer, events) = mpsc::channel();
    let handle =
        pipeline.start(args.mode.into(), vec![observer]).map_err(|error| error.to_string())?;
    let limit = Duration::from_secs_f64(args.drain_limit);
    watch(&handle, &events, &signals, limit, progress);
    handle.wait().map_err(|error| error.to_string())
}

/// Sends a word for every signal that asks for the end. A hang-up is no such
/// signal: a run goes on when its terminal is closed.
fn watch_signals(interrupts: mpsc::Sender<()>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if signal != SIGHUP && interrupts.send(()).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// Follows the events until the run ends; turns signals into stops.
fn watch(
    handle: &Handle,
    events: &mpsc::Receiver<Event>,
    signals: &mpsc::Receiver<()>,
    limit: Duration,
    progress: &mut Progress,
) {
    /// Signals are looked for this often, beside every event.
    const LOOK_EVERY: Duration = Duration::from_millis(50);
    let stopper = handle.stopper();
    let mut deadline: Option<Instant> = None;
    loop {
        for () in signals.try_iter() {
            match deadline {
                None => {
                    stopper.drain();
                    deadline = Some(Instant::now() + limit);
                }
                Some(_) => stopper.stop_now(),
            }
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            stopper.stop_now();
        }
        match events.recv_timeout(LOOK_EVERY) {
            Ok(Event::Progress(snapshot)) => progress.show(snapshot),
            Ok(event) => log::log(&event),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn conclude(report: &Report, args: &RunArgs) -> Result<(), String> {
    if !args.quiet {
        // A reader that has gone away needs no ledger.
        let _ = std::io::stdout().write_all(ledger::text(report).as_bytes());
    }
    match &args.summary {
        Some(file) => write_summary(report, file)
            .map_err(|error| format!("cannot write the summary {}: {error}", file.display())),
        None => Ok(()),
    }
}

/// Whole or not at all.
fn write_summary(report: &Report, file: &Path) -> std::io::Result<()> {
    let directory = match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    serde_json::to_writer_pretty(&mut temporary, report)?;
    temporary.write_all(b"\n")?;
    temporary.as_file().sync_all()?;
    temporary.persist(file)?;
    Ok(())
}
