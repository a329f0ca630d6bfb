//! A task with options.

use std::time::Duration;

/// A task with options, for [`Pool::submit_with`](super::Pool::submit_with).
#[must_use]
pub struct Submission<In> {
    pub(super) value: In,
    pub(super) name: String,
    pub(super) timeout: Option<Duration>,
    pub(super) room_within: Option<Duration>,
}

impl<In> Submission<In> {
    /// A task without a name or limits of its own, which waits for room.
    pub fn new(value: In) -> Self {
        Self { value, name: String::new(), timeout: None, room_within: None }
    }

    /// Names the task, for the log of the run and its result.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Limits the time of each attempt on the task, in the place of the pool's limit if that is
    /// longer. Only for a pool of processes.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Waits for room for this time at most; zero does not wait.
    pub fn within(mut self, time: Duration) -> Self {
        self.room_within = Some(time);
        self
    }
}
