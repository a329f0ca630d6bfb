//! What a worker has been given but has not begun, and what it has done but not yet reported.
//!
//! The results of many short calls are reported together. When a call takes long, a second
//! thread (`reporter`) reports the results of the calls before it, so that nothing waits for a
//! call that it has nothing to do with. What the present call emits stays with the call until
//! it has ended: if it fails, it has emitted nothing. The messages behind that call go back to
//! the router, which gives them to another worker.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, Instant};

use super::reporter;
use super::reporter::{Look, Pending};
use super::tally::Tally;
use crate::base::failure::Result;
use crate::base::ids::MessageId;
use crate::base::lock::lock;
use crate::message::batch::Batch;
use crate::message::output::OutputBuffer;
use crate::protocol::report::{Outcome, Production};
use crate::protocol::wire::{FromWorker, ToWorker};
use crate::stage::actions::ActionTally;
use crate::stage::scope::Note;
use crate::stage::{Next, scope};
use crate::transport::{Link, LinkError};

/// The results of a batch are reported in parts after this time, so that what is done early moves
/// on early.
pub(crate) const REPORT_AFTER: Duration = Duration::from_millis(2);
/// The number of results, and the bytes of outputs, after which results are reported earlier: the
/// router gives a worker more before it has done all, and a worker holds little memory.
const REPORT_RESULTS: usize = 1024;
const REPORT_BYTES: usize = 1 << 20;

/// Where the reports of a worker go.
pub(crate) trait ReportSink {
    type Error: Send;

    fn send(&mut self, report: FromWorker) -> std::result::Result<(), Self::Error>;

    /// Returns what the router has sent meanwhile, if anything.
    ///
    /// # Errors
    /// If the connection has failed, or what came is not of the protocol.
    fn arrived(&mut self) -> std::result::Result<Option<ToWorker>, Self::Error> {
        Ok(None)
    }
}

impl<L: Link> ReportSink for L {
    type Error = LinkError;

    fn send(&mut self, report: FromWorker) -> std::result::Result<(), LinkError> {
        Link::send(self, report)
    }

    fn arrived(&mut self) -> std::result::Result<Option<ToWorker>, LinkError> {
        self.try_receive()
    }
}

/// See the module's documentation.
pub(crate) struct Outbox<S: ReportSink> {
    open: Mutex<Open<S>>,
    /// The number of messages of the batch at work that may be begun.
    left: AtomicI64,
}

struct Open<S: ReportSink> {
    sink: S,
    /// The batches that the worker has not begun.
    todo: VecDeque<Batch>,
    /// The number of messages that the worker has taken and the tally does not have.
    unrecorded: usize,
    /// The number of messages whose results are not reported yet.
    unreported: usize,
    /// The number that follows the last message of the batch at work.
    at_work: Option<MessageId>,
    /// What arrived while the reporter looked for messages to give back.
    arrived: VecDeque<std::result::Result<ToWorker, S::Error>>,
    outputs: OutputBuffer,
    notes: Vec<Note>,
    actions: ActionTally,
    /// Whether the batch or the grant has more than one call.
    several: bool,
    /// The results of a batch of messages.
    tally: Tally,
    reported: Instant,
    /// For a grant: the calls that are not reported yet, the running time of all calls, and the
    /// part of it that is reported.
    calls: u32,
    busy: Duration,
    reported_busy: Duration,
    /// The number of calls that have ended, and the number at the latest look.
    ended: u64,
    seen: u64,
}

impl<S: ReportSink> Outbox<S> {
    pub(crate) fn new(sink: S) -> Self {
        let (tally, zero) = (Tally::new(), Duration::ZERO);
        let open = Open {
            sink,
            todo: VecDeque::new(),
            unrecorded: 0,
            unreported: 0,
            at_work: None,
            arrived: VecDeque::new(),
            outputs: OutputBuffer::default(),
            notes: Vec::new(),
            actions: ActionTally::new(),
            several: false,
            reported: tally.clock(),
            tally,
            calls: 0,
            busy: zero,
            reported_busy: zero,
            ended: 0,
            seen: 0,
        };
        Self { open: Mutex::new(open), left: AtomicI64::new(0) }
    }

    /// Uses the sink for something other than a report. The reporter has to wait meanwhile, so the
    /// outbox must be empty.
    pub(crate) fn sink<R>(&self, act: impl FnOnce(&mut S) -> R) -> R {
        act(&mut lock(&self.open).sink)
    }

    /// Returns what arrived before the worker asked for it.
    ///
    /// # Errors
    /// If what arrived could not be received.
    pub(crate) fn arrived(&self) -> std::result::Result<Option<ToWorker>, S::Error> {
        lock(&self.open).arrived.pop_front().transpose()
    }

