//! The report: one page about a run, made from its events alone, during the run or later, even of a
//! run that was killed.
//!
//! - [`ReportData`]: what is gathered from the events
//! - `source`: the events of a run that is over, from a file; `journal`: from its journal
//! - `document`, `sections`, `failures`: the page in HTML; `charts`: its drawings
//! - `markup`: the format of texts and numbers in the page

mod charts;
mod data;
mod document;
mod failures;
#[cfg_attr(not(feature = "journal"), path = "journal_not_built.rs")]
mod journal;
mod markup;
mod read;
mod sections;
mod source;

pub(crate) use data::ReportData;
pub(crate) use read::read;
