//! The counts of a run, per step.

use serde::{Deserialize, Serialize};

/// What became of the messages of one step.
///
/// At the end of every run, `received == done + failed + dropped`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counts {
    /// Messages that reached the step.
    pub received: u64,
    /// Messages processed without a failure.
    pub done: u64,
    /// Of those done, how many emitted nothing although the step has next steps.
    pub filtered: u64,
    /// Messages whose last attempt failed: the quarantine keeps them, or they stopped the
    /// run.
    pub failed: u64,
    /// Messages that a policy gave up: skipped after a failure, or still queued when the run was
    /// stopped.
    pub dropped: u64,
    /// Attempts beyond the first.
    pub retried: u64,
    /// How often a stage put a message off; each such message ends as one of the above.
    #[serde(default)]
    pub deferred: u64,
    /// Messages sent to next steps.
    pub emitted: u64,
    /// Values handed back to a producer that is told what became of its items.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub results: u64,
}

impl Counts {
    /// Messages received that are neither done, failed nor dropped yet.
    pub fn open(&self) -> u64 {
        self.received - self.done - self.failed - self.dropped
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
