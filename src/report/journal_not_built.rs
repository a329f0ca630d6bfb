//! Journals in a build that cannot read them.

use std::path::Path;

use super::data::ReportData;
use super::source::ReadError;
use crate::base::not_built::NotBuilt;
use crate::sinks::journal::JournalError;

/// # Errors
/// That this build reads no journal.
pub(super) fn from_journal(_: &Path, _: Option<&str>) -> Result<ReportData, ReadError> {
    Err(ReadError::Journal(JournalError::from(NotBuilt { feature: "journal" })))
}
