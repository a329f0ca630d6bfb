//! Finds out what kind of file a report is made from.

use std::io::{self, Read};
use std::path::Path;

use super::data::ReportData;
use super::journal::from_journal;
use super::source::{ReadError, from_lines, is_meant};
use crate::base::regular_file;

/// The beginning of a file of SQLite.
const DATABASE: &[u8] = b"SQLite format 3\0";

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
