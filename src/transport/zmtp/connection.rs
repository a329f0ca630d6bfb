//! The router's side of the connection with one worker process.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::{Buf, Bytes};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, send};

use super::frames::{GREETING, Inbox, Whole, identity_of, pieces, ready};
use crate::base::ids::WorkerId;
use crate::transport::{Frames, identity};

/// A connection that is open. Nothing here waits.
pub(super) struct Connection {
    socket: OwnedFd,
    inbox: Inbox,
    /// The worker, once it has said who it is.
    pub(super) worker: Option<WorkerId>,
    /// What the worker's socket has had no room for.
    outbox: VecDeque<Bytes>,
}

/// The other side has gone, or does not speak the protocol. It has sent all that it will.
#[derive(Debug)]
pub(super) struct Closed;

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> Self {
        let greeting = [&GREETING[..], &ready(b"ROUTER", b"")].concat().into();
        let (inbox, outbox) = (Inbox::default(), VecDeque::from([greeting]));
        Self { socket, inbox, worker: None, outbox }
    }

    /// Reads what has come, once, and calls `take` with each message that is whole.
    pub(super) fn read(&mut self, mut take: impl FnMut(WorkerId, Frames)) -> Result<(), Closed> {
        match self.inbox.read(&self.socket, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => return Ok(()),
            Ok(0) | Err(_) => return Err(Closed),
            Ok(_) => {}
        }
        while let Some(whole) = self.inbox.take().map_err(|_| Closed)? {
            match (whole, self.worker) {
                (Whole::Message(frames), Some(worker)) => take(worker, frames),
                (Whole::Message(_), None) => return Err(Closed),
                (Whole::Command(command), None) => {
                    let identity = identity_of(&command).ok_or(Closed)?;
                    self.worker = Some(identity::worker_of(identity).ok_or(Closed)?);
                }
                // Signs of life and the like.
                (Whole::Command(_), Some(_)) => {}
            }
        }
        Ok(())
    }

    /// Sends a message. Returns whether something waits for room.
    pub(super) fn send(&mut self, message: Frames) -> bool {
        self.outbox.extend(pieces(message));
        self.flush()
    }

    /// Sends what waits for room. Returns whether something still does.
    pub(super) fn flush(&mut self) -> bool {
        while let Some(piece) = self.outbox.front_mut() {
            match send(&self.socket, piece, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => piece.advance(count),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return true,
                // What it has sent before may still be there to be read.
                Err(_) => self.outbox.clear(),
            }
            if self.outbox.front().is_some_and(Bytes::is_empty) {
                self.outbox.pop_front();
            }
        }
        false
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
