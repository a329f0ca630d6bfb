//! What a worker has done but not yet reported.
//!
//! The results of many short calls are reported together. When a call takes long, a second
//! thread (`reporter`) reports the results of the calls before it, so that nothing waits for a
//! call that it has nothing to do with. What the present call emits stays with the call until
//! it has ended: if it fails, it has emitted nothing.

use std::sync::{Mutex, TryLockError};
use std::time::{Duration, Instant};

use super::reporter;
use super::reporter::Pending;
use super::tally::Tally;
use crate::base::failure::Result;
use crate::base::ids::MessageId;
use crate::base::lock::lock;
use crate::message::output::OutputBuffer;
use crate::protocol::report::{Outcome, Production};
use crate::protocol::wire::FromWorker;
use crate::stage::scope::Note;
use crate::stage::{Next, scope};
use crate::transport::{Link, LinkError};

/// The results of a batch are reported in parts after this time, so that what is done early moves
/// on early.
pub(crate) const REPORT_AFTER: Duration = Duration::from_millis(1);
/// The number and bytes of outputs after which results are reported earlier, which limits the
/// memory that a worker holds.
const REPORT_OUTPUTS: usize = 1024;
const REPORT_BYTES: usize = 1 << 20;

/// Where the reports of a worker go.
pub(crate) trait ReportSink {
    type Error;

    fn send(&mut self, report: FromWorker) -> std::result::Result<(), Self::Error>;
}

impl<L: Link> ReportSink for L {
    type Error = LinkError;

    fn send(&mut self, report: FromWorker) -> std::result::Result<(), LinkError> {
        Link::send(self, report)
    }
}

/// See the module's documentation.
pub(crate) struct Outbox<S>(Mutex<Open<S>>);

struct Open<S> {
    sink: S,
    outputs: OutputBuffer,
    notes: Vec<Note>,
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
        Self(Mutex::new(Open {
            sink,
            outputs: OutputBuffer::default(),
            notes: Vec::new(),
            several: false,
            reported: tally.clock(),
            tally,
            calls: 0,
            busy: zero,
            reported_busy: zero,
            ended: 0,
            seen: 0,
        }))
    }

    /// Uses the sink for something other than a report. The reporter has to wait meanwhile, so the
    /// outbox must be empty.
    pub(crate) fn sink<R>(&self, act: impl FnOnce(&mut S) -> R) -> R {
        act(&mut lock(&self.0).sink)
    }

    /// Begins a batch or a grant, of one call or of several.
    pub(crate) fn open(&self, several: bool) {
        let mut open = lock(&self.0);
        open.tally = Tally::new();
        open.reported = open.tally.clock();
        open.several = several;
        (open.calls, open.busy, open.reported_busy) = (0, Duration::ZERO, Duration::ZERO);
        drop(open);
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
        let mut open = lock(&self.0);
        let mut timed = open.add(done, emitted.count() == 0);
        if let Some((id, outcome)) = failed {
            timed |= open.tally.add(id, outcome, true);
        }
        open.take_in(emitted);
        let full = open.outputs.count() >= REPORT_OUTPUTS || open.outputs.bytes() >= REPORT_BYTES;
        if full || (timed && open.tally.since(open.reported) >= REPORT_AFTER) {
            rest();
            open.report_done()?;
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
        let mut open = lock(&self.0);
        open.add(done, true);
        open.report_done()
    }

    /// Adds a call of a producer that has more; all calls of the grant together took `busy`.
    pub(crate) fn called(&self, emitted: &mut OutputBuffer, busy: Duration) {
        let mut open = lock(&self.0);
        open.take_in(emitted);
        open.calls += 1;
        open.busy = busy;
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
        let mut open = lock(&self.0);
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
        let mut open = lock(&self.0);
        open.take_in(emitted);
        let outputs = open.outputs.take();
        open.send_notes()?;
        open.sink.send(FromWorker::Finished { result, outputs })
    }
}

impl<S: ReportSink> Open<S> {
    /// Adds messages that are done. Returns whether the clock was read.
    fn add(&mut self, done: &mut Vec<MessageId>, silent: bool) -> bool {
        done.drain(..).fold(false, |timed, id| timed | self.tally.add(id, Outcome::Done, silent))
    }

    /// Takes what a call that has ended emitted.
    fn take_in(&mut self, emitted: &mut OutputBuffer) {
        if self.several && self.seen == self.ended {
            // The call took so long that the reporter may sleep; the next one may take as long.
            reporter::wake();
        }
        self.ended += 1;
        self.outputs.absorb(emitted);
        if scope::note_count() > 0 {
            self.notes.extend(scope::take_notes());
        }
    }

    /// Sends the notes before their report: the run may end as soon as the report has come.
    fn send_notes(&mut self) -> std::result::Result<(), S::Error> {
        match std::mem::take(&mut self.notes) {
            notes if notes.is_empty() => Ok(()),
            notes => self.sink.send(FromWorker::Notes(notes)),
        }
    }

