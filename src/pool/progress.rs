//! How many tasks a pool has, by what has become of them.

use std::sync::atomic::{AtomicU64, Ordering};

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
    pub(super) done: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) cancelled: AtomicU64,
}

impl Counts {
    pub(super) fn progress(&self, open: usize) -> Progress {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (done, failed, cancelled) =
            (read(&self.done), read(&self.failed), read(&self.cancelled));
        let open = open as u64;
        Progress { submitted: done + failed + cancelled + open, done, failed, cancelled, open }
    }
}