    /// Begins a batch of messages, of which [`Outbox::take`] gives the first.
    pub(crate) fn open_batch(&self, batches: Vec<Batch>) {
        let mut open = lock(&self.open);
        open.todo.extend(batches);
        // Others may come while the first call is under way.
        open.reset(true);
        drop(open);
        reporter::wake();
    }

    /// Takes the next batch, if there is one.
    pub(crate) fn take(&self) -> Option<Batch> {
        let mut open = lock(&self.open);
        let batch = open.todo.pop_front()?;
        open.at_work = Some(batch.first().plus(batch.count()));
        open.unrecorded += batch.count();
        self.left.store(batch.count() as i64, Ordering::SeqCst);
        Some(batch)
    }

    /// Claims the next message of the batch. Returns false if the rest of the batch has gone back
    /// to the router.
    pub(crate) fn may_begin(&self) -> bool {
        self.left.fetch_sub(1, Ordering::SeqCst) > 0
    }

    /// Begins a grant, of one call or of several.
    pub(crate) fn open(&self, several: bool) {
        lock(&self.open).reset(several);
        if several {
            reporter::wake();
        }
    }

    /// Adds messages that are done, then one that has failed, if any, and what they emitted.
    /// Calls `rest` before a report. Returns how many of the next calls may be added together.
    ///
    /// # Errors
    /// If a report was due and could not be sent.
    pub(crate) fn done(
        &self,
        done: &mut Vec<MessageId>,
        failed: Option<(MessageId, Outcome)>,
        emitted: &mut OutputBuffer,
        rest: &impl Fn(),
    ) -> std::result::Result<usize, S::Error> {
        let mut open = lock(&self.open);
        let recorded = done.len() + usize::from(failed.is_some());
        open.unrecorded = open.unrecorded.saturating_sub(recorded);
        open.unreported += recorded;
        let mut timed = open.add(done, emitted.count() == 0);
        if let Some((id, outcome)) = failed {
            timed |= open.tally.add(id, outcome, true);
        }
        open.take_in(emitted);
        if open.is_full() || (timed && open.tally.since(open.reported) >= REPORT_AFTER) {
            rest();
            open.report_done()?;
            open.tally.restart();
            open.reported = open.tally.clock();
        }
        Ok(open.tally.stride())
    }

    /// Ends a batch with these messages, and reports it.
    ///
    /// # Errors
    /// If the report could not be sent.
    pub(crate) fn close(
        &self,
        done: &mut Vec<MessageId>,
        rest: &impl Fn(),
    ) -> std::result::Result<(), S::Error> {
        rest();
        let mut open = lock(&self.open);
        open.at_work = None;
        open.unrecorded = 0;
        // Messages are left only if the work ended early.
        open.todo.clear();
        open.add(done, true);
        open.take_notes();
        open.report_done()
    }

    /// Adds a call of a producer that has more; all calls of the grant together took `busy`.
    ///
    /// # Errors
    /// If a report was due and could not be sent.
    pub(crate) fn called(
        &self,
        emitted: &mut OutputBuffer,
        busy: Duration,
    ) -> std::result::Result<(), S::Error> {
        let mut open = lock(&self.open);
        open.take_in(emitted);
        open.calls += 1;
        open.busy = busy;
        if open.is_full() { open.report_production(None) } else { Ok(()) }
    }

    /// Adds the last call of a grant, and reports it.
    ///
    /// # Errors
    /// If the report could not be sent.
    pub(crate) fn produced(
        &self,
        next: Result<Next>,
        emitted: &mut OutputBuffer,
        busy: Duration,
    ) -> std::result::Result<(), S::Error> {
        let mut open = lock(&self.open);
        open.take_in(emitted);
        open.calls += 1;
        open.busy = busy;
        open.report_production(Some(next))
    }

    /// Reports that the stage has finished.
    ///
    /// # Errors
    /// If the report could not be sent.
    pub(crate) fn finished(
        &self,
        result: Result<()>,
        emitted: &mut OutputBuffer,
    ) -> std::result::Result<(), S::Error> {
        let mut open = lock(&self.open);
        open.take_in(emitted);
        let outputs = open.outputs.take();
        open.send_notes()?;
        open.sink.send(FromWorker::Finished { result, outputs })
    }
}

impl<S: ReportSink> Open<S> {
    fn reset(&mut self, several: bool) {
        self.tally = Tally::new();
        self.reported = self.tally.clock();
        self.several = several;
        (self.calls, self.busy, self.reported_busy) = (0, Duration::ZERO, Duration::ZERO);
    }

