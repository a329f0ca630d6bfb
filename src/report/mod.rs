//! The report: one page to keep of what became of a run, made from its events alone, while
//! the run goes on or later, also of a run that was killed.
//!
//! - [`ReportData`]: what is gathered from the events
//! - `source`: the events of a run that is over, from its journal or from a file
//! - `document`, `sections`, `failures`: the page in HTML; `charts`: its drawings
//! - `markup`: texts and numbers as they stand there

mod charts;
mod data;
mod document;
mod failures;
mod markup;
mod sections;
mod source;

pub(crate) use data::ReportData;
pub(crate) use source::read;
