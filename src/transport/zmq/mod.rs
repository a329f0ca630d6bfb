//! The transport of a run: a ROUTER socket for the router's loop and a DEALER socket for each
//! worker. Nothing outside this folder names zmq.
//!
//! No socket has a high-water mark: the router's grants and batches are the limit. Linger is 0,
//! in a worker process one second. One thread at a time uses a socket. The ROUTER socket reports
//! unknown peers instead of dropping messages silently.

mod frames;
mod link;

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::Duration;

use super::wakeable::Wakeup;
use super::{Delivery, Frames, LinkError, Transport, TransportError};
use crate::base::ids::{Slot, WorkerId};

pub(crate) use link::ZmqLink;

/// Within a run's own context, so that two runs never meet.
const ENDPOINT: &str = "inproc://router";

/// The endpoint of worker processes, in a run's private directory.
pub(crate) fn ipc(directory: &Path) -> String {
    format!("ipc://{}/router", directory.display())
}

/// What the router's loop and the worker threads of one run share.
#[derive(Clone)]
pub(crate) struct ZmqContext(zmq::Context);

impl ZmqContext {
    pub(crate) fn new() -> Self {
        Self(zmq::Context::new())
    }

    /// Connects a worker thread. `shares` says whether a next step runs in processes.
    ///
    /// # Errors
    /// If the router's socket cannot be reached.
    pub(crate) fn link(&self, worker: WorkerId, shares: bool) -> Result<ZmqLink, LinkError> {
        ZmqLink::inproc(&self.0, worker, shares)
    }

    /// Never terminates the context, which would wait for threads that still use it.
    pub(crate) fn leak(self) {
        std::mem::forget(self);
    }
}

/// The router's side: its socket, and what wakes its owner.
pub(crate) struct ZmqTransport {
    socket: zmq::Socket,
    wakeup: Wakeup,
}

impl ZmqTransport {
    /// Opens the endpoint of worker threads and, in the run's `private` directory, that of
    /// worker processes. `wakeup` wakes the owner.
    ///
    /// # Errors
    /// If an endpoint cannot be bound.
    pub(crate) fn bind(
        context: &ZmqContext,
        private: Option<&Path>,
        wakeup: Wakeup,
    ) -> Result<Self, TransportError> {
        let socket = context.0.socket(zmq::ROUTER)?;
        socket.set_linger(0)?;
        socket.set_sndhwm(0)?;
        socket.set_rcvhwm(0)?;
        socket.set_router_mandatory(true)?;
        socket.bind(ENDPOINT)?;
        if let Some(directory) = private {
            socket.bind(&ipc(directory))?;
        }
        Ok(Self { socket, wakeup })
    }
}

impl Transport for ZmqTransport {
    fn recv(&mut self) -> Result<Option<(WorkerId, Frames)>, TransportError> {
        while let Some((identity, frames)) = frames::receive_from(&self.socket)? {
            if let Some(worker) = worker_of(&identity) {
                return Ok(Some((worker, frames)));
            }
        }
        Ok(None)
    }

    fn send(&mut self, to: WorkerId, frames: Frames) -> Result<Delivery, TransportError> {
        match frames::begin(&self.socket, &identity(to)) {
            Ok(()) => {}
            Err(zmq::Error::EHOSTUNREACH) => return Ok(Delivery::Gone(frames)),
            Err(error) => return Err(error.into()),
        }
        frames::send(&mut self.socket, frames)?;
        Ok(Delivery::Sent)
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), TransportError> {
        // Rounded up: a poll that ends early would only be repeated.
        let timeout = i64::try_from(timeout.as_millis()).map_or(-1, |time| time.saturating_add(1));
        let mut items = [
            self.socket.as_poll_item(zmq::POLLIN),
            zmq::PollItem::from_fd(self.wakeup.as_fd().as_raw_fd(), zmq::POLLIN),
        ];
        frames::retry_interrupted(|| zmq::poll(&mut items, timeout))?;
        if items[1].is_readable() {
            self.wakeup.clear();
        }
        Ok(())
    }
}

impl From<zmq::Error> for TransportError {
    fn from(error: zmq::Error) -> Self {
        Self(error.into())
    }
}

impl From<zmq::Error> for LinkError {
    fn from(error: zmq::Error) -> Self {
        match error {
            zmq::Error::ETERM => Self::Closed,
            error => Self::Failed(error.into()),
        }
    }
}

/// A worker's identity on the router's socket. libzmq reserves identities that begin with a
/// zero byte.
fn identity(worker: WorkerId) -> [u8; 9] {
    let mut bytes = [b'W', 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[1..5].copy_from_slice(&worker.slot.0.to_le_bytes());
    bytes[5..].copy_from_slice(&worker.epoch.to_le_bytes());
    bytes
}

/// The worker that an identity stands for.
fn worker_of(identity: &[u8]) -> Option<WorkerId> {
    let (first, rest) = identity.split_first()?;
    let (slot, epoch) = rest.split_at_checked(4)?;
    let slot = Slot(u32::from_le_bytes(slot.try_into().ok()?));
    let epoch = u32::from_le_bytes(epoch.try_into().ok()?);
    (*first == b'W').then_some(WorkerId { slot, epoch })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_tells_the_worker() {
        let worker = WorkerId { slot: Slot(70_000), epoch: 3 };
        assert_eq!(worker_of(&identity(worker)), Some(worker));
        for other in [&b"W"[..], b"X00001111", b"W0000111", b"", b"W000011112"] {
            assert_eq!(worker_of(other), None);
        }
    }
}
