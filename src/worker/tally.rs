//! The results of the messages of a batch, and how long they took.

use std::time::{Duration, Instant};

use crate::base::ids::MessageId;
use crate::protocol::report::{Completion, Outcome};

/// The results of the messages of a batch. Successive messages that are done and took about as
/// long become one completion.
pub(crate) struct Tally {
    completions: Vec<Completion>,
    /// The latest messages: done, but not timed yet.
    open: Option<Completion>,
    /// The number of messages after which the clock is read.
    stride: u32,
    /// The latest reading of the clock.
    clock: Instant,
}

/// The number of very short calls that are timed together: reading the clock takes as long as a
/// few of them.
pub(crate) const STRIDE: u32 = 8;
/// The longest time of a very short call.
pub(crate) const SHORTEST: Duration = Duration::from_micros(1);

impl Tally {
    pub(crate) fn new() -> Self {
        Self { completions: Vec::new(), open: None, stride: 1, clock: Instant::now() }
    }

    /// Adds one message. Returns whether the clock was read.
    pub(crate) fn add(&mut self, id: MessageId, outcome: Outcome, silent: bool) -> bool {
        let silent = u32::from(silent);
        if outcome != Outcome::Done {
            // The messages that are not timed yet were very short: the time is this one's.
            let busy = self.time();
            self.close(Duration::ZERO);
            self.completions.push(Completion { first: id, count: 1, outcome, silent, busy });
            return true;
        }
        match &mut self.open {
            Some(open) if open.first.plus(open.count as usize) == id => {
                open.count += 1;
                open.silent += silent;
            }
            _ => {
                self.close(Duration::ZERO);
                let busy = Duration::ZERO;
                self.open = Some(Completion { first: id, count: 1, outcome, silent, busy });
            }
        }
        let full = self.open.as_ref().is_some_and(|open| open.count >= self.stride);
        if full {
            let busy = self.time();
            self.close(busy);
        }
        full
    }

    /// The number of messages that are timed together.
    pub(crate) fn stride(&self) -> usize {
        self.stride as usize
    }

    /// Adds the open messages, which took `busy` together.
    fn close(&mut self, busy: Duration) {
        let Some(mut open) = self.open.take() else { return };
        open.busy = busy;
        self.stride = if open.busy / open.count < SHORTEST { STRIDE } else { 1 };
        let last = self.completions.last_mut().filter(|last| {
            last.first.plus(last.count as usize) == open.first
                && last.outcome == Outcome::Done
                && magnitude(last.busy / last.count) == magnitude(open.busy / open.count)
        });
        match last {
            Some(last) => {
                last.count += open.count;
                last.silent += open.silent;
                last.busy += open.busy;
            }
            None => self.completions.push(open),
        }
    }

    /// Restarts the clock.
    pub(crate) fn restart(&mut self) {
        self.clock = Instant::now();
    }

    /// The time between an instant and the latest reading of the clock.
    pub(crate) fn since(&self, instant: Instant) -> Duration {
        self.clock.saturating_duration_since(instant)
    }

    /// The latest reading of the clock.
    pub(crate) fn clock(&self) -> Instant {
        self.clock
    }

    /// Takes the results so far while a call is under way. It has taken longer than all the
    /// messages that are not timed yet, so its time stays its own.
    pub(crate) fn take_before_a_long_call(&mut self) -> Vec<Completion> {
        self.close(Duration::ZERO);
        std::mem::take(&mut self.completions)
    }

    /// Reads the clock, and returns the time since the latest reading.
    fn time(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.clock, now)
    }

    /// Takes the results so far.
    pub(crate) fn take(&mut self) -> Vec<Completion> {
        if self.open.is_some() {
            let busy = self.time();
            self.close(busy);
        }
        std::mem::take(&mut self.completions)
    }
}

/// The binary logarithm of a running time in nanoseconds; the same for all below a microsecond.
fn magnitude(busy: Duration) -> u32 {
    u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX).max(1024).ilog2()
}
