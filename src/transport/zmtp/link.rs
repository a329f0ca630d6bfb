//! A worker process's side of the connection.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, send};

use super::endpoint;
use super::frames::{GREETING, Inbox, Whole, pieces, ready};
use crate::base::ids::WorkerId;
use crate::protocol::lifeline::Lifeline;
use crate::protocol::wire::{FromWorker, Sharing, ToWorker};
use crate::transport::{Frames, Link, LinkError, identity};

/// How long a worker outlives its router: the thread that watches the lifeline ends it, and
/// removes the run's directory before that.
const LAST: Duration = Duration::from_secs(1);

/// The connection of a worker process with the router of its run.
pub(crate) struct ZmtpLink {
    socket: OwnedFd,
    inbox: Inbox,
    lifeline: Lifeline,
}

impl ZmtpLink {
    /// Connects with the router of the run whose private directory this is.
    ///
    /// # Errors
    /// If the router cannot be reached.
    pub(crate) fn connect(
        directory: &Path,
        worker: WorkerId,
        lifeline: Lifeline,
    ) -> Result<Self, LinkError> {
        let socket = UnixStream::connect(endpoint(directory))?.into();
        let mut link = Self { socket, inbox: Inbox::default(), lifeline };
        link.write(&[&GREETING[..], &ready(b"DEALER", &identity::of(worker))].concat())?;
        link.await_ready()?;
        Ok(link)
    }

    /// Waits for the end of the handshake: no message may come before it.
    fn await_ready(&mut self) -> Result<(), LinkError> {
        loop {
            match self.inbox.take().map_err(io::Error::other)? {
                Some(Whole::Command(_)) => return Ok(()),
                Some(Whole::Message(_)) => {
                    return Err(io::Error::other("a message came before the handshake").into());
                }
                None if self
                    .inbox
                    .read(&self.socket, RecvFlags::empty())
                    .map_err(io::Error::from)?
                    == 0 =>
                {
                    return Err(LinkError::Closed);
                }
                None => {}
            }
        }
    }

    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn next(&mut self, flags: RecvFlags) -> Result<Option<Frames>, LinkError> {
        loop {
            match self.inbox.take().map_err(io::Error::other)? {
                Some(Whole::Message(frames)) => return Ok(Some(frames)),
                Some(Whole::Command(_)) => continue,
                None => {}
            }
            match self.inbox.read(&self.socket, flags) {
                Err(Errno::AGAIN) => return Ok(None),
                Ok(0) | Err(Errno::CONNRESET) => {
                    std::thread::sleep(LAST);
                    return Err(LinkError::Closed);
                }
                Err(error) => return Err(io::Error::from(error).into()),
                Ok(_) => {}
            }
        }
    }

    fn decode(&self, frames: Frames) -> Result<ToWorker, LinkError> {
        let mut frames = frames.into_iter();
        let head = frames.next().unwrap_or_default();
        Ok(ToWorker::decode(head, frames.collect(), Some(&self.lifeline))?)
    }
}

impl Link for ZmtpLink {
    fn send(&mut self, message: FromWorker) -> Result<(), LinkError> {
        for piece in pieces(message.encode(Sharing::Over(&self.lifeline))) {
            self.write(&piece)?;
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<ToWorker, LinkError> {
        let frames = self.next(RecvFlags::empty())?.unwrap_or_default();
        self.decode(frames)
    }

    fn try_receive(&mut self) -> Result<Option<ToWorker>, LinkError> {
        let frames = self.next(RecvFlags::DONTWAIT)?;
        frames.map(|frames| self.decode(frames)).transpose()
    }
}
