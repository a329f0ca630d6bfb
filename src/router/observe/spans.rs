//! Records when each message waited and ran at each step, for the trace and the journal.
//!
//! A worker reports only how long a message took. Its beginning follows: the message had
//! been given to the worker, and the one before it was done. So the spans of one worker
//! never overlap, and never end after its report.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::change::{Attempt, Change, Outcome, RunView};
use crate::base::ids::{MessageId, Slot};
use crate::event::Cause;
use crate::message::ItemKey;
use crate::message::batch::Batch;

/// One attempt of a step on one message, or one turn of a producer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Span {
    pub(crate) step: Arc<str>,
    /// The worker's number within the step; none if the message reached no worker.
    pub(crate) worker: Option<usize>,
    /// None for a turn of a producer.
    pub(crate) message: Option<MessageId>,
    /// The number of calls of the stage.
    pub(crate) calls: u32,
    /// From 1.
    pub(crate) attempt: u32,
    pub(crate) origin: ItemKey,
    /// When it entered the step's queue, or came back there to be repeated.
    pub(crate) queued_at: Duration,
    pub(crate) given_at: Duration,
    pub(crate) begun_at: Duration,
    pub(crate) reported_at: Duration,
    pub(crate) busy: Duration,
    /// done, retrying, deferred, failed, dropped, produced or finished.
    pub(crate) outcome: &'static str,
    /// How it failed, if it did.
    pub(crate) cause: Option<Cause>,
}

/// Where and how long one attempt on a message ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ran {
    /// The worker's number within the step; none if it reached no worker.
    pub(crate) worker: Option<usize>,
    pub(crate) busy: Duration,
    /// The time from its arrival in the queue to its beginning.
    pub(crate) waited: Duration,
}

/// The spans since the last poll, and since when messages are queued or in hand.
pub(in crate::router) struct Spans {
    /// Whether every message is recorded, and not only those that the journal follows.
    traced: bool,
    open: HashMap<MessageId, Mark>,
    /// Until when each worker was busy. All workers on one thread count as one.
    busy_until: Vec<Duration>,
    one_thread: bool,
    spans: Vec<Span>,
}

#[derive(Clone, Copy)]
struct Mark {
    queued_at: Duration,
    given_at: Option<Duration>,
}

impl Spans {
    pub(super) fn new(one_thread: bool) -> Self {
        let (open, busy_until) = (HashMap::new(), Vec::new());
        Self { traced: false, open, busy_until, one_thread, spans: Vec::new() }
    }

    /// Records every message from here on.
    pub(super) fn trace_all(&mut self) {
        self.traced = true;
    }

    /// Takes the spans since the last call.
    pub(super) fn take(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.spans)
    }

    #[cfg(test)]
    pub(in crate::router) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Notes when messages enter a queue or a worker's hands, and calls that process none.
    pub(super) fn on(&mut self, change: Change<'_>, run: &RunView<'_>) {
        let queued = Mark { queued_at: run.now, given_at: None };
        match change {
            Change::Queued(batch) if self.records(batch.origin()) => {
                let messages = batch.first().successive(batch.count());
                self.open.extend(messages.map(|message| (message, queued)));
            }
            Change::Requeued { message, .. }
            | Change::Retried { message, .. }
            | Change::Deferred { message, .. }
                if self.records(message.origin.as_ref()) =>
            {
                self.open.insert(message.id, queued);
            }
            Change::Given(batches) => {
                batches.iter().for_each(|batch| self.given(batch, run.now));
            }
            Change::Produced { worker, calls, busy } => {
                self.turn(worker, calls, Some(busy), "produced", run);
            }
            Change::Finished { worker } => self.turn(worker, 1, None, "finished", run),
            _ => {}
        }
    }

    /// Records the end of an attempt. The result is meaningful only with a journal or a trace.
    pub(super) fn ended(&mut self, attempt: &Attempt<'_>, run: &RunView<'_>) -> Ran {
        if !self.records(attempt.origin) {
            return Ran::default();
        }
        let mark = self.open.remove(&attempt.message);
        let mark = mark.unwrap_or(Mark { queued_at: run.now, given_at: None });
        let given_at = mark.given_at.unwrap_or(run.now);
        let (begun_at, busy) = match attempt.hand {
            Some(hand) => self.place(hand.worker, given_at, hand.busy, run.now),
            None => (run.now, Duration::ZERO),
        };
        let worker = attempt.hand.map(|hand| run.workers[hand.worker].number);
        let (outcome, cause) = match attempt.outcome {
            Outcome::Done => ("done", None),
            Outcome::Retrying(failed) => ("retrying", Some(failed.cause)),
            Outcome::Deferred => ("deferred", None),
            Outcome::Failed(failed) => ("failed", Some(failed.cause)),
            Outcome::Dropped => ("dropped", None),
        };
        if self.traced {
            self.spans.push(Span {
                step: Arc::clone(&run.steps[attempt.step].name),
                worker,
                message: Some(attempt.message),
                calls: 1,
                attempt: attempt.number,
                origin: attempt.origin.cloned(),
                queued_at: mark.queued_at,
                given_at,
                begun_at,
                reported_at: run.now,
                busy,
                outcome,
                cause,
            });
        }
        Ran { worker, busy, waited: begun_at.saturating_sub(mark.queued_at) }
    }

    fn given(&mut self, batch: &Batch, now: Duration) {
        if self.records(batch.origin()) {
            for message in batch.first().successive(batch.count()) {
                if let Some(mark) = self.open.get_mut(&message) {
                    mark.given_at = Some(now);
                }
            }
        }
    }

    /// Records calls that process no message.
    fn turn(
        &mut self,
        worker: Slot,
        calls: u32,
        busy: Option<Duration>,
        outcome: &'static str,
        run: &RunView<'_>,
    ) {
        if !self.traced {
            return;
        }
        let crate::router::Worker { step, number, since, .. } = run.workers[worker];
        let (begun_at, busy) = self.place(worker, since, busy, run.now);
        self.spans.push(Span {
            step: Arc::clone(&run.steps[step].name),
            worker: Some(number),
            message: None,
            calls,
            attempt: 1,
            origin: None,
            queued_at: since,
            given_at: since,
            begun_at,
            reported_at: run.now,
            busy,
            outcome,
            cause: None,
        });
    }

    /// Whether messages of this origin are recorded.
    fn records(&self, origin: Option<&Arc<str>>) -> bool {
        self.traced || origin.is_some()
    }

    fn busy_until(&mut self, worker: Slot) -> &mut Duration {
        let worker = if self.one_thread { 0 } else { worker.index() };
        if worker >= self.busy_until.len() {
            self.busy_until.resize(worker + 1, Duration::ZERO);
        }
        &mut self.busy_until[worker]
    }

    /// Computes when an attempt began and how long it took; its worker could begin at
    /// `given_at`.
    fn place(
        &mut self,
        worker: Slot,
        given_at: Duration,
        busy: Option<Duration>,
        now: Duration,
    ) -> (Duration, Duration) {
        let until = self.busy_until(worker);
        let begun_at = given_at.max(*until);
        let busy = busy.unwrap_or_else(|| now.saturating_sub(begun_at));
        *until = begun_at + busy;
        (begun_at, busy)
    }
}
