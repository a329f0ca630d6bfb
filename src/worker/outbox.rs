//! What a worker has done and has not reported yet.
//!
//! What many short calls have done is reported together. When a call takes long, a
//! second thread (`handover`) reports what the calls before it have done, so that
//! nothing waits for a call that it has nothing to do with. What the present call emits
//! is its own until it has ended: if it fails, it has emitted nothing.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::reporter;
use super::reporter::Look;
use super::tally::Tally;
use crate::base::failure::Result;
use crate::message::output::OutputBuffer;
use crate::protocol::report::{Outcome, Production};
use crate::protocol::wire::FromWorker;
use crate::stage::scope::Note;
use crate::stage::{Next, scope};
use crate::transport::{Link, LinkError};

/// A batch is reported in parts when this much time has passed or this much
/// has gathered, so that what is done early moves on early.
pub(crate) const REPORT_AFTER: Duration = Duration::from_millis(1);
const REPORT_OUTPUTS: usize = 1024;
const REPORT_BYTES: usize = 1 << 20;

/// Where reports go.
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
    /// Whether the batch or the grant is of more than one call.
    several: bool,
    /// Of a batch of messages.
    tally: Tally,
    reported: Instant,
    /// Of a grant: calls that are not reported yet, the time that all took, and how much of
    /// it is reported.
    calls: u32,
    busy: Duration,
    told: Duration,
    /// How many calls have ended, and how many had at the latest look.
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
            told: zero,
            ended: 0,
            seen: 0,
        }))
    }

    /// Every change of what lies on it is whole when it is unlocked.
    fn lock(&self) -> MutexGuard<'_, Open<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the sink does besides. Nobody looks at the desk meanwhile: nothing may lie on it.
    pub(crate) fn sink<R>(&self, act: impl FnOnce(&mut S) -> R) -> R {
        act(&mut self.lock().sink)
    }

    /// A batch or a grant begins, of several calls perhaps.
    pub(crate) fn open(&self, several: bool) {
        let mut open = self.lock();
        open.tally = Tally::new();
        open.reported = open.tally.clock();
        open.several = several;
        (open.calls, open.busy, open.told) = (0, Duration::ZERO, Duration::ZERO);
        drop(open);
        if several {
            reporter::wake();
        }
    }

    /// These messages are done, then one has failed perhaps, and this was emitted. Returns
    /// how many of the calls that follow may be told together.
    pub(crate) fn done(
        &self,
        done: &mut Vec<u64>,
        failed: Option<(u64, Outcome)>,
        emitted: &mut OutputBuffer,
        rest: &impl Fn(),
    ) -> std::result::Result<usize, S::Error> {
        let mut open = self.lock();
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

    /// The batch has ended, with these messages.
    pub(crate) fn close(
        &self,
        done: &mut Vec<u64>,
        rest: &impl Fn(),
    ) -> std::result::Result<(), S::Error> {
        rest();
        let mut open = self.lock();
        open.add(done, true);
        open.report_done()
    }

    /// The producer was called, and has more; all calls of the grant took `busy`.
    pub(crate) fn called(&self, emitted: &mut OutputBuffer, busy: Duration) {
        let mut open = self.lock();
        open.take_in(emitted);
        open.calls += 1;
        open.busy = busy;
    }

    /// As [`Outbox::called`], for the last time with this grant.
    pub(crate) fn produced(
        &self,
        next: Result<Next>,
        emitted: &mut OutputBuffer,
        busy: Duration,
    ) -> std::result::Result<(), S::Error> {
        let mut open = self.lock();
        open.take_in(emitted);
        open.calls += 1;
        open.busy = busy;
        open.report_production(Some(next))
    }

    /// The stage has finished.
    pub(crate) fn finished(
        &self,
        result: Result<()>,
        emitted: &mut OutputBuffer,
    ) -> std::result::Result<(), S::Error> {
        let mut open = self.lock();
        open.take_in(emitted);
        let outputs = open.outputs.take();
        open.tell_notes()?;
        open.sink.send(FromWorker::Finished { result, outputs })
    }
}

impl<S: ReportSink> Open<S> {
    /// These messages are done; true if the clock was read.
    fn add(&mut self, done: &mut Vec<u64>, silent: bool) -> bool {
        done.drain(..).fold(false, |timed, id| timed | self.tally.add(id, Outcome::Done, silent))
    }

    /// A call has ended.
    fn take_in(&mut self, emitted: &mut OutputBuffer) {
        if self.several && self.seen == self.ended {
            // It took long enough for the other thread to fall asleep, and so may the next one.
            reporter::wake();
        }
        self.ended += 1;
        self.outputs.absorb(emitted);
        if scope::note_count() > 0 {
            self.notes.extend(scope::take_notes());
        }
    }

