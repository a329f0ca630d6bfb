//! A worker thread's side of the connection.

use super::{ENDPOINT, frames};
use crate::base::ids::WorkerId;
use crate::protocol::wire::{FromWorker, Sharing, ToWorker};
use crate::transport::{Frames, Link, LinkError, identity};

/// A worker's socket.
pub(crate) struct ZmqLink {
    socket: zmq::Socket,
    /// Whether a next step runs in processes.
    shares: bool,
}

impl ZmqLink {
    pub(super) fn connect(
        context: &zmq::Context,
        worker: WorkerId,
        shares: bool,
    ) -> Result<Self, LinkError> {
        let socket = context.socket(zmq::DEALER)?;
        socket.set_linger(0)?;
        socket.set_sndhwm(0)?;
        socket.set_rcvhwm(0)?;
        socket.set_identity(&identity::of(worker))?;
        socket.connect(ENDPOINT)?;
        Ok(Self { socket, shares })
    }
}

impl Link for ZmqLink {
    fn send(&mut self, message: FromWorker) -> Result<(), LinkError> {
        let sharing = if self.shares { Sharing::Ahead } else { Sharing::No };
        Ok(frames::send(&mut self.socket, message.encode(sharing))?)
    }

    fn receive(&mut self) -> Result<ToWorker, LinkError> {
        let frames = frames::receive(&self.socket, 0)?.unwrap_or_default();
        decode(frames)
    }

    fn try_receive(&mut self) -> Result<Option<ToWorker>, LinkError> {
        let frames = frames::receive(&self.socket, zmq::DONTWAIT)?;
        frames.map(decode).transpose()
    }
}

fn decode(frames: Frames) -> Result<ToWorker, LinkError> {
    let mut frames = frames.into_iter();
    let head = frames.next().unwrap_or_default();
    Ok(ToWorker::decode(head, frames.collect(), None)?)
}
