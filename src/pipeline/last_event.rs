//! The last event of a run: how it ended.

use super::RunError;
use crate::event::exit_code::STOPPED;
use crate::event::{Event, Report};
use crate::status::stream::Stream;

/// Ends the stream of a run, however the run ends.
pub(super) struct LastEvent(pub(super) Stream);

impl LastEvent {
    pub(super) fn publish(&self, result: &Result<Report, RunError>) {
        self.0.publish(match result {
            Ok(report) => Event::Ended(Box::new(report.clone())),
            Err(error) => given_up(error),
        });
    }
}

impl Drop for LastEvent {
    fn drop(&mut self) {
        // Does nothing after the end.
        self.0.publish(given_up(&RunError::Panicked));
    }
}

fn given_up(error: &RunError) -> Event {
    Event::Error { exit_code: STOPPED, reason: error.to_string() }
}
