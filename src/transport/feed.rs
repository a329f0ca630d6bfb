//! The connection of a feed that is a part of this program. It is neither a socket nor a thread:
//! any thread of the program sends, and what the router says is heard on the router's thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::wakeable::Waker;
use super::{Delivery, Frames, LinkError, Transport, TransportError, ready};
use crate::base::ids::WorkerId;
use crate::protocol::wire::{FromWorker, Sharing, ToWorker};

/// Hears what the router says to the feed, on the router's thread: it must not block.
pub(crate) type Hear = Box<dyn FnMut(Result<ToWorker, LinkError>) + Send>;

/// The feed's side. Any thread may use it, and all of them together are one worker.
pub(crate) struct FeedLink {
    messages: Sender<Frames>,
    waker: Waker,
    /// Whether a next step runs in processes.
    shares: bool,
    /// Whether the router's loop will look for messages before it waits again.
    is_awake: Arc<AtomicBool>,
}

/// Makes the feed a worker of the run.
#[derive(Clone)]
pub(crate) struct FeedPlace(Arc<OnceLock<WorkerId>>);

/// The router's side.
pub(crate) struct FeedPort {
    messages: Receiver<Frames>,
    /// Taken from `messages` to see whether there is one.
    next: Option<Frames>,
    place: FeedPlace,
    has_said_ready: bool,
    is_awake: Arc<AtomicBool>,
    hear: Hear,
}

/// A transport with a feed of this program beside its other workers.
pub(crate) struct WithFeed<T> {
    others: T,
    port: Option<FeedPort>,
}

/// Connects a feed; `waker` wakes the router's loop, and `shares` says whether a next step runs in
/// processes.
pub(crate) fn link(waker: Waker, shares: bool) -> (FeedLink, impl FnOnce(Hear) -> FeedPort) {
    let (sender, messages) = mpsc::channel();
    let is_awake = Arc::new(AtomicBool::new(false));
    let link = FeedLink { messages: sender, waker, shares, is_awake: Arc::clone(&is_awake) };
    let (next, place) = (None, FeedPlace(Arc::default()));
    (link, |hear| FeedPort { messages, next, place, has_said_ready: false, is_awake, hear })
}

impl FeedLink {
    /// Sends a message; never blocks. Does nothing once the run is over.
    pub(crate) fn send(&self, message: FromWorker) {
        let sharing = if self.shares { Sharing::Ahead } else { Sharing::No };
        let is_heard = self.messages.send(message.encode(sharing)).is_ok();
        if is_heard && !self.is_awake.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }
}

impl FeedPlace {
    /// The feed is this worker from now on: what it has sent and will send comes from there.
    pub(crate) fn connect(&self, worker: WorkerId) {
        // A feed is connected once: nobody takes its place.
        let _ = self.0.set(worker);
    }

    fn worker(&self) -> Option<WorkerId> {
        self.0.get().copied()
    }
}

impl FeedPort {
    pub(crate) fn place(&self) -> FeedPlace {
        self.place.clone()
    }

    fn receive(&mut self) -> Option<(WorkerId, Frames)> {
        let worker = self.place.worker()?;
        if !std::mem::replace(&mut self.has_said_ready, true) {
            return Some((worker, ready().encode(Sharing::No)));
        }
        let frames = self.next.take().or_else(|| self.messages.try_recv().ok())?;
        Some((worker, frames))
    }

    /// Whether something is to be received. If not, the next message wakes the loop.
    fn has_message(&mut self) -> bool {
        // Read and written at once, so that a message is seen whose sender has found it awake.
        self.is_awake.swap(false, Ordering::AcqRel);
        if self.next.is_none() {
            self.next = self.messages.try_recv().ok();
        }
        let is_connected = self.place.worker().is_some();
        is_connected && (self.next.is_some() || !self.has_said_ready)
    }

    fn say(&mut self, frames: Frames) {
        let mut frames = frames.into_iter();
        let head = frames.next().unwrap_or_default();
        let message = ToWorker::decode(head, frames.collect(), None);
        (self.hear)(message.map_err(LinkError::from));
    }
}

impl<T> WithFeed<T> {
    pub(crate) fn new(others: T, port: Option<FeedPort>) -> Self {
        Self { others, port }
    }
}

impl<T: Transport> Transport for WithFeed<T> {
    fn recv(&mut self) -> Result<Option<(WorkerId, Frames)>, TransportError> {
        match self.port.as_mut().and_then(FeedPort::receive) {
            Some(received) => Ok(Some(received)),
            None => self.others.recv(),
        }
    }

