//! Reads the events of a run from its journal.

use std::path::Path;
use std::time::Duration;

use super::data::ReportData;
use super::source::{ReadError, is_meant, take};
use crate::base::nearest::nearest;
use crate::base::path_name::path_of_name;
use crate::sinks::journal::read::{Journal, Run};
use crate::status::ProductLine;

pub(super) fn from_journal(path: &Path, asked: Option<&str>) -> Result<ReportData, ReadError> {
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
