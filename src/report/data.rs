//! What a report is made from.

use std::path::PathBuf;
use std::sync::Arc;

use crate::event::{Event, EventRecord, Level};
use crate::status::{FailureLine, Line, ProductLine, State, Status};

/// Retention limits, so that browsers can show the page; anything beyond them is only counted.
const MAX_FAILURES: usize = 10_000;
const MAX_WARNINGS: usize = 1_000;
const MAX_PRODUCTS: usize = 100;

/// What a report is made from: the sum of its run's events.
#[derive(Debug, Default)]
pub(crate) struct ReportData {
    /// Where the run stood at the last event.
    pub(super) status: Status,
    pub(super) failures: Vec<FailureLine>,
    /// Warnings and errors other than failures of inputs.
    pub(super) warnings: Vec<Line>,
    pub(super) warning_count: u64,
    /// The latest products, and how many there were.
    pub(super) products: Vec<ProductLine>,
    pub(super) product_count: u64,
    /// The number of events that are missing.
    pub(super) missing: u64,
    /// What is wrong with the file that the events were read from.
    pub(super) remarks: Vec<String>,
}

impl ReportData {
    /// Adds one event.
    pub(crate) fn add(&mut self, record: &EventRecord) {
        self.status.apply(record);
        match &record.event {
            Event::Failed { .. } if self.failures.len() < MAX_FAILURES => {
                self.failures.extend(self.status.failures.back().cloned());
            }
            Event::Requeued { entry, .. } => {
                for failure in &mut self.failures {
                    failure.requeued |= failure.entry.as_deref() == Some(entry.as_str());
                }
            }
            Event::Product { step, origin, path, .. } => {
                let (step, origin, path) = (Arc::clone(step), origin.clone(), path.clone());
                self.product(ProductLine {
                    number: record.number,
                    at: record.at,
                    step,
                    origin,
                    path,
                });
            }
            _ => {}
        }
        let line = self.status.lines.back().filter(|line| line.number == record.number);
        if let Some(line) = line.filter(|line| matches!(line.level, Level::Warning | Level::Error))
        {
            self.warning_count += 1;
            if self.warnings.len() < MAX_WARNINGS {
                self.warnings.push(line.clone());
            }
        }
    }

    pub(super) fn product(&mut self, product: ProductLine) {
        self.product_count += 1;
        if self.products.len() == MAX_PRODUCTS {
            self.products.remove(0);
        }
        self.products.push(product);
    }

    /// Counts events that are missing.
    pub(crate) fn missed(&mut self, count: u64) {
        self.missing += count;
    }

    /// Replaces the status by a complete one, if events are missing.
    pub(crate) fn catch_up(&mut self, status: Status) {
        if self.missing > 0 {
            self.status = status;
        }
    }

    /// The name of the run; none before its first event.
    pub(crate) fn run(&self) -> Option<&str> {
        Some(&*self.status.opened.run).filter(|run| !run.is_empty())
    }

    pub(super) fn has_ended(&self) -> bool {
        self.status.state == State::Ended
    }

    /// The directory of the run's failed inputs.
    pub(super) fn quarantine(&self) -> PathBuf {
        let opened = &self.status.opened;
        opened.directory.join(&opened.quarantine).join(&opened.run)
    }
}
