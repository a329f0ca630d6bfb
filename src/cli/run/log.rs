//! Log lines on standard error.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use indicatif::MultiProgress;
use tracing::{debug, error, info, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::args::{LogFormat, RunArgs};
use crate::base::escape;
use crate::base::failure::Failure;
use crate::cli::output::CommandError;
use crate::event::{Event, Level};
use crate::plan::OnError;
use crate::status::overdue_in_words;

/// The target of what worker processes log and print; a filter can separate it from the run's own
/// lines.
const WORDS: &str = "drpipe::steps";

/// Sets up logging for a run; the progress bars in `bars` make room for lines.
///
/// # Errors
/// If the log filter is wrong.
pub(crate) fn start(args: &RunArgs, bars: &MultiProgress) -> Result<(), CommandError> {
    let level = &args.log_level;
    let wrong = |why: String| {
        CommandError::usage(format_args!(
            "--log-level {level}:{why} expected error, warn, info, debug or trace"
        ))
    };
    if !level.contains(['=', ',']) && level.parse::<LevelFilter>().is_err() {
        return Err(wrong(String::new()));
    }
    let filter = EnvFilter::try_new(level).map_err(|error| wrong(format!(" {error};")))?;
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal() && !no_color)
        .with_target(false)
        .log_internal_errors(false)
        .with_writer(AboveBars {
            bars: bars.clone(),
            for_people: args.log_format == LogFormat::Text,
        });
    // If the embedding program has its own logging, that stays.
    let _ = match args.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// Writes to standard error while the progress bars are out of the way.
#[derive(Clone)]
struct AboveBars {
    bars: MultiProgress,
    /// Whether to escape text; programs get it unchanged.
    for_people: bool,
}

impl Write for AboveBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = match self.for_people {
            true => Cow::Owned(escape::log_line(&String::from_utf8_lossy(line)).into_bytes()),
            false => Cow::Borrowed(line),
        };
        // The run continues if nobody reads its log.
        let _ = self.bars.suspend(|| io::stderr().write_all(&text));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for AboveBars {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Logs an event.
pub(crate) fn log(event: &Event, form: LogFormat) {
    match event {
        Event::Started => debug!("every worker is ready"),
        Event::InitFailed { step, worker, failure } => {
            error!(%step, worker, "init failed: {failure}");
        }
        Event::Retrying { .. } | Event::Failed { .. } => match form {
            LogFormat::Text => failure_in_words(event),
            LogFormat::Json => failure_in_fields(event),
        },
        Event::Deferred { step, origin, wait, why, .. } => {
            debug!(%step, origin = origin.as_deref(), "deferred for {wait:?} at most: {why}");
        }
        Event::ProducerFailed { step, failure } => {
            error!(%step, "failed, production ends here: {failure}");
        }
        Event::FinishFailed { step, worker, failure } => {
            error!(%step, worker, "finish failed: {failure}");
        }
        Event::WorkerLost { step, worker, reason } => {
            error!(%step, worker, "a worker was lost: {reason}");
        }
        Event::Said { step, worker, level, logger, text } => {
            let logger = Some(logger.as_str()).filter(|logger| !logger.is_empty());
            match level {
                Level::Debug => debug!(target: WORDS, %step, worker, logger, "{text}"),
                Level::Info => info!(target: WORDS, %step, worker, logger, "{text}"),
                Level::Warning => warn!(target: WORDS, %step, worker, logger, "{text}"),
                Level::Error => error!(target: WORDS, %step, worker, logger, "{text}"),
            }
        }
        Event::StepFinished { step, counts } => {
            let (received, done, failed) = (counts.received, counts.done, counts.failed);
            debug!(%step, received, done, failed, "finished");
        }
        Event::Stopping { reason } => warn!("stopping: {reason}"),
        Event::Decided { origin, skipped: true, why } => debug!(%origin, "skipped: {why}"),
        Event::Decided { origin, skipped: false, why } => debug!(%origin, "to be done: {why}"),
        Event::Untracked { step } => {
            warn!(%step, "messages without an origin: the journal does not track them, and \
                          --resume processes them again");
        }
        Event::Paused { .. }
        | Event::Resumed { .. }
        | Event::WorkersSet { .. }
        | Event::Requeued { .. }
        | Event::Cancelled { .. } => steered(event),
        Event::Attached { step, worker, pid } => debug!(%step, worker, pid, "attached"),
        Event::Overdue { step, worker, message, limit } => {
            let limit_s = limit.as_secs_f64();
            warn!(%step, worker, message, limit_s, "{}", overdue_in_words(*limit));
        }
        Event::Product { step, origin, path, .. } => {
            debug!(%step, origin = origin.as_deref(), path = %path.display(), "made");
        }
        Event::Opened(_)
        | Event::Expected { .. }
        | Event::Progress(_)
        | Event::Ended(_)
        | Event::Error { .. } => {}
    }
}

/// Logs what an operator wanted.
fn steered(event: &Event) {
    match event {
        Event::Paused { step } => info!(step = step.as_deref(), "paused"),
        Event::Resumed { step } => info!(step = step.as_deref(), "resumed"),
        Event::WorkersSet { step, workers } => {
            info!(%step, workers, "the number of workers was changed")
        }
        Event::Requeued { step, origin, entry } => {
            info!(%step, origin = origin.as_deref(), entry, "tried again");
        }
        Event::Cancelled { step, origin, waiting, in_hand } => {
            info!(%step, origin = origin.as_deref(), waiting, in_hand, "cancelled");
        }
        _ => {}
    }
}

/// Logs a failure in one line, with the input's name once.
fn failure_in_words(event: &Event) {
    match event {
        Event::Retrying { step, origin, attempt, failure, wait, .. } => {
            let what = what_failed(step, origin.as_deref(), *attempt, failure);
            warn!("{what}; tried again in {} s", wait.as_secs_f64());
        }
        Event::Failed { step, origin, attempt, failure, policy, entry, .. } => {
            let what = what_failed(step, origin.as_deref(), *attempt, failure);
            let kept = entry.as_deref().map(|entry| format!("; quarantined as {entry}"));
            let kept = kept.unwrap_or_default();
            match policy {
                OnError::Quarantine => warn!("{what}{kept}"),
                OnError::Skip => warn!("{what}; skipped"),
                OnError::Tell => info!("{what}; the producer is told"),
                OnError::Stop => error!("{what}{kept}; the run stops"),
            }
        }
        _ => {}
    }
}

fn what_failed(step: &str, origin: Option<&str>, attempt: u32, failure: &Failure) -> String {
    let why = failure.to_string();
    let input = match origin {
        Some(origin) if !why.contains(origin) => format!("{origin}: "),
        _ => String::new(),
    };
    match attempt {
        1 => format!("{step} failed: {input}{why}"),
        attempt => format!("{step} failed (attempt {attempt}): {input}{why}"),
    }
}

fn failure_in_fields(event: &Event) {
    match event {
        Event::Retrying { step, origin, attempt, failure, wait, .. } => {
            let origin = origin.as_deref();
            let wait_s = wait.as_secs_f64();
            warn!(%step, origin, attempt, wait_s, "failed, will be tried again: {failure}");
        }
        Event::Failed { step, worker, origin, attempt, failure, policy, entry, .. } => {
            let (origin, entry) = (origin.as_deref(), entry.as_deref());
            match policy {
                OnError::Quarantine => {
                    warn!(%step, worker, origin, attempt, entry, "failed, quarantined: {failure}");
                }
                OnError::Skip => {
                    warn!(%step, worker, origin, attempt, "failed, skipped: {failure}");
                }
                OnError::Tell => {
                    info!(%step, worker, origin, attempt, "failed, the producer is told: {failure}");
                }
                OnError::Stop => {
                    error!(%step, worker, origin, attempt, entry, "failed, stops the run: \
                         {failure}");
                }
            }
        }
        _ => {}
    }
}

/// Logs that events came faster than they could be logged.
pub(crate) fn missed(count: u64) {
    warn!(
        "{count} events came too fast to be logged; the ledger and the quarantine account for \
         every failure"
    );
}

/// Logs a line of progress.
pub(crate) fn progress(line: &str) {
    info!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_input_once() {
        let what = |attempt, why: &str| {
            what_failed("READ", Some("raw/a.fits"), attempt, &Failure::permanent(why))
        };
        assert_eq!(what(1, "raw/a.fits is empty"), "READ failed: raw/a.fits is empty");
        assert_eq!(what(3, "too dark"), "READ failed (attempt 3): raw/a.fits: too dark");
    }
}