    /// Before the report: what the run's end waits for comes last.
    fn tell_notes(&mut self) -> std::result::Result<(), S::Error> {
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
        self.tell_notes()?;
        self.sink.send(FromWorker::Done { completions, outputs })?;
        self.tally.restart();
        self.reported = self.tally.clock();
        Ok(())
    }

    /// None if the grant is still in use.
    fn report_production(
        &mut self,
        result: Option<Result<Next>>,
    ) -> std::result::Result<(), S::Error> {
        let busy = self.busy.saturating_sub(self.told);
        self.told = self.busy;
        let production = Production { result, calls: std::mem::take(&mut self.calls), busy };
        let outputs = self.outputs.take();
        self.tell_notes()?;
        self.sink.send(FromWorker::Produced { production, outputs })
    }

    /// Reports what lies here although a call is going on.
    fn hand_over(&mut self) -> std::result::Result<(), S::Error> {
        if self.calls > 0 {
            return self.report_production(None);
        }
        let completions = self.tally.take_before_a_long_call();
        if completions.is_empty() {
            return Ok(());
        }
        let outputs = self.outputs.take();
        self.tell_notes()?;
        self.sink.send(FromWorker::Done { completions, outputs })
    }
}

impl<S: ReportSink + Send> Look for Outbox<S> {
    fn look(&self) -> bool {
        let mut guard = match self.0.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Its worker is at it.
            Err(TryLockError::WouldBlock) => return false,
        };
        let open = &mut *guard;
        let is_new = std::mem::replace(&mut open.seen, open.ended) != open.ended;
        if !is_new {
            // A connection that has failed is found so by the worker too.
            let _ = open.hand_over();
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

    fn reports(desk: &Outbox<Vec<FromWorker>>) -> Vec<FromWorker> {
        desk.sink(std::mem::take)
    }

    #[test]
    fn what_calls_have_emitted_goes_on_while_the_next_one_takes_long() {
        let desk = Outbox::new(Vec::new());
        desk.open(true);
        desk.called(&mut emitted(2), Duration::from_micros(5));
        desk.called(&mut emitted(1), Duration::from_micros(9));
        assert!(desk.look(), "the call may be a short one");
        assert_eq!(reports(&desk), []);
        assert!(!desk.look());
        let told = reports(&desk);
        let [FromWorker::Produced { production, outputs }] = &told[..] else { panic!("{told:?}") };
        let busy = Duration::from_micros(9);
        assert_eq!(*production, Production { result: None, calls: 2, busy });
        assert_eq!(outputs.iter().map(crate::message::batch::Output::count).sum::<usize>(), 3);
        assert!(!desk.look());
        assert_eq!(reports(&desk), [], "nothing is told twice");
        let Ok(()) = desk.produced(Ok(Next::More), &mut emitted(1), Duration::from_secs(6));
        let told = reports(&desk);
        let [FromWorker::Produced { production, .. }] = &told[..] else { panic!("{told:?}") };
        assert_eq!((production.calls, &production.result), (1, &Some(Ok(Next::More))));
        assert_eq!(production.busy, Duration::from_secs(6) - busy);
    }

    #[test]
    fn messages_that_are_done_do_not_wait_for_one_that_takes_long() {
        let desk = Outbox::new(Vec::new());
        desk.open(true);
        for id in 7..10 {
            let Ok(_) = desk.done(&mut vec![id], None, &mut emitted(1), &|| ());
        }
        desk.look();
        desk.look();
        let told = reports(&desk);
        let completions = told.iter().flat_map(|report| match report {
            FromWorker::Done { completions, .. } => completions,
            other => panic!("{other:?}"),
        });
        assert_eq!(completions.map(|completion| completion.count).sum::<u32>(), 3);
        let Ok(_) = desk.done(&mut vec![10], None, &mut emitted(1), &|| ());
        let Ok(()) = desk.close(&mut Vec::new(), &|| ());
        let told = reports(&desk);
        let [FromWorker::Done { completions, .. }] = &told[..] else { panic!("{told:?}") };
        assert_eq!((completions[0].first, completions[0].count), (10, 1));
    }

    #[test]
    fn what_a_long_call_has_emitted_goes_on_while_the_next_one_takes_long_too() {
        let (sink, reports) = mpsc::channel();
        let desk = Arc::new(Outbox::new(sink));
        let _watched = reporter::watch(&desk);
        desk.open(true);
        reporter::await_sleep();
        desk.called(&mut emitted(1), Duration::from_secs(6));
        let told = reports.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(matches!(told, FromWorker::Produced { .. }), "{told:?}");
    }
}
