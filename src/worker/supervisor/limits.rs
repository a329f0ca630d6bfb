//! Decides when to end a worker process: limits of time and memory, and signs of life.
//! `worker_process` ends it. A worker above its limit between two messages ends itself
//! (`worker/serve`).

use std::time::{Duration, Instant};

use super::super::liveness::{Liveness, SILENCE};
use super::super::page::Page;
use super::super::usage;
use crate::base::ids::MessageId;
use crate::event::Cause;
use crate::protocol::report::{Blame, Loss, Suspect};

/// A worker that was just started gives its first sign of life within this time, also on a
/// busy machine.
const START: Duration = Duration::from_secs(30);

/// So many looks in a row that find a worker at no message mean that it has nothing in hand.
const MAX_IDLE_LOOKS: u32 = 5;

/// The limits of a step's workers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For one message.
    pub(crate) timeout: Option<Duration>,
    /// The most memory of one worker, in bytes.
    pub(crate) memory: Option<u64>,
    /// The time between asking a worker to end and ending it by force.
    pub(crate) grace: Duration,
    /// Whether the worker may set deadlines for its messages itself, on its page.
    pub(crate) sets_deadlines: bool,
}

impl Limits {
    /// Whether a worker that is at work must be looked at often.
    pub(super) fn need_looks(&self) -> bool {
        let Self { timeout, memory, sets_deadlines, .. } = self;
        timeout.is_some() || memory.is_some() || *sets_deadlines
    }
}

/// Watches the limits of one worker.
pub(super) struct Watch {
    limits: Limits,
    started: Instant,
    liveness: Liveness,
    /// A message that was in progress while the program was suspended, and for how long.
    forgiven: Option<(MessageId, Duration)>,
    /// Messages that the worker must not be at, and how often the latest looks have found it at
    /// none: then it has done them.
    cancelled: Vec<MessageId>,
    idle_looks: u32,
    /// The reason reported for a worker that never gave a sign of life.
    never_began: String,
}

impl Watch {
    /// If the worker gives no sign of life, the reason says that `who` did not become a worker,
    /// followed by `advice`.
    pub(super) fn new(limits: Limits, who: &str, advice: &str) -> Self {
        let started = Instant::now();
        let seconds = START.as_secs();
        let never_began = format!("{who} did not become a worker within {seconds} s{advice}");
        let liveness = Liveness::new(started);
        Self {
            limits,
            started,
            liveness,
            forgiven: None,
            cancelled: Vec::new(),
            idle_looks: 0,
            never_began,
        }
    }

    /// The worker begins only now.
    pub(super) fn begin(&mut self) {
        self.started = Instant::now();
        self.liveness.forgive(self.started);
    }

    /// Why the worker must be ended, if it must.
    pub(super) fn check(&mut self, page: &Page, process: u32, now: Instant) -> Option<Loss> {
        let beats = page.beats();
        if beats == 0 && now - self.started > START {
            return Some(loss_at(page, Blame::Death, self.never_began.clone()));
        }
        if beats != 0 && self.liveness.has_stopped(beats, now, || usage::time_of(process)) {
            let reason = format!("it gave no sign of life for {} s", SILENCE.as_secs());
            return Some(loss_at(page, Blame::Death, reason));
        }
        self.check_cancelled(page)
            .or_else(|| self.check_time(page))
            .or_else(|| self.check_memory(page, process))
    }

    /// The message in progress and its time limit, if it has passed that.
    pub(super) fn passed(&self, page: &Page) -> Option<(MessageId, Duration)> {
        let at = page.at_work()?;
        let limit = [self.limits.timeout, at.limit].into_iter().flatten().min()?;
        (at.time > limit + self.forgiven_at(at.message)).then_some((at.message, limit))
    }

    fn check_time(&self, page: &Page) -> Option<Loss> {
        let (message, limit) = self.passed(page)?;
        let reason = format!("it took longer than the time limit of {} s", limit.as_secs_f64());
        let suspect = Suspect::Message(message);
        Some(Loss { reason, cause: Cause::TimedOut, suspect, blame: Blame::Limit })
    }

    /// Has the worker ended when it is at this message.
    pub(super) fn end_at(&mut self, message: MessageId) {
        self.cancelled.push(message);
        self.idle_looks = 0;
    }

    /// Whether there are messages that the worker must not be at.
    pub(super) fn has_cancelled(&self) -> bool {
        !self.cancelled.is_empty()
    }

    fn check_cancelled(&mut self, page: &Page) -> Option<Loss> {
        if self.cancelled.is_empty() {
            return None;
        }
        let Some(at) = page.at_work() else {
            self.idle_looks += 1;
            if self.idle_looks > MAX_IDLE_LOOKS {
                self.cancelled.clear();
            }
            return None;
        };
        self.idle_looks = 0;
        let (reason, cause) = ("its item was cancelled".to_owned(), Cause::Cancelled);
        let suspect = Suspect::Message(at.message);
        let is_cancelled = self.cancelled.contains(&at.message);
        is_cancelled.then_some(Loss { reason, cause, suspect, blame: Blame::Request })
    }

    fn check_memory(&self, page: &Page, process: u32) -> Option<Loss> {
        let limit = self.limits.memory?;
        let used = usage::memory_of(process).filter(|used| *used > limit)?;
        let reason =
            format!("it used {} MiB of memory, its limit is {} MiB", used >> 20, limit >> 20);
        Some(loss_at(page, Blame::Limit, reason))
    }

    /// Ignores a time in which the whole program was suspended.
    pub(super) fn forgive(&mut self, page: &Page, time: Duration, now: Instant) {
        self.liveness.forgive(now);
        self.started = self.started.max(now - START.min(time));
        if let Some(at) = page.at_work() {
            self.forgiven = Some((at.message, self.forgiven_at(at.message) + time));
        }
    }

    fn forgiven_at(&self, message: MessageId) -> Duration {
        self.forgiven.filter(|(at, _)| *at == message).map_or(Duration::ZERO, |(_, time)| time)
    }
}

/// The loss of a worker with this page, charged to the message that it is at.
pub(super) fn loss_at(page: &Page, blame: Blame, reason: String) -> Loss {
    let suspect = page.at_work().map_or(Suspect::None, |at| Suspect::Message(at.message));
    Loss { reason, cause: Cause::Lost, suspect, blame }
}
