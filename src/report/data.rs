//! What a report is made from.

use std::path::PathBuf;
use std::sync::Arc;

use crate::event::{Event, EventRecord, Level};
use crate::status::{FailureLine, Line, ProductLine, State, Status};

/// So many failures stand in a report, and so many warnings; the rest is counted.
const MOST_FAILURES: usize = 10_000;
const MOST_WARNINGS: usize = 1_000;
const MOST_PRODUCTS: usize = 100;

/// What a report is made from: all that its run has told.
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
    /// Events that are not kept.
    pub(super) missing: u64,
    /// What the file that it was read from lacks, in words.
    pub(super) remarks: Vec<String>,
}

impl ReportData {
    /// Takes one event in.
    pub(crate) fn add(&mut self, told: &EventRecord) {
        self.status.apply(told);
        match &told.event {
            Event::Failed { .. } if self.failures.len() < MOST_FAILURES => {
                self.failures.extend(self.status.failures.back().cloned());
            }
            Event::Requeued { entry, .. } => {
                for failure in &mut self.failures {
                    failure.requeued |= failure.entry.as_deref() == Some(entry.as_str());
                }
            }
            Event::Product { step, origin, path, .. } => {
                let (step, origin, path) = (Arc::clone(step), origin.clone(), path.clone());
                self.product(ProductLine { number: told.number, at: told.at, step, origin, path });
            }
            _ => {}
        }
        let line = self.status.lines.back().filter(|line| line.number == told.number);
        if let Some(line) = line.filter(|line| matches!(line.level, Level::Warning | Level::Error))
        {
            self.warning_count += 1;
            if self.warnings.len() < MOST_WARNINGS {
                self.warnings.push(line.clone());
            }
        }
    }

    pub(super) fn product(&mut self, product: ProductLine) {
        self.product_count += 1;
        if self.products.len() == MOST_PRODUCTS {
            self.products.remove(0);
        }
        self.products.push(product);
    }

    /// So many events were told that nobody has kept.
    pub(crate) fn missed(&mut self, count: u64) {
        self.missing += count;
    }

    /// Where the run stands, if some of its events were missed.
    pub(crate) fn catch_up(&mut self, status: Status) {
        if self.missing > 0 {
            self.status = status;
        }
    }

    /// The name of the run; none if nothing is known of one.
    pub(crate) fn run(&self) -> Option<&str> {
        Some(&*self.status.opened.run).filter(|run| !run.is_empty())
    }

    pub(super) fn has_ended(&self) -> bool {
        self.status.state == State::Ended
    }

    /// Where the failed inputs of the run are.
    pub(super) fn quarantine(&self) -> PathBuf {
        let opened = &self.status.opened;
        opened.directory.join(&opened.quarantine).join(&opened.run)
    }
}
