//! Records when each message waited and ran at each step, for the trace and the journal.
//!
//! A worker reports only how long a message took. Its beginning follows: the message had
//! been given to the worker, and the one before it was done. So the spans of one worker
//! never overlap, and never end after its report.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{MessageId, Slot, StepId};
use crate::event::Cause;
use crate::message::batch::Batch;
use crate::message::{ItemKey, Message};
use crate::router::{AttemptOutcome, Batching, Router, State};

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
    /// done, retrying, failed, dropped, produced or finished.
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

/// The end of one attempt.
pub(in crate::router) struct Attempt<'a> {
    pub(in crate::router) step: StepId,
    /// The worker among all of the run.
    pub(in crate::router) worker: Option<Slot>,
    pub(in crate::router) message: MessageId,
    /// From 0.
    pub(in crate::router) attempt: u32,
    pub(in crate::router) origin: &'a ItemKey,
    /// None if nobody has reported it.
    pub(in crate::router) busy: Option<Duration>,
    pub(in crate::router) outcome: &'static str,
    pub(in crate::router) cause: Option<Cause>,
}

/// Since when each open message is queued or in hand.
pub(in crate::router) struct Marks {
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

impl Marks {
    fn new(one_thread: bool) -> Self {
        let (open, busy_until) = (HashMap::new(), Vec::new());
        Self { traced: false, open, busy_until, one_thread, spans: Vec::new() }
    }

    /// Notes that the messages are in the queue of their step.
    pub(in crate::router) fn queued(&mut self, batch: &Batch, now: Duration) {
        self.each(batch, |open, number| {
            open.insert(number, Mark { queued_at: now, given_at: None });
        });
    }

    /// Notes that the message is in the queue of its step again, alone.
    pub(in crate::router) fn requeued(&mut self, message: &Message, now: Duration) {
        if self.traced || message.origin.is_some() {
            self.open.insert(message.id, Mark { queued_at: now, given_at: None });
        }
    }

    /// Notes that a worker has been given the messages.
    pub(in crate::router) fn given(&mut self, batches: &[Batch], now: Duration) {
        for batch in batches {
            self.each(batch, |open, number| {
                if let Some(mark) = open.get_mut(&number) {
                    mark.given_at = Some(now);
                }
            });
        }
    }

    /// Takes the spans since the last call.
    pub(in crate::router) fn take_spans(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.spans)
    }

    #[cfg(test)]
    pub(in crate::router) fn open_count(&self) -> usize {
        self.open.len()
    }

