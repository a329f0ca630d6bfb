//! A worker's end of the connection to the hub.

use std::fmt;

use super::wire::{FromWorker, ToWorker, VERSION, WireError};
use super::{ENDPOINT, Inproc, frames};

/// Why a worker can no longer talk to the hub.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("the connection to the router failed: {0}")]
    Socket(#[from] zmq::Error),
    #[error("the router sent a message that is not of the protocol: {0}")]
    Wire(#[from] WireError),
}

impl LinkError {
    /// Whether the hub has ended, which is no fault.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Socket(zmq::Error::ETERM))
    }
}

/// A worker's identity on the hub's socket. libzmq reserves identities that
/// begin with a zero byte.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity([u8; 5]);

impl Identity {
    pub(super) fn of(worker: usize) -> Self {
        let mut bytes = [b'W', 0, 0, 0, 0];
        bytes[1..].copy_from_slice(&(worker as u32).to_le_bytes());
        Self(bytes)
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<usize> {
        let (first, rest) = bytes.split_first()?;
        let number: [u8; 4] = rest.try_into().ok()?;
        (*first == b'W').then(|| u32::from_le_bytes(number) as usize)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {:?}", Self::parse(&self.0))
    }
}

/// A worker's socket. It stays on the thread that made it.
pub(crate) struct Link {
    socket: zmq::Socket,
}

impl Link {
    /// # Errors
    /// If the hub's endpoint cannot be reached.
    pub(crate) fn connect(inproc: &Inproc, worker: usize) -> Result<Self, LinkError> {
        let socket = inproc.0.socket(zmq::DEALER)?;
        socket.set_linger(0)?;
        socket.set_sndhwm(0)?;
        socket.set_rcvhwm(0)?;
        socket.set_identity(Identity::of(worker).as_bytes())?;
        socket.connect(ENDPOINT)?;
        Ok(Self { socket })
    }

    /// The first message: the worker is ready.
    pub(crate) fn ready() -> FromWorker {
        FromWorker::Ready { version: VERSION }
    }

    pub(crate) fn send(&mut self, message: FromWorker) -> Result<(), LinkError> {
        Ok(frames::send(&mut self.socket, None, message.encode())?)
    }

    /// Waits for the hub's next message.
    pub(crate) fn receive(&mut self) -> Result<ToWorker, LinkError> {
        let mut parts = frames::receive(&self.socket, 0)?.unwrap_or_default().into_iter();
        let head = parts.next().unwrap_or_default();
        Ok(ToWorker::decode(head, parts.collect())?)
    }
}
