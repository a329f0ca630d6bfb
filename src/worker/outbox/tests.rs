use std::sync::Arc;
use std::sync::mpsc;

use super::*;
use crate::message::{Message, Payload, Priority};
use crate::worker::reporter::Look;

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
    let Ok(()) = outbox.called(&mut emitted(2), Duration::from_micros(5));
    let Ok(()) = outbox.called(&mut emitted(1), Duration::from_micros(9));
    assert_eq!(outbox.look(), Look::New, "the call may be a short one");
    assert_eq!(reports(&outbox), []);
    assert_eq!(outbox.look(), Look::Idle);
    let reported = reports(&outbox);
    let [FromWorker::Produced { production, outputs }] = &reported[..] else {
        panic!("{reported:?}")
    };
    let busy = Duration::from_micros(9);
    assert_eq!(*production, Production { result: None, calls: 2, busy });
    assert_eq!(outputs.iter().map(crate::message::batch::Output::count).sum::<usize>(), 3);
    assert_eq!(outbox.look(), Look::Idle);
    assert_eq!(reports(&outbox), [], "nothing is reported twice");
    let Ok(()) = outbox.produced(Ok(Next::More), &mut emitted(1), Duration::from_secs(6));
    let reported = reports(&outbox);
    let [FromWorker::Produced { production, .. }] = &reported[..] else { panic!("{reported:?}") };
    assert_eq!((production.calls, &production.result), (1, &Some(Ok(Next::More))));
    assert_eq!(production.busy, Duration::from_secs(6) - busy);
}

#[test]
fn many_results_are_reported_before_all_are_there() {
    let outbox = Outbox::new(Vec::new());
    outbox.open(true);
    let busy = Duration::from_micros(1);
    for _ in 1..REPORT_RESULTS {
        let Ok(()) = outbox.called(&mut emitted(1), busy);
    }
    assert_eq!(reports(&outbox), []);
    let Ok(()) = outbox.called(&mut emitted(1), busy);
    let reported = reports(&outbox);
    let [FromWorker::Produced { production, .. }] = &reported[..] else { panic!("{reported:?}") };
    assert_eq!((production.calls as usize, &production.result), (REPORT_RESULTS, &None));

    // A step at the end emits nothing.
    let results = REPORT_RESULTS as u64;
    outbox.open_batch(vec![pack(1, 2 * results)]);
    outbox.take();
    let mut done: Vec<MessageId> = (1..results).map(MessageId).collect();
    let Ok(_) = outbox.done(&mut done, None, &mut OutputBuffer::default(), &|| ());
    assert_eq!(reports(&outbox), []);
    done.push(MessageId(results));
    let Ok(_) = outbox.done(&mut done, None, &mut OutputBuffer::default(), &|| ());
    let reported = reports(&outbox);
    let [FromWorker::Done { completions, .. }] = &reported[..] else { panic!("{reported:?}") };
    assert_eq!(completions.iter().map(|c| c.count as usize).sum::<usize>(), REPORT_RESULTS);
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
    outbox.called(&mut emitted(1), Duration::from_secs(6)).unwrap();
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

    fn arrived(&mut self) -> std::result::Result<Option<ToWorker>, Self::Error> {
        Ok(self.sent.pop_front())
    }
}

/// Messages with successive numbers, each alone.
fn messages(first: u64, count: u64) -> Vec<Batch> {
    let message = |id| Message {
        id: MessageId(id),
        attempt: 0,
        priority: Priority::Normal,
        item: 0,
        origin: None,
        payload: Payload { header: Vec::new().into(), buffers: Vec::new() },
    };
    (first..first + count).map(|id| Batch::One(message(id))).collect()
}

fn pack(first: u64, count: u64) -> Batch {
    let mut pack = OutputBuffer::default();
    for message in messages(first, count).into_iter().flat_map(Batch::into_messages) {
        pack.push_payload(0, None, message.payload);
    }
    Batch::new(MessageId(first), pack.take().remove(0))
}

fn outbox_of(sent: impl Into<VecDeque<ToWorker>>) -> Outbox<Router> {
    Outbox::new(Router { sent: sent.into(), reports: Vec::new() })
}

fn has_returned(outbox: &Outbox<Router>) -> Vec<FromWorker> {
    let reports = outbox.sink(|router| std::mem::take(&mut router.reports));
    reports.into_iter().filter(|report| matches!(report, FromWorker::Returned { .. })).collect()
}

#[test]
fn what_waits_behind_a_long_call_goes_back_and_is_not_begun() {
    let outbox = outbox_of([ToWorker::Work(messages(30, 2)), ToWorker::Stop]);
    assert_eq!(outbox.look(), Look::Idle, "nothing is at work");
    assert_eq!(outbox.sink(|router| router.sent.len()), 2, "what has come waits for the worker");
    outbox.open_batch([pack(10, 4)].into_iter().chain(messages(20, 1)).collect());
    assert_eq!(outbox.take().unwrap().count(), 4);
    assert!(outbox.may_begin());
    let Ok(_) = outbox.done(&mut vec![MessageId(10)], None, &mut OutputBuffer::default(), &|| ());
    assert!(outbox.may_begin(), "the long call");
    assert_eq!(outbox.look(), Look::New, "a call has ended since the last look");
    assert_eq!(outbox.look(), Look::AtWork);
    let returned = FromWorker::Returned { first: MessageId(12), count: 5 };
    assert_eq!(has_returned(&outbox), [returned]);
    assert!(!outbox.may_begin(), "it went back");
    assert!(outbox.take().is_none());
    assert_eq!(outbox.arrived(), Ok(Some(ToWorker::Stop)));
}

#[test]
fn nothing_goes_back_between_two_calls() {
    let outbox = outbox_of([ToWorker::Work(messages(30, 2))]);
    outbox.open_batch([pack(10, 2)].into_iter().chain(messages(20, 1)).collect());
    let looks = || {
        outbox.look();
        outbox.look();
        has_returned(&outbox)
    };
    outbox.take().unwrap();
    assert_eq!(looks(), [], "no call has begun");
    for id in [10, 11] {
        assert!(outbox.may_begin());
        let mut done = vec![MessageId(id)];
        let Ok(_) = outbox.done(&mut done, None, &mut OutputBuffer::default(), &|| ());
        assert_eq!(looks(), [], "the call has ended");
    }
    outbox.take().unwrap();
    assert!(outbox.may_begin());
    assert_eq!(looks(), [FromWorker::Returned { first: MessageId(30), count: 2 }]);
}

#[test]
fn what_cannot_be_received_during_a_long_call_ends_the_worker_after_it() {
    struct Broken;
    impl ReportSink for Broken {
        type Error = &'static str;

        fn send(&mut self, _: FromWorker) -> std::result::Result<(), Self::Error> {
            Ok(())
        }

        fn arrived(&mut self) -> std::result::Result<Option<ToWorker>, Self::Error> {
            Err("no descriptor is left")
        }
    }
    let outbox = Outbox::new(Broken);
    outbox.open_batch(messages(1, 1));
    outbox.take().unwrap();
    assert!(outbox.may_begin());
    outbox.look();
    assert_eq!(outbox.arrived(), Err("no descriptor is left"));
}
