//! Reads the events of a run from a file that `--events` wrote.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use serde_json::Value;

use super::data::ReportData;
use crate::event::EventRecord;
use crate::sinks::journal::JournalError;

/// The longest line that can be an event, in bytes.
const MAX_LINE_BYTES: u64 = 64 << 20;
/// The number of bytes after which a file without an event is given up.
const MAX_BYTES_WITHOUT_EVENT: u64 = 16 << 20;

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
    #[error("{}: the run {run} has no events: an older drpipe wrote it", path.display())]
    NoneKept { path: PathBuf, run: String },
    #[error("{} has no run {asked}{hint}; its runs are {runs}", path.display())]
    NoSuchRun { path: PathBuf, asked: String, hint: String, runs: String },
    #[error(transparent)]
    Journal(#[from] JournalError),
}

pub(super) fn is_meant(run: &str, asked: &str) -> bool {
    run == asked || run.starts_with(asked) || run.ends_with(asked)
}

pub(super) fn from_lines(source: impl Read) -> io::Result<ReportData> {
    let mut report_data = ReportData::default();
    let mut unknown = 0_u64;
    let mut reader = BufReader::new(source);
    let mut line = Vec::new();
    let mut read = 0_u64;
    loop {
        let length = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? as u64;
        read += length;
        if length == MAX_LINE_BYTES {
            let remark = "The report ends at a line of the file that is too long to be an event.";
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
        report_data
            .remarks
            .push(format!("{unknown} lines of the file are not events that this version knows."));
    }
    Ok(report_data)
}

/// Adds one event in JSON; returns whether it is one.
pub(super) fn take(report_data: &mut ReportData, text: &str) -> bool {
    if let Ok(record) = serde_json::from_str::<EventRecord>(text) {
        report_data.add(&record);
        return true;
    }
    let Ok(value) = serde_json::from_str::<Value>(text) else { return false };
    let omitted = matches!(value["event"].as_str(), Some("omitted" | "missed"));
    if let (true, Some(count)) = (omitted, value["count"].as_u64()) {
        report_data.missed(count);
    }
    omitted
}
