//! The sockets of libzmq between the router's loop and worker threads: a ROUTER socket for the loop
//! and a DEALER socket for each worker. Nothing outside this folder names zmq.
//!
//! No socket has a high-water mark: the router's grants and batches are the limit. Linger is 0. One
//! thread at a time uses a socket. The ROUTER socket reports unknown peers instead of dropping
//! messages silently.

mod frames;
mod link;

use std::os::fd::BorrowedFd;

use super::{Delivery, Frames, LinkError, TransportError, identity};
use crate::base::ids::WorkerId;

pub(crate) use link::ZmqLink;

/// Within a run's own context, so that two runs never meet.
const ENDPOINT: &str = "inproc://router";

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
        ZmqLink::connect(&self.0, worker, shares)
    }

    /// Never terminates the context, which would wait for threads that still use it.
    pub(crate) fn leak(self) {
        std::mem::forget(self);
    }
}

/// The router's side.
pub(crate) struct Threads(zmq::Socket);

impl Threads {
    /// Opens the endpoint of worker threads.
    ///
    /// # Errors
    /// If it cannot be bound.
    pub(crate) fn bind(context: &ZmqContext) -> Result<Self, TransportError> {
        let socket = context.0.socket(zmq::ROUTER)?;
        socket.set_linger(0)?;
        socket.set_sndhwm(0)?;
        socket.set_rcvhwm(0)?;
        socket.set_router_mandatory(true)?;
        socket.bind(ENDPOINT)?;
        Ok(Self(socket))
    }

    pub(crate) fn recv(&mut self) -> Result<Option<(WorkerId, Frames)>, TransportError> {
        while let Some((identity, frames)) = frames::receive_from(&self.0)? {
            if let Some(worker) = identity::worker_of(&identity) {
                return Ok(Some((worker, frames)));
            }
        }
        Ok(None)
    }

    pub(crate) fn send(
        &mut self,
        to: WorkerId,
        frames: Frames,
    ) -> Result<Delivery, TransportError> {
        match frames::begin(&self.0, &identity::of(to)) {
            Ok(()) => {}
            Err(zmq::Error::EHOSTUNREACH) => return Ok(Delivery::Gone(frames)),
            Err(error) => return Err(error.into()),
        }
        frames::send(&mut self.0, frames)?;
        Ok(Delivery::Sent)
    }

    /// Returns the file to wait for, unless [`recv`](Self::recv) has something to return already.
    pub(crate) fn awaited(&self) -> Result<Option<BorrowedFd<'_>>, TransportError> {
        let events = frames::retry_interrupted(|| self.0.get_events())?;
        let is_readable = events.contains(zmq::POLLIN);
        Ok(if is_readable { None } else { Some(frames::file(&self.0)?) })
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
