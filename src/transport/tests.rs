//! The contract of a transport, tried with each implementation.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
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

/// No patience.
const NONE: Duration = Duration::ZERO;

const WORKER: WorkerId = WorkerId { slot: Slot(70_000), epoch: 3 };

/// Runs the test with each transport, its waker, and a function that connects a worker.
macro_rules! with_each_transport {
    ($test:ident) => {{
        let wakeup = queue::<()>().unwrap().1.wakeup;
        let waker = wakeup.waker();
        let (transport, connector) = Local::new(wakeup);
        $test(transport, waker, &|_, worker| connector.link(worker));
        let wakeup = queue::<()>().unwrap().1.wakeup;
        let waker = wakeup.waker();
        let context = ZmqContext::new();
        let threads = Some(Threads::bind(&context).unwrap());
        let transport = Sockets::new(threads, None, wakeup);
        $test(transport, waker, &|_, worker| context.link(worker, false).unwrap());
        let wakeup = queue::<()>().unwrap().1.wakeup;
        let waker = wakeup.waker();
        let directory = tempfile::tempdir().unwrap();
        let processes = Some(Processes::bind(&endpoint(directory.path())).unwrap());
        let transport = Sockets::new(None, processes, wakeup);
        $test(transport, waker, &|transport, worker| connect(transport, directory.path(), worker));
    }};
}

/// Connects a worker process while the router's loop greets it.
fn connect(transport: &mut Sockets, directory: &Path, worker: WorkerId) -> ZmtpLink {
    let directory = directory.to_owned();
    let link = thread::spawn(move || {
        let (lifeline, _) = Lifeline::pair().unwrap();
        ZmtpLink::connect(&directory, worker, lifeline).unwrap()
    });
    while !link.is_finished() {
        transport.wait(Duration::from_millis(1), NONE).unwrap();
        assert_eq!(transport.recv().unwrap(), None);
    }
    link.join().unwrap()
}

fn await_message(transport: &mut impl Transport) -> (WorkerId, Frames) {
    loop {
        if let Some(message) = transport.recv().unwrap() {
            return message;
        }
        transport.wait(FOREVER, NONE).unwrap();
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
    fn test<T: Transport, L: Link + Send + 'static>(
        mut transport: T,
        _: Waker,
        link: &dyn Fn(&mut T, WorkerId) -> L,
    ) {
        assert_eq!(transport.recv().unwrap(), None);
        let mut link = link(&mut transport, WORKER);
        let thread = thread::spawn(move || {
            for message in [ready(), failed(&"x".repeat(1 << 20)), failed("")] {
                link.send(message).unwrap();
            }
            link
        });
        for message in [ready(), failed(&"x".repeat(1 << 20)), failed("")] {
            let (from, frames) = await_message(&mut transport);
            assert_eq!(from, WORKER);
            assert_is(frames, &message);
        }
        assert_eq!(transport.recv().unwrap(), None);
        thread.join().unwrap();
    }
    with_each_transport!(test);
}

