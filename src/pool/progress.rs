//! How many tasks a pool has, by what has become of them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::TaskError;

/// How many tasks a pool has taken, and what has become of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Progress {
    /// All of them: the sum of the others.
    pub submitted: u64,
    /// With a result.
    pub done: u64,
    /// Failed, panicked, timed out, or lost with their worker.
    pub failed: u64,
    /// Cancelled, or dropped at the end of the pool.
    pub cancelled: u64,
    /// Not ended.
    pub open: u64,
}

#[derive(Default)]
pub(super) struct Counts {
    done: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
}

impl Counts {
    /// Counts a task that has ended.
    pub(super) fn count(&self, error: Option<&TaskError>) {
        let count = match error {
            None => &self.done,
            Some(TaskError::Cancelled | TaskError::Dropped | TaskError::RunEnded(_)) => {
                &self.cancelled
            }
            Some(_) => &self.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn progress(&self, open: usize) -> Progress {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (done, failed, cancelled) =
            (read(&self.done), read(&self.failed), read(&self.cancelled));
        let open = open as u64;
        Progress { submitted: done + failed + cancelled + open, done, failed, cancelled, open }
    }
}
