//! Reads the events of a run from a journal or from a file that `--events` wrote.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::data::ReportData;
use crate::base::nearest::nearest;
use crate::base::path_name::path_of_name;
use crate::base::regular_file;
use crate::event::EventRecord;
use crate::sinks::journal::JournalError;
use crate::sinks::journal::read::{Journal, Run};
use crate::status::ProductLine;

/// The longest line that can be an event, in bytes.
const MAX_LINE_BYTES: u64 = 64 << 20;
/// The number of bytes after which a file without an event is given up.
const MAX_BYTES_WITHOUT_EVENT: u64 = 16 << 20;
/// The beginning of a file of SQLite.
const DATABASE: &[u8] = b"SQLite format 3\0";

/// Why a file gives no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("cannot read {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error(
        "{} has no event of a run; expected a journal, or a file that drpipe run --events FILE has \
         written", path.display()
    )]
    NoEvents { path: PathBuf },
    #[error("{}: the run {run} has left no events: it was made by an older drpipe", path.display())]
    NoneKept { path: PathBuf, run: String },
    #[error("{} has no run {asked}{hint}; its runs are {runs}", path.display())]
    NoSuchRun { path: PathBuf, asked: String, hint: String, runs: String },
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Reads the events of a run. Of several runs in a journal, takes the last one, or the one whose
/// name begins or ends with `asked`.
///
/// # Errors
/// If the file is neither a journal nor a file of events, cannot be read, or has no such run.
pub(crate) fn read(path: &Path, asked: Option<&str>) -> Result<ReportData, ReadError> {
    let unreadable = |error| ReadError::Unreadable { path: path.to_owned(), error };
    let mut file = regular_file::open(path).map_err(unreadable)?;
    let mut beginning = Vec::new();
    file.by_ref().take(DATABASE.len() as u64).read_to_end(&mut beginning).map_err(unreadable)?;
    if beginning == DATABASE {
        drop(file);
        return from_journal(path, asked);
    }
    let report_data = from_lines(io::Cursor::new(beginning).chain(file)).map_err(unreadable)?;
    match (report_data.status.number, report_data.run(), asked) {
        (0, ..) => Err(ReadError::NoEvents { path: path.to_owned() }),
        (_, Some(run), Some(asked)) if !is_meant(run, asked) => Err(ReadError::NoSuchRun {
            path: path.to_owned(),
            asked: asked.to_owned(),
            hint: String::new(),
            runs: run.to_owned(),
        }),
        _ => Ok(report_data),
    }
}

fn is_meant(run: &str, asked: &str) -> bool {
    run == asked || run.starts_with(asked) || run.ends_with(asked)
}

fn from_lines(source: impl Read) -> io::Result<ReportData> {
    let mut report_data = ReportData::default();
    let mut unknown = 0_u64;
    let mut reader = BufReader::new(source);
    let mut line = Vec::new();
    let mut read = 0_u64;
    loop {
        let length = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? as u64;
        read += length;
        if length == MAX_LINE_BYTES {
            let remark = "The file is read up to a line that is too long to be an event.";
            report_data.remarks.push(remark.to_owned());
        }
        let has_none = read > MAX_BYTES_WITHOUT_EVENT && report_data.status.number == 0;
        if length == 0 || length == MAX_LINE_BYTES || has_none {
            break;
        }
        let whole = line.last() == Some(&b'\n');
        let known = std::str::from_utf8(&line).is_ok_and(|text| take(&mut report_data, text));
        if !known && !whole {
            let remark = "The last line of the file is cut off.";
            report_data.remarks.push(remark.to_owned());
        } else if !known && !line.trim_ascii().is_empty() {
            unknown += 1;
        }
        line.clear();
    }
    if unknown > 0 && report_data.status.number > 0 {
        report_data.remarks.push(format!("{unknown} lines of the file are not understood."));
    }
    Ok(report_data)
}

/// Adds one event in JSON; returns whether it is one.
fn take(report_data: &mut ReportData, text: &str) -> bool {
    if let Ok(told) = serde_json::from_str::<EventRecord>(text) {
        report_data.add(&told);
        return true;
    }
    let Ok(value) = serde_json::from_str::<Value>(text) else { return false };
    let omitted = matches!(value["event"].as_str(), Some("omitted" | "missed"));
    if let (true, Some(count)) = (omitted, value["count"].as_u64()) {
        report_data.missed(count);
    }
    omitted
}

fn from_journal(path: &Path, asked: Option<&str>) -> Result<ReportData, ReadError> {
    let journal = Journal::open(path)?;
    let run = chosen(path, journal.runs()?, asked)?;
    let mut report_data = ReportData::default();
    for text in journal.events(run.id)? {
        if !take(&mut report_data, &text) {
            report_data.missed(1);
        }
    }
    if report_data.status.number == 0 {
        return Err(ReadError::NoneKept { path: path.to_owned(), run: run.run });
    }
    let origins: std::collections::HashMap<i64, String> =
        journal.items()?.into_iter().map(|item| (item.id, item.origin)).collect();
    for (number, product) in journal.products()?.into_iter().enumerate() {
        if product.run == run.id {
            let origin =
                product.item.and_then(|item| origins.get(&item)).map(|o| o.as_str().into());
            report_data.product(ProductLine {
                number: number as u64,
                at: since(&run.started, &product.time),
                step: product.step.as_str().into(),
                origin,
                path: path_of_name(&product.path),
            });
        }
    }
    Ok(report_data)
}

fn chosen(path: &Path, mut runs: Vec<Run>, asked: Option<&str>) -> Result<Run, ReadError> {
    let found = match asked {
        None => runs.len().checked_sub(1),
        Some(asked) => runs.iter().rposition(|run| is_meant(&run.run, asked)),
    };
    if let Some(place) = found {
        return Ok(runs.swap_remove(place));
    }
    let Some(asked) = asked else { return Err(ReadError::NoEvents { path: path.to_owned() }) };
    let names: Vec<&str> = runs.iter().map(|run| &*run.run).collect();
    let hint = nearest(asked, names.iter().copied());
    Err(ReadError::NoSuchRun {
        path: path.to_owned(),
        asked: asked.to_owned(),
        hint: hint.map(|near| format!("; did you mean {near}?")).unwrap_or_default(),
        runs: names.join(", "),
    })
}

/// The time from the start of a run to a time in the journal.
fn since(start: &str, time: &str) -> Duration {
    let instant = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let between = instant(start).zip(instant(time)).map(|(start, time)| time.duration_since(start));
    between.and_then(|between| Duration::try_from(between).ok()).unwrap_or_default()
}