    fn report_done(&mut self) -> std::result::Result<(), S::Error> {
        let completions = self.tally.take();
        if completions.is_empty() {
            return Ok(());
        }
        let outputs = self.outputs.take();
        self.send_notes()?;
        self.sink.send(FromWorker::Done { completions, outputs })?;
        self.tally.restart();
        self.reported = self.tally.clock();
        Ok(())
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
        let completions = self.tally.take_before_a_long_call();
        if completions.is_empty() {
            return Ok(());
        }
        let outputs = self.outputs.take();
        self.send_notes()?;
        self.sink.send(FromWorker::Done { completions, outputs })
    }
}

impl<S: ReportSink + Send> Pending for Outbox<S> {
    fn look(&self) -> bool {
        let mut guard = match self.0.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Its worker uses it.
            Err(TryLockError::WouldBlock) => return false,
        };
        let open = &mut *guard;
        let is_new = std::mem::replace(&mut open.seen, open.ended) != open.ended;
        if !is_new {
            // The worker finds out by itself that the connection has failed.
            let _ = open.report_early();
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::*;
    use crate::message::Payload;

    impl ReportSink for Vec<FromWorker> {
        type Error = std::convert::Infallible;

        fn send(&mut self, report: FromWorker) -> std::result::Result<(), Self::Error> {
            self.push(report);
            Ok(())
        }
    }

    impl ReportSink for mpsc::Sender<FromWorker> {
        type Error = mpsc::SendError<FromWorker>;

        fn send(&mut self, report: FromWorker) -> std::result::Result<(), Self::Error> {
            mpsc::Sender::send(self, report)
        }
    }

    fn emitted(count: usize) -> OutputBuffer {
        let mut outputs = OutputBuffer::default();
        for _ in 0..count {
            outputs.push_payload(0, None, Payload { header: vec![1].into(), buffers: Vec::new() });
        }
        outputs
    }

    fn reports(outbox: &Outbox<Vec<FromWorker>>) -> Vec<FromWorker> {
        outbox.sink(std::mem::take)
    }

    #[test]
    fn what_calls_have_emitted_goes_on_while_the_next_one_takes_long() {
        let outbox = Outbox::new(Vec::new());
        outbox.open(true);
        outbox.called(&mut emitted(2), Duration::from_micros(5));
        outbox.called(&mut emitted(1), Duration::from_micros(9));
        assert!(outbox.look(), "the call may be a short one");
        assert_eq!(reports(&outbox), []);
        assert!(!outbox.look());
        let reported = reports(&outbox);
        let [FromWorker::Produced { production, outputs }] = &reported[..] else {
            panic!("{reported:?}")
        };
        let busy = Duration::from_micros(9);
        assert_eq!(*production, Production { result: None, calls: 2, busy });
        assert_eq!(outputs.iter().map(crate::message::batch::Output::count).sum::<usize>(), 3);
        assert!(!outbox.look());
        assert_eq!(reports(&outbox), [], "nothing is reported twice");
        let Ok(()) = outbox.produced(Ok(Next::More), &mut emitted(1), Duration::from_secs(6));
        let reported = reports(&outbox);
        let [FromWorker::Produced { production, .. }] = &reported[..] else {
            panic!("{reported:?}")
        };
        assert_eq!((production.calls, &production.result), (1, &Some(Ok(Next::More))));
        assert_eq!(production.busy, Duration::from_secs(6) - busy);
    }

    #[test]
    fn messages_that_are_done_do_not_wait_for_one_that_takes_long() {
        let outbox = Outbox::new(Vec::new());
        outbox.open(true);
        for id in 7..10 {
            let Ok(_) = outbox.done(&mut vec![MessageId(id)], None, &mut emitted(1), &|| ());
        }
        outbox.look();
        outbox.look();
        let reported = reports(&outbox);
        let completions = reported.iter().flat_map(|report| match report {
            FromWorker::Done { completions, .. } => completions,
            other => panic!("{other:?}"),
        });
        assert_eq!(completions.map(|completion| completion.count).sum::<u32>(), 3);
        let Ok(_) = outbox.done(&mut vec![MessageId(10)], None, &mut emitted(1), &|| ());
        let Ok(()) = outbox.close(&mut Vec::new(), &|| ());
        let reported = reports(&outbox);
        let [FromWorker::Done { completions, .. }] = &reported[..] else { panic!("{reported:?}") };
        assert_eq!((completions[0].first, completions[0].count), (MessageId(10), 1));
    }

    #[test]
    fn what_a_long_call_has_emitted_goes_on_while_the_next_one_takes_long_too() {
        let (sink, reports) = mpsc::channel();
        let outbox = Arc::new(Outbox::new(sink));
        let _watched = reporter::watch(&outbox);
        outbox.open(true);
        reporter::await_sleep();
        outbox.called(&mut emitted(1), Duration::from_secs(6));
        let reported = reports.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(matches!(reported, FromWorker::Produced { .. }), "{reported:?}");
    }
}
