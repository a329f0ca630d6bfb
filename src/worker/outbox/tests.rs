use std::sync::Arc;
use std::sync::mpsc;

use super::*;
use crate::message::{Message, Payload};

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
    let [FromWorker::Produced { production, .. }] = &reported[..] else { panic!("{reported:?}") };
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

/// A router that has sent something, and takes reports.
struct Router {
    sent: VecDeque<ToWorker>,
    reports: Vec<FromWorker>,
}

impl ReportSink for Router {
    type Error = std::convert::Infallible;

    fn send(&mut self, report: FromWorker) -> std::result::Result<(), Self::Error> {
        self.reports.push(report);
        Ok(())
    }

    fn arrived(&mut self) -> Option<ToWorker> {
        self.sent.pop_front()
    }
}

#[test]
fn what_waits_behind_a_long_call_goes_back_and_is_not_begun() {
    let batches = |first, count| {
        let message = |id| Message {
            id: MessageId(id),
            attempt: 0,
            origin: None,
            payload: Payload { header: Vec::new().into(), buffers: Vec::new() },
        };
        (first..first + count).map(|id| Batch::One(message(id))).collect::<Vec<_>>()
    };
    let mut pack = OutputBuffer::default();
    batches(0, 4).into_iter().flat_map(Batch::into_messages).for_each(|message| {
        pack.push_payload(0, None, message.payload);
    });
    let pack = Batch::new(MessageId(10), pack.take().remove(0));
    let more = ToWorker::Work(batches(30, 2));
    let outbox = Outbox::new(Router { sent: [more, ToWorker::Stop].into(), reports: Vec::new() });
    assert!(!outbox.look(), "nothing is at work");
    assert_eq!(outbox.sink(|router| router.sent.len()), 2, "what has come waits for the worker");
    outbox.open_batch([pack].into_iter().chain(batches(20, 1)).collect());
    let at_work = outbox.take().unwrap();
    assert_eq!(at_work.count(), 4);
    assert!(outbox.may_begin());
    let Ok(_) = outbox.done(&mut vec![MessageId(10)], None, &mut OutputBuffer::default(), &|| ());
    assert!(outbox.may_begin(), "the long call");
    assert!(outbox.look(), "a call has ended since the last look");
    assert!(!outbox.look());
    let reports = outbox.sink(|router| std::mem::take(&mut router.reports));
    let [FromWorker::Done { .. }, returned] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!(returned, &FromWorker::Returned { first: MessageId(12), count: 5 });
    assert!(!outbox.may_begin(), "it went back");
    assert!(outbox.take().is_none());
    assert_eq!(outbox.arrived(), Some(ToWorker::Stop));
}