#[test]
fn what_is_sent_arrives_in_order() {
    fn test<T: Transport, L: Link>(
        mut transport: T,
        _: Waker,
        link: &dyn Fn(&mut T, WorkerId) -> L,
    ) {
        let mut link = link(&mut transport, WORKER);
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
    fn test<T: Transport, L: Link>(
        mut transport: T,
        _: Waker,
        link: &dyn Fn(&mut T, WorkerId) -> L,
    ) {
        let mut link = link(&mut transport, WORKER);
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
    fn test<T: Transport, L: Link>(
        mut transport: T,
        waker: Waker,
        _: &dyn Fn(&mut T, WorkerId) -> L,
    ) {
        waker.wake();
        transport.wait(FOREVER, NONE).unwrap();
        let thread = thread::spawn(move || waker.wake());
        transport.wait(FOREVER, NONE).unwrap();
        thread.join().unwrap();
    }
    with_each_transport!(test);
}

#[test]
fn a_wait_ends_at_once_while_there_are_messages() {
    fn test<T: Transport, L: Link>(
        mut transport: T,
        _: Waker,
        link: &dyn Fn(&mut T, WorkerId) -> L,
    ) {
        let mut link = link(&mut transport, WORKER);
        link.send(ready()).unwrap();
        link.send(ready()).unwrap();
        await_message(&mut transport);
        transport.wait(FOREVER, NONE).unwrap();
        transport.wait(FOREVER, NONE).unwrap();
        await_message(&mut transport);
    }
    with_each_transport!(test);
}

#[test]
fn a_wait_lasts_no_longer_than_its_timeout() {
    fn test<T: Transport, L: Link>(mut transport: T, _: Waker, _: &dyn Fn(&mut T, WorkerId) -> L) {
        let (start, timeout) = (Instant::now(), Duration::from_millis(3));
        while start.elapsed() < timeout {
            transport.wait(timeout, NONE).unwrap();
        }
    }
    with_each_transport!(test);
}

#[test]
fn a_worker_process_may_use_libzmq() {
    let directory = tempfile::tempdir().unwrap();
    let path = endpoint(directory.path());
    let processes = Some(Processes::bind(&path).unwrap());
    let wakeup = queue::<()>().unwrap().1.wakeup;
    let mut transport = Sockets::new(None, processes, wakeup);
    let worker = ::zmq::Context::new().socket(::zmq::DEALER).unwrap();
    worker.set_identity(&identity::of(WORKER)).unwrap();
    worker.connect(&format!("ipc://{}", path.display())).unwrap();
    let frames: Frames = [0, 255, 256, 1 << 20].map(|size| Bytes::from(vec![1; size])).into();
    worker.send_multipart(frames.iter().map(|frame| frame.to_vec()), 0).unwrap();
    let (from, heard) = await_message(&mut transport);
    assert_eq!((from, &heard), (WORKER, &frames));
    assert_eq!(transport.send(WORKER, heard).unwrap(), Delivery::Sent);
    let told = thread::spawn(move || worker.recv_multipart(0).unwrap());
    while !told.is_finished() {
        // What has no room in the socket goes on from here.
        transport.wait(Duration::from_millis(1), NONE).unwrap();
        assert_eq!(transport.recv().unwrap(), None);
    }
    assert_eq!(told.join().unwrap(), frames.iter().map(|frame| frame.to_vec()).collect::<Vec<_>>());
}

#[test]
fn a_worker_that_has_gone_is_not_there_once_all_that_it_sent_was_received() {
    let directory = tempfile::tempdir().unwrap();
    let processes = Some(Processes::bind(&endpoint(directory.path())).unwrap());
    let wakeup = queue::<()>().unwrap().1.wakeup;
    let mut transport = Sockets::new(None, processes, wakeup);
    let mut link = connect(&mut transport, directory.path(), WORKER);
    let thread = thread::spawn(move || {
        for _ in 0..100 {
            link.send(ready()).unwrap();
        }
    });
    for _ in 0..100 {
        assert_eq!(await_message(&mut transport).0, WORKER);
    }
    thread.join().unwrap();
    let frames = || vec![Bytes::from_static(b"x")];
    while transport.send(WORKER, frames()).unwrap() == Delivery::Sent {
        transport.wait(FOREVER, NONE).unwrap();
        assert_eq!(transport.recv().unwrap(), None);
    }
    assert_eq!(transport.send(WORKER, frames()).unwrap(), Delivery::Gone(frames()));
}

#[test]
fn what_is_no_worker_costs_the_others_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = endpoint(directory.path());
    let processes = Some(Processes::bind(&path).unwrap());
    let wakeup = queue::<()>().unwrap().1.wakeup;
    let mut transport = Sockets::new(None, processes, wakeup);
    let mut link = connect(&mut transport, directory.path(), WORKER);
    let mut greeting = [0; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xFF, 0x7F, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    let identity = identity::of(WORKER);
    let again = [&greeting[..], b"\x04\x1c\x05READY\x08Identity\0\0\0\x09", &identity].concat();
    let said: [&[u8]; 6] = [
        b"",
        &[b'G'; 100],
        &[&greeting[..], b"\0\x01x"].concat(),
        &[&greeting[..], b"\x04\x07\x05ERROR\0"].concat(),
        &[&greeting[..], b"\x02", &[0x10, 0, 0, 0, 0, 0, 0, 0]].concat(),
        &again,
    ];
    for bytes in said {
        let mut peer = UnixStream::connect(&path).unwrap();
        peer.write_all(bytes).unwrap();
        drop(peer);
        link.send(ready()).unwrap();
        assert_eq!(await_message(&mut transport).0, WORKER);
        let frames = ToWorker::Stop.encode(crate::protocol::wire::Sharing::No);
        assert_eq!(transport.send(WORKER, frames).unwrap(), Delivery::Sent);
        assert_eq!(link.receive().unwrap(), ToWorker::Stop);
    }
}

#[test]
fn a_worker_that_does_not_read_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = endpoint(directory.path());
    let processes = Some(Processes::bind(&path).unwrap());
    let wakeup = queue::<()>().unwrap().1.wakeup;
    let mut transport = Sockets::new(None, processes, wakeup);
    let other = WorkerId { slot: Slot(1), epoch: 1 };
    let mut link = connect(&mut transport, directory.path(), other);
    let worker = ::zmq::Context::new().socket(::zmq::DEALER).unwrap();
    worker.set_identity(&identity::of(WORKER)).unwrap();
    worker.connect(&format!("ipc://{}", path.display())).unwrap();
    worker.send("", 0).unwrap();
    assert_eq!(await_message(&mut transport).0, WORKER);
    let frames = |number: u8| vec![Bytes::from(vec![number; 1 << 20])];
    for number in 0..100 {
        assert_eq!(transport.send(WORKER, frames(number)).unwrap(), Delivery::Sent);
        link.send(ready()).unwrap();
        assert_eq!(await_message(&mut transport).0, other);
    }
    let told = thread::spawn(move || {
        (0..100).map(|_| worker.recv_multipart(0).unwrap()).collect::<Vec<_>>()
    });
    while !told.is_finished() {
        transport.wait(Duration::from_millis(1), NONE).unwrap();
        assert_eq!(transport.recv().unwrap(), None);
    }
    assert!(
        told.join().unwrap().into_iter().eq((0..100).map(|number| vec![vec![number; 1 << 20]]))
    );
}

#[test]
fn threads_and_processes_are_heard_in_turn() {
    let wakeup = queue::<()>().unwrap().1.wakeup;
    let (context, directory) = (ZmqContext::new(), tempfile::tempdir().unwrap());
    let threads = Some(Threads::bind(&context).unwrap());
    let processes = Some(Processes::bind(&endpoint(directory.path())).unwrap());
    let mut transport = Sockets::new(threads, processes, wakeup);
    let other = WorkerId { slot: Slot(1), epoch: 1 };
    let mut thread = context.link(WORKER, false).unwrap();
    let mut process = connect(&mut transport, directory.path(), other);
    for _ in 0..10 {
        thread.send(ready()).unwrap();
        process.send(ready()).unwrap();
    }
    let heard: Vec<WorkerId> = (0..10).map(|_| await_message(&mut transport).0).collect();
    assert_eq!(heard.iter().filter(|worker| **worker == other).count(), 5, "{heard:?}");
}
