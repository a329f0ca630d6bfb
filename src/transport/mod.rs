//! Carries messages between the router's loop and the workers.
//!
//! [`Transport`] is the loop's side and [`Link`] a worker's. `sockets` is the transport of a run:
//! `zmq/` connects its threads and `zmtp/` its processes. `feed` connects a feed that is a part of
//! this program; `local` connects threads over channels, for tests.

pub(crate) mod descriptors;
pub(crate) mod feed;
mod identity;
#[cfg(test)]
pub(crate) mod local;
pub(crate) mod sockets;
pub(crate) mod wakeable;
pub(crate) mod zmq;
pub(crate) mod zmtp;

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;

use crate::base::ids::WorkerId;
use crate::protocol::wire::{FromWorker, ToWorker, VERSION, WireError};

/// One message of the protocol: the head frame, then those that it refers to.
pub(crate) type Frames = Vec<Bytes>;

/// The router's side of the connections to all workers of a run.
///
/// One thread owns it and makes every call. Workers connect and disconnect at any time, without an
/// event of their own: their first message shows that they are there, and their supervisor or their
/// thread reports that they are gone.
///
/// - Messages of one worker arrive in the order in which it sent them, each exactly once, also
///   those that it sent just before it died. Messages of different workers have no order.
/// - Messages to one worker arrive in the order of the calls of [`send`](Self::send). There is
///   no limit on those that wait: the router's grants and batches are the limit.
/// - An error is final: the transport can no longer be used.
pub(crate) trait Transport {
    /// Returns the next message that has arrived and its sender; never blocks. A sender that
    /// is not of this run's form is skipped; one of an earlier epoch is the caller's to reject.
    ///
    /// # Errors
    /// If the transport has failed.
    fn recv(&mut self) -> Result<Option<(WorkerId, Frames)>, TransportError>;

    /// Hands a message over for the worker; never blocks. [`Delivery::Sent`] means that it is on
    /// its way, not that it has arrived.
    ///
    /// # Errors
    /// If the transport has failed. A worker that is not there is no error.
    fn send(&mut self, to: WorkerId, frames: Frames) -> Result<Delivery, TransportError>;

    /// Waits until [`recv`](Self::recv) has something to return, until somebody calls
    /// [`Waker::wake`](wakeable::Waker::wake) on the waker that belongs to this transport, from
    /// any thread, or until `timeout` has passed. A wake before the call ends it at once. It may
    /// also end early for no reason. For the time of `patience` it looks again and again before it
    /// sleeps, which is quicker and uses a processor.
    ///
    /// # Errors
    /// If the transport has failed.
    fn wait(&mut self, timeout: Duration, patience: Duration) -> Result<(), TransportError>;
}

/// The result of sending a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It is on its way.
    Sent,
    /// The worker is not there, or not yet; nothing was sent, and these are the frames.
    Gone(Frames),
}

/// Why a transport cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the router's socket failed: {0}")]
pub(crate) struct TransportError(#[source] pub(crate) Box<dyn Error + Send + Sync>);

/// A worker's side of a connection. One thread at a time uses it.
pub(crate) trait Link {
    /// Sends a message. It may wait until the router reads, which waits for no worker.
    ///
    /// # Errors
    /// If the connection has failed.
    fn send(&mut self, message: FromWorker) -> Result<(), LinkError>;

    /// Waits for the router's next message.
    ///
    /// # Errors
    /// If the connection has ended or failed, or the message is not of the protocol.
    fn receive(&mut self) -> Result<ToWorker, LinkError>;

    /// Returns the router's next message if it has arrived; never blocks.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    fn try_receive(&mut self) -> Result<Option<ToWorker>, LinkError>;
}

/// The first message of every worker.
pub(crate) fn ready() -> FromWorker {
    FromWorker::Ready { version: VERSION }
}

/// Why a worker can no longer talk to the router.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The router's side has closed the connection, which is no fault.
    #[error("the router has closed the connection")]
    Closed,
    #[error("the connection to the router failed: {0}")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
    #[error("the connection to the router failed: {0}")]
    System(#[from] io::Error),
    #[error("the router sent a message that breaks the protocol: {0}")]
    Wire(#[from] WireError),
}

#[cfg(test)]
mod tests;