    /// Adds messages that are done. Returns whether the clock was read.
    fn add(&mut self, done: &mut Vec<MessageId>, silent: bool) -> bool {
        done.drain(..).fold(false, |timed, id| timed | self.tally.add(id, Outcome::Done, silent))
    }

    /// Whether there is so much to report that it must not wait.
    fn is_full(&self) -> bool {
        self.unreported.max(self.outputs.count()) >= REPORT_RESULTS
            || self.outputs.bytes() >= REPORT_BYTES
    }

    /// Takes what a call that has ended emitted.
    fn take_in(&mut self, emitted: &mut OutputBuffer) {
        if self.several && self.seen == self.ended {
            // The call took so long that the reporter may sleep; the next one may take as long.
            reporter::wake();
        }
        self.ended += 1;
        self.outputs.absorb(emitted);
        self.take_notes();
    }

    fn take_notes(&mut self) {
        if !scope::has_notes() {
            return;
        }
        for note in scope::take_notes() {
            match note {
                Note::Actions(actions) => actions.iter().for_each(|one| self.actions.add(one)),
                note => self.notes.push(note),
            }
        }
    }

    /// Sends the notes before their report: the run may end as soon as the report has come.
    fn send_notes(&mut self) -> std::result::Result<(), S::Error> {
        let mut notes = std::mem::take(&mut self.notes);
        if !self.actions.is_empty() {
            notes.push(Note::Actions(self.actions.take()));
        }
        match notes {
            notes if notes.is_empty() => Ok(()),
            notes => self.sink.send(FromWorker::Notes(notes)),
        }
    }

    fn report_done(&mut self) -> std::result::Result<(), S::Error> {
        self.unreported = 0;
        let completions = self.tally.take();
        if completions.is_empty() {
            return Ok(());
        }
        let outputs = self.outputs.take();
        self.send_notes()?;
        self.sink.send(FromWorker::Done { completions, outputs })
    }

    /// `result` is none while the grant is still in use.
    fn report_production(
        &mut self,
        result: Option<Result<Next>>,
    ) -> std::result::Result<(), S::Error> {
        let busy = self.busy.saturating_sub(self.reported_busy);
        self.reported_busy = self.busy;
        let production = Production { result, calls: std::mem::take(&mut self.calls), busy };
        let outputs = self.outputs.take();
        self.send_notes()?;
        self.sink.send(FromWorker::Produced { production, outputs })
    }

    /// Reports the results of earlier calls while a call is under way.
    fn report_early(&mut self) -> std::result::Result<(), S::Error> {
        if self.calls > 0 {
            return self.report_production(None);
        }
        self.unreported = 0;
        let completions = self.tally.take_before_a_long_call();
        if completions.is_empty() {
            return Ok(());
        }
        let outputs = self.outputs.take();
        self.send_notes()?;
        self.sink.send(FromWorker::Done { completions, outputs })
    }

    /// Gives the messages behind a call that is under way back to the router. `left` is the
    /// number of those in the batch at work.
    fn give_back(&mut self, left: &AtomicI64) -> std::result::Result<(), S::Error> {
        let Some(end) = self.at_work else { return Ok(()) };
        if self.unrecorded <= left.load(Ordering::SeqCst).max(0) as usize {
            // No call is under way: the worker is about to begin the next message.
            return Ok(());
        }
        loop {
            match self.sink.arrived() {
                Ok(None) => break,
                Ok(Some(ToWorker::Work(batches))) => self.todo.extend(batches),
                Ok(Some(other)) => self.arrived.push_back(Ok(other)),
                Err(error) => {
                    // For the worker, when its call has ended.
                    self.arrived.push_back(Err(error));
                    break;
                }
            }
        }
        let left = left.swap(0, Ordering::SeqCst).max(0) as usize;
        self.unrecorded -= left;
        let first = match (left, self.todo.front()) {
            (0, None) => return Ok(()),
            (0, Some(next)) => next.first(),
            (left, _) => end.minus(left),
        };
        let behind: usize = self.todo.drain(..).map(|batch| batch.count()).sum();
        self.sink.send(FromWorker::Returned { first, count: (left + behind) as u32 })
    }
}

impl<S: ReportSink + Send> Pending for Outbox<S> {
    fn look(&self) -> Look {
        let mut guard = match self.open.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Its worker uses it.
            Err(TryLockError::WouldBlock) => return Look::Idle,
        };
        let open = &mut *guard;
        let is_new = std::mem::replace(&mut open.seen, open.ended) != open.ended;
        if is_new {
            return Look::New;
        }
        // The worker finds out by itself that the connection has failed.
        let _ = open.report_early().and_then(|()| open.give_back(&self.left));
        if open.at_work.is_some() { Look::AtWork } else { Look::Idle }
    }
}

#[cfg(test)]
mod tests;