    fn send(&mut self, to: WorkerId, frames: Frames) -> Result<Delivery, TransportError> {
        match &mut self.port {
            Some(port) if port.place.worker() == Some(to) => {
                port.say(frames);
                Ok(Delivery::Sent)
            }
            _ => self.others.send(to, frames),
        }
    }

    fn wait(&mut self, timeout: Duration, patience: Duration) -> Result<(), TransportError> {
        let has_message = self.port.as_mut().is_some_and(FeedPort::has_message);
        self.others.wait(if has_message { Duration::ZERO } else { timeout }, patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::Slot;
    use crate::transport::wakeable::{self, Wakeup};

    /// Longer than any test runs: a wait that nobody ends makes its test fail.
    const FOREVER: Duration = Duration::from_secs(600);
    const FEED: WorkerId = WorkerId { slot: Slot(0), epoch: 1 };

    /// Nobody else.
    struct Alone(Wakeup);

    impl Transport for Alone {
        fn recv(&mut self) -> Result<Option<(WorkerId, Frames)>, TransportError> {
            Ok(None)
        }

        fn send(&mut self, _: WorkerId, frames: Frames) -> Result<Delivery, TransportError> {
            Ok(Delivery::Gone(frames))
        }

        fn wait(&mut self, timeout: Duration, _: Duration) -> Result<(), TransportError> {
            self.0.wait(timeout);
            Ok(())
        }
    }

    fn connected(hear: Hear) -> (FeedLink, FeedPlace, WithFeed<Alone>) {
        let wakeup = wakeable::queue::<()>().unwrap().1.wakeup;
        let (link, port) = link(wakeup.waker(), false);
        let port = port(hear);
        (link, port.place(), WithFeed::new(Alone(wakeup), Some(port)))
    }

    fn received(transport: &mut WithFeed<Alone>) -> Option<FromWorker> {
        let (worker, frames) = transport.recv().unwrap()?;
        assert_eq!(worker, FEED);
        let mut frames = frames.into_iter();
        Some(FromWorker::decode(frames.next().unwrap(), frames.collect(), None).unwrap())
    }

    #[test]
    fn it_is_ready_first_and_then_says_what_it_has_said_before() {
        let (link, place, mut transport) = connected(Box::new(|_| ()));
        link.send(FromWorker::Released { bytes: 3 });
        assert!(received(&mut transport).is_none(), "it is not connected");
        transport.wait(Duration::ZERO, Duration::ZERO).unwrap();
        place.connect(FEED);
        transport.wait(FOREVER, Duration::ZERO).unwrap();
        assert_eq!(received(&mut transport), Some(ready()));
        assert_eq!(received(&mut transport), Some(FromWorker::Released { bytes: 3 }));
        assert_eq!(received(&mut transport), None);
    }

    #[test]
    fn each_message_wakes_the_router_whenever_it_comes() {
        const MESSAGES: u64 = 100_000;
        let (link, place, mut transport) = connected(Box::new(|_| ()));
        place.connect(FEED);
        let thread = std::thread::spawn(move || {
            (1..=MESSAGES).for_each(|bytes| link.send(FromWorker::Released { bytes }));
            link
        });
        let mut latest = 0;
        while latest < MESSAGES {
            match received(&mut transport) {
                Some(FromWorker::Released { bytes }) => {
                    assert_eq!(bytes, latest + 1);
                    latest = bytes;
                }
                Some(other) => assert_eq!(other, ready()),
                None => transport.wait(FOREVER, Duration::ZERO).unwrap(),
            }
        }
        drop(thread.join().unwrap());
    }

    #[test]
    fn it_hears_what_is_said_to_it_and_nobody_else_does() {
        let (tell, told) = mpsc::channel();
        let hear = Box::new(move |message: Result<_, _>| tell.send(message.unwrap()).unwrap());
        let (_link, place, mut transport) = connected(hear);
        let said = || ToWorker::NotCancelled { number: 7 }.encode(Sharing::No);
        assert_ne!(transport.send(FEED, said()).unwrap(), Delivery::Sent);
        place.connect(FEED);
        assert_eq!(transport.send(FEED, said()).unwrap(), Delivery::Sent);
        let other = WorkerId { slot: Slot(1), epoch: 1 };
        assert_ne!(transport.send(other, said()).unwrap(), Delivery::Sent);
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [ToWorker::NotCancelled { number: 7 }]);
    }
}
