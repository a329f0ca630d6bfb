//! The contract of a transport, tried with each implementation.

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::local::Local;
use super::sockets::Sockets;
use super::wakeable::{Waker, queue};
use super::zmq::{Threads, ZmqContext};
use super::zmtp::{Processes, ZmtpLink, endpoint};
use super::*;
use crate::base::failure::Failure;
use crate::base::ids::Slot;
use crate::protocol::lifeline::Lifeline;

/// Longer than any test runs: a wait that nobody ends makes its test fail.
const FOREVER: Duration = Duration::from_secs(600);

const WORKER: WorkerId = WorkerId { slot: Slot(70_000), epoch: 3 };

/// Runs the test with each transport, its waker, and a function that connects a worker.
macro_rules! with_each_transport {
    ($test:ident) => {{
        let wakeup = queue::<()>().unwrap().1.wakeup;
        let waker = wakeup.waker();
        let (transport, connector) = Local::new(wakeup);
        $test(transport, waker, &|worker| connector.link(worker));
        let wakeup = queue::<()>().unwrap().1.wakeup;
        let waker = wakeup.waker();
        let context = ZmqContext::new();
        let threads = Some(Threads::bind(&context).unwrap());
        let transport = Sockets { threads, processes: None, wakeup };
        $test(transport, waker, &|worker| context.link(worker, false).unwrap());
        let wakeup = queue::<()>().unwrap().1.wakeup;
        let waker = wakeup.waker();
        let directory = tempfile::tempdir().unwrap();
        let processes = Some(Processes::bind(&endpoint(directory.path())).unwrap());
        let transport = Sockets { threads: None, processes, wakeup };
        $test(transport, waker, &|worker| {
            let (lifeline, _) = Lifeline::pair().unwrap();
            ZmtpLink::connect(directory.path(), worker, lifeline).unwrap()
        });
    }};
}

fn await_message(transport: &mut impl Transport) -> (WorkerId, Frames) {
    loop {
        if let Some(message) = transport.recv().unwrap() {
            return message;
        }
        transport.wait(FOREVER).unwrap();
    }
}

fn failed(text: &str) -> FromWorker {
    FromWorker::InitFailed(Failure::permanent(text.to_owned()))
}

#[track_caller]
fn assert_is(frames: Frames, expected: &FromWorker) {
    let mut frames = frames.into_iter();
    let head = frames.next().unwrap();
    assert_eq!(FromWorker::decode(head, frames.collect(), None).as_ref(), Ok(expected));
}

#[test]
fn messages_arrive_in_order_with_their_sender() {
    fn test<T: Transport, L: Link>(mut transport: T, _: Waker, link: &dyn Fn(WorkerId) -> L) {
        assert_eq!(transport.recv().unwrap(), None);
        let mut link = link(WORKER);
        let messages = [ready(), failed(&"x".repeat(1 << 20)), failed("")];
        for message in messages {
            link.send(message).unwrap();
        }
        for message in [ready(), failed(&"x".repeat(1 << 20)), failed("")] {
            let (from, frames) = await_message(&mut transport);
            assert_eq!(from, WORKER);
            assert_is(frames, &message);
        }
        assert_eq!(transport.recv().unwrap(), None);
    }
    with_each_transport!(test);
}

#[test]
fn what_is_sent_arrives_in_order() {
    fn test<T: Transport, L: Link>(mut transport: T, _: Waker, link: &dyn Fn(WorkerId) -> L) {
        let mut link = link(WORKER);
        link.send(ready()).unwrap();
        await_message(&mut transport);
        for count in 0..3 {
            let frames = ToWorker::Grant { count }.encode(crate::protocol::wire::Sharing::No);
            assert_eq!(transport.send(WORKER, frames).unwrap(), Delivery::Sent);
        }
        for count in 0..3 {
            assert_eq!(link.receive().unwrap(), ToWorker::Grant { count });
        }
    }
    with_each_transport!(test);
}

#[test]
fn a_refused_message_is_given_back() {
    fn test<T: Transport, L: Link>(mut transport: T, _: Waker, link: &dyn Fn(WorkerId) -> L) {
        let mut link = link(WORKER);
        link.send(ready()).unwrap();
        await_message(&mut transport);
        let frames = vec![Bytes::from_static(b"head"), Bytes::from(vec![7; 1 << 20])];
        let successor = WorkerId { epoch: WORKER.epoch + 1, ..WORKER };
        let refused = transport.send(successor, frames.clone()).unwrap();
        assert_eq!(refused, Delivery::Gone(frames));
    }
    with_each_transport!(test);
}

#[test]
fn a_wait_ends_by_a_wake_from_any_thread_before_it_or_during_it() {
    fn test<T: Transport, L: Link>(mut transport: T, waker: Waker, _: &dyn Fn(WorkerId) -> L) {
        waker.wake();
        transport.wait(FOREVER).unwrap();
        let thread = thread::spawn(move || waker.wake());
        transport.wait(FOREVER).unwrap();
        thread.join().unwrap();
    }
    with_each_transport!(test);
}

#[test]
fn a_wait_ends_at_once_while_there_are_messages() {
    fn test<T: Transport, L: Link>(mut transport: T, _: Waker, link: &dyn Fn(WorkerId) -> L) {
        let mut link = link(WORKER);
        link.send(ready()).unwrap();
        link.send(ready()).unwrap();
        await_message(&mut transport);
        transport.wait(FOREVER).unwrap();
        transport.wait(FOREVER).unwrap();
        await_message(&mut transport);
    }
    with_each_transport!(test);
}

#[test]
fn a_wait_lasts_no_longer_than_its_timeout() {
    fn test<T: Transport, L: Link>(mut transport: T, _: Waker, _: &dyn Fn(WorkerId) -> L) {
        let (start, timeout) = (Instant::now(), Duration::from_millis(3));
        while start.elapsed() < timeout {
            transport.wait(timeout).unwrap();
        }
    }
    with_each_transport!(test);
}