    fn each(
        &mut self,
        batch: &Batch,
        mut mark: impl FnMut(&mut HashMap<MessageId, Mark>, MessageId),
    ) {
        if self.traced || batch.origin().is_some() {
            let numbers = batch.first().successive(batch.count());
            numbers.for_each(|number| mark(&mut self.open, number));
        }
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

impl Router {
    /// Counts the time since the worker's last report as work: no report will tell how long
    /// this work took.
    pub(in crate::router) fn spend(&mut self, worker: Slot, now: Duration) {
        let worker = &mut self.workers[worker];
        if worker.is_busy() && worker.state != State::Gone {
            let spent = now.saturating_sub(worker.since);
            worker.since = now;
            worker.busy += spent;
            self.steps[worker.step].times.spend(spent);
        }
    }

    /// Records from here on when each message waited and ran.
    pub(crate) fn trace(&mut self) {
        self.mark_times();
        if let Some(marks) = &mut self.observers.marks {
            marks.traced = true;
        }
    }

    pub(in crate::router) fn mark_times(&mut self) {
        let one_thread = self.options.batching != Batching::Adaptive;
        self.observers.marks.get_or_insert_with(|| Marks::new(one_thread));
    }

    /// Records the end of an attempt. The result is meaningful only with a journal or a trace.
    pub(in crate::router) fn mark_ended(&mut self, attempt: &Attempt<'_>) -> Ran {
        let now = self.clock.now;
        let number = attempt.worker.map(|worker| self.workers[worker].number);
        let Some(marks) = &mut self.observers.marks else { return Ran::default() };
        if !marks.traced && attempt.origin.is_none() {
            return Ran::default();
        }
        let mark = marks.open.remove(&attempt.message);
        let mark = mark.unwrap_or(Mark { queued_at: now, given_at: None });
        let given_at = mark.given_at.unwrap_or(now);
        let (begun_at, busy) = match attempt.worker {
            Some(worker) => marks.place(worker, given_at, attempt.busy, now),
            None => (now, Duration::ZERO),
        };
        if marks.traced {
            marks.spans.push(Span {
                step: Arc::clone(&self.steps[attempt.step].name),
                worker: number,
                message: Some(attempt.message),
                calls: 1,
                attempt: attempt.attempt + 1,
                origin: attempt.origin.clone(),
                queued_at: mark.queued_at,
                given_at,
                begun_at,
                reported_at: now,
                busy,
                outcome: attempt.outcome,
                cause: attempt.cause,
            });
        }
        Ran { worker: number, busy, waited: begun_at.saturating_sub(mark.queued_at) }
    }

    /// Records messages that the worker has done, `count` of them in `busy`.
    pub(in crate::router) fn mark_done(
        &mut self,
        worker: Slot,
        batches: &[Batch],
        busy: Duration,
        count: u32,
    ) {
        if self.observers.marks.is_none() {
            return;
        }
        let (step, busy) = (self.workers[worker].step, Some(busy / count.max(1)));
        for batch in batches {
            self.mark_batch(step, Some(worker), batch, busy, ("done", AttemptOutcome::Done));
        }
    }

    /// Records messages of the step that were dropped, in the hands of a worker or before.
    pub(in crate::router) fn mark_dropped(
        &mut self,
        step: StepId,
        worker: Option<Slot>,
        batch: &Batch,
    ) {
        self.mark_batch(step, worker, batch, None, ("dropped", AttemptOutcome::Dropped));
    }

    /// Records the end of the attempts on these messages, each of which took `busy`.
    fn mark_batch(
        &mut self,
        step: StepId,
        worker: Option<Slot>,
        batch: &Batch,
        busy: Option<Duration>,
        (outcome, recorded): (&'static str, AttemptOutcome),
    ) {
        let origin = &batch.origin().cloned();
        // A message that was tried before travels alone.
        let attempt = match batch {
            Batch::One(message) => message.attempt,
            Batch::Many { .. } => 0,
        };
        for message in batch.first().successive(batch.count()) {
            let cause = None;
            let end = Attempt { step, worker, message, attempt, origin, busy, outcome, cause };
            let ran = self.mark_ended(&end);
            if let Batch::One(message) = batch {
                self.record_attempt(step, message, ran, recorded.clone());
            }
        }
    }

    /// Records calls of a producer.
    pub(in crate::router) fn mark_produced(&mut self, worker: Slot, calls: u32, busy: Duration) {
        self.mark_turn(worker, calls, Some(busy), "produced");
    }

    /// Records that the worker has finished.
    pub(in crate::router) fn mark_finished(&mut self, worker: Slot) {
        self.mark_turn(worker, 1, None, "finished");
    }

    /// Records calls that process no message.
    fn mark_turn(
        &mut self,
        worker: Slot,
        calls: u32,
        busy: Option<Duration>,
        outcome: &'static str,
    ) {
        let now = self.clock.now;
        let crate::router::Worker { step, number, since, .. } = self.workers[worker];
        let Some(marks) = self.observers.marks.as_mut().filter(|marks| marks.traced) else {
            return;
        };
        let (begun_at, busy) = marks.place(worker, since, busy, now);
        marks.spans.push(Span {
            step: Arc::clone(&self.steps[step].name),
            worker: Some(number),
            message: None,
            calls,
            attempt: 1,
            origin: None,
            queued_at: since,
            given_at: since,
            begun_at,
            reported_at: now,
            busy,
            outcome,
            cause: None,
        });
    }
}
