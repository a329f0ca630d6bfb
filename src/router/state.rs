//! Where a run stands, and why it ends.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::policy::retry::Patience;
use crate::base::ids::{Slot, StepId};
use crate::event::Verdict;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunState {
    /// No work begins while initial workers are not ready.
    Starting {
        missing: usize,
    },
    Running,
    /// The router takes no more inputs.
    Over,
}

impl RunState {
    pub(super) fn has_started(self) -> bool {
        !matches!(self, Self::Starting { .. })
    }

    /// An initial worker is ready, or will never be.
    pub(super) fn worker_has_started(&mut self) {
        if let Self::Starting { missing } = self {
            *missing = missing.saturating_sub(1);
        }
    }
}

/// Whether a run stops before its inputs end.
enum Stopping {
    No,
    /// The run takes no more input; it processes what it has taken.
    Draining,
    /// The run drops what waits, for this reason.
    Abandoned(String),
}

/// What a run's verdict depends on besides its counts.
pub(super) struct Ending {
    stopping: Stopping,
    is_interrupted: bool,
    /// Whether the caller has gone, and the workers of open steps with it.
    pub(super) caller_is_gone: bool,
    /// Why production ended early, if it did.
    producer_failure: Option<String>,
    /// What failed in `finish`, in words.
    pub(super) finish_failures: Vec<String>,
}

impl Ending {
    pub(super) fn new() -> Self {
        Self {
            stopping: Stopping::No,
            is_interrupted: false,
            caller_is_gone: false,
            producer_failure: None,
            finish_failures: Vec::new(),
        }
    }

    /// Whether the run takes no more input.
    pub(super) fn is_draining(&self) -> bool {
        !matches!(self.stopping, Stopping::No)
    }

    /// Whether the run drops what waits.
    pub(super) fn is_abandoned(&self) -> bool {
        matches!(self.stopping, Stopping::Abandoned(_))
    }

    /// Whether there is still time for a retry.
    pub(super) fn patience(&self) -> Patience {
        match self.stopping {
            Stopping::No => Patience::Waits,
            Stopping::Draining => Patience::Drains,
            Stopping::Abandoned(_) => Patience::None,
        }
    }

    pub(super) fn interrupt(&mut self) {
        self.is_interrupted = true;
    }

    /// Takes no more input; false if that was so before.
    pub(super) fn drain(&mut self) -> bool {
        let changed = !self.is_draining();
        if changed {
            self.stopping = Stopping::Draining;
        }
        changed
    }

    /// Drops what waits; false if that was so before.
    pub(super) fn abandon(&mut self, reason: &str) -> bool {
        let changed = !self.is_abandoned();
        if changed {
            self.stopping = Stopping::Abandoned(reason.to_owned());
        }
        changed
    }

    /// Keeps the first reason why production ended early.
    pub(super) fn end_production(&mut self, reason: String) {
        self.producer_failure.get_or_insert(reason);
    }

    /// The verdict on a run that has or has not lost messages.
    pub(super) fn verdict(&self, has_lost_messages: bool) -> Verdict {
        match (&self.stopping, &self.producer_failure) {
            _ if self.is_interrupted => Verdict::Interrupted,
            (Stopping::Abandoned(reason), _) | (_, Some(reason)) => {
                Verdict::Stopped(reason.clone())
            }
            _ if has_lost_messages || !self.finish_failures.is_empty() => Verdict::SomeFailed,
            _ => Verdict::Done,
        }
    }
}

/// The latest instants that the router knows, and what becomes due later.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// The instant of the last poll.
    pub(super) polled: Duration,
    /// The instant of the last input or poll.
    pub(super) now: Duration,
    alarms: BinaryHeap<Reverse<(Duration, Alarm)>>,
}

/// What becomes due. The router ignores an alarm whose cause is gone by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// A retry of the step is due, or its producer is no longer idle.
    Step(StepId),
    /// The replacement of a lost worker is due.
    Respawn(Slot),
    /// Deferred messages are due.
    Deferred,
}

impl Clock {
    pub(super) fn set(&mut self, at: Duration, alarm: Alarm) {
        self.alarms.push(Reverse((at, alarm)));
    }

    /// Removes an alarm that is due, and returns it.
    pub(super) fn pop(&mut self) -> Option<Alarm> {
        self.alarms.peek().filter(|Reverse((at, _))| *at <= self.now)?;
        self.alarms.pop().map(|Reverse((_, alarm))| alarm)
    }

    /// Returns when the next alarm becomes due.
    pub(super) fn next(&self) -> Option<Duration> {
        self.alarms.peek().map(|Reverse((at, _))| *at)
    }
}
