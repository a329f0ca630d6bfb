//! A worker's end of the connection to the hub.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::frames;
use crate::protocol::lifeline::Lifeline;
use crate::protocol::wire::{FromWorker, Sharing, ToWorker, VERSION, WireError};
use crate::transport::descriptors::make_room;
use crate::transport::zmq::{ENDPOINT, Inproc, ipc};

/// A process that ends waits this long until what it has sent has left it, in
/// milliseconds.
const PROCESS_LINGER: i32 = 1000;

/// Why a worker can no longer talk to the hub.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("the connection to the router failed: {0}")]
    Socket(#[from] zmq::Error),
    #[error("the connection to the router failed: {0}")]
    System(#[from] std::io::Error),
    #[error("the router sent a message that is not of the protocol: {0}")]
    Wire(#[from] WireError),
}

impl LinkError {
    /// Whether the hub has ended, which is no fault.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Socket(zmq::Error::ETERM))
    }
}

/// Which worker, and the how manieth in its place: what a dead one sent must
/// never be taken for its successor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) worker: usize,
    pub(crate) incarnation: u32,
}

/// A worker's identity on the hub's socket. libzmq reserves identities that
/// begin with a zero byte.
pub(crate) fn identity(place: Place) -> [u8; 9] {
    let mut bytes = [b'W', 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[1..5].copy_from_slice(&(place.worker as u32).to_le_bytes());
    bytes[5..].copy_from_slice(&place.incarnation.to_le_bytes());
    bytes
}

/// The place that an identity stands for.
pub(crate) fn place_of(identity: &[u8]) -> Option<Place> {
    let (first, rest) = identity.split_first()?;
    let (worker, incarnation) = rest.split_at_checked(4)?;
    let worker = u32::from_le_bytes(worker.try_into().ok()?) as usize;
    let incarnation = u32::from_le_bytes(incarnation.try_into().ok()?);
    (*first == b'W').then_some(Place { worker, incarnation })
}

/// A worker's socket. One thread at a time may use it.
pub(crate) struct Link {
    socket: zmq::Socket,
    /// Of a worker process.
    lifeline: Option<Lifeline>,
    /// Whether a next step runs in processes.
    shares: bool,
    _context: zmq::Context,
}

impl Link {
    /// The link of a thread. `shares` says whether a next step runs in processes.
    ///
    /// # Errors
    /// If the hub's endpoint cannot be reached.
    pub(crate) fn inproc(inproc: &Inproc, place: Place, shares: bool) -> Result<Self, LinkError> {
        Self::connect(inproc.0.clone(), ENDPOINT, place, None, shares)
    }

    /// The link of a process, to the hub of the run whose private directory this is.
    ///
    /// # Errors
    /// If the hub's endpoint cannot be reached.
    pub(crate) fn ipc(
        directory: &Path,
        place: Place,
        lifeline: Lifeline,
    ) -> Result<Self, LinkError> {
        make_room(0, 0)?;
        Self::connect(zmq::Context::new(), &ipc(directory), place, Some(lifeline), false)
    }

    fn connect(
        context: zmq::Context,
        endpoint: &str,
        place: Place,
        lifeline: Option<Lifeline>,
        shares: bool,
    ) -> Result<Self, LinkError> {
        let socket = context.socket(zmq::DEALER)?;
        // What a process has sent must leave it before it ends.
        socket.set_linger(if lifeline.is_some() { PROCESS_LINGER } else { 0 })?;
        socket.set_sndhwm(0)?;
        socket.set_rcvhwm(0)?;
        socket.set_identity(&identity(place))?;
        socket.connect(endpoint)?;
        Ok(Self { socket, lifeline, shares, _context: context })
    }

    /// The first message: the worker is ready.
    pub(crate) fn ready() -> FromWorker {
        FromWorker::Ready { version: VERSION }
    }

    pub(crate) fn send(&mut self, message: FromWorker) -> Result<(), LinkError> {
        let sharing = match &self.lifeline {
            Some(lifeline) => Sharing::Over(lifeline),
            None if self.shares => Sharing::Ahead,
            None => Sharing::No,
        };
        Ok(frames::send(&mut self.socket, None, message.encode(sharing))?)
    }

    /// Waits for the hub's next message.
    pub(crate) fn receive(&mut self) -> Result<ToWorker, LinkError> {
        let mut parts = frames::receive(&self.socket, 0)?.unwrap_or_default().into_iter();
        let head = parts.next().unwrap_or_default();
        Ok(ToWorker::decode(head, parts.collect(), self.lifeline.as_ref())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_tells_the_place() {
        let place = Place { worker: 70_000, incarnation: 3 };
        assert_eq!(place_of(&identity(place)), Some(place));
        for other in [&b"W"[..], b"X00001111", b"W0000111", b"", b"W000011112"] {
            assert_eq!(place_of(other), None);
        }
    }
}
