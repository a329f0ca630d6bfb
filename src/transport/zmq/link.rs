//! A worker's side of the connection.

use std::path::Path;

use super::{ENDPOINT, frames, identity, ipc};
use crate::base::ids::WorkerId;
use crate::protocol::lifeline::Lifeline;
use crate::protocol::wire::{FromWorker, Sharing, ToWorker};
use crate::transport::descriptors::make_room;
use crate::transport::{Frames, Link, LinkError};

/// How long an ending process waits until its messages have left it, in milliseconds; limited,
/// because the router may no longer receive.
const PROCESS_LINGER: i32 = 1000;

/// A worker's socket.
pub(crate) struct ZmqLink {
    socket: zmq::Socket,
    /// Present in a worker process.
    lifeline: Option<Lifeline>,
    /// Whether a next step runs in processes.
    shares: bool,
    _context: zmq::Context,
}

impl ZmqLink {
    pub(super) fn inproc(
        context: &zmq::Context,
        worker: WorkerId,
        shares: bool,
    ) -> Result<Self, LinkError> {
        Self::connect(context.clone(), ENDPOINT, worker, None, shares)
    }

    /// Connects a worker process to the router of the run whose private directory this is.
    ///
    /// # Errors
    /// If the router's socket cannot be reached.
    pub(crate) fn ipc(
        directory: &Path,
        worker: WorkerId,
        lifeline: Lifeline,
    ) -> Result<Self, LinkError> {
        make_room(0, 0)?;
        Self::connect(zmq::Context::new(), &ipc(directory), worker, Some(lifeline), false)
    }

    fn connect(
        context: zmq::Context,
        endpoint: &str,
        worker: WorkerId,
        lifeline: Option<Lifeline>,
        shares: bool,
    ) -> Result<Self, LinkError> {
        let socket = context.socket(zmq::DEALER)?;
        // The messages of a process must leave it before it ends.
        socket.set_linger(if lifeline.is_some() { PROCESS_LINGER } else { 0 })?;
        socket.set_sndhwm(0)?;
        socket.set_rcvhwm(0)?;
        socket.set_identity(&identity(worker))?;
        socket.connect(endpoint)?;
        Ok(Self { socket, lifeline, shares, _context: context })
    }
}

impl Link for ZmqLink {
    fn send(&mut self, message: FromWorker) -> Result<(), LinkError> {
        let sharing = match &self.lifeline {
            Some(lifeline) => Sharing::Over(lifeline),
            None if self.shares => Sharing::Ahead,
            None => Sharing::No,
        };
        Ok(frames::send(&mut self.socket, message.encode(sharing))?)
    }

    fn receive(&mut self) -> Result<ToWorker, LinkError> {
        let frames = frames::receive(&self.socket, 0)?.unwrap_or_default();
        self.decode(frames)
    }

    fn try_receive(&mut self) -> Result<Option<ToWorker>, LinkError> {
        let frames = frames::receive(&self.socket, zmq::DONTWAIT)?;
        frames.map(|frames| self.decode(frames)).transpose()
    }
}

impl ZmqLink {
    fn decode(&self, frames: Frames) -> Result<ToWorker, LinkError> {
        let mut frames = frames.into_iter();
        let head = frames.next().unwrap_or_default();
        Ok(ToWorker::decode(head, frames.collect(), self.lifeline.as_ref())?)
    }
}
