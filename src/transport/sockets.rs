//! The transport of a run: libzmq for worker threads, ZMTP for worker processes.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::wakeable::{Wakeup, timespec};
use super::zmq::Threads;
use super::zmtp::Processes;
use super::{Delivery, Frames, Transport, TransportError};
use crate::base::ids::WorkerId;

/// The router's side of all connections.
pub(crate) struct Sockets {
    /// Present if the run has worker threads.
    pub(crate) threads: Option<Threads>,
    /// Present if the run has worker processes.
    pub(crate) processes: Option<Processes>,
    /// Wakes the owner.
    pub(crate) wakeup: Wakeup,
}

impl Transport for Sockets {
    fn recv(&mut self) -> Result<Option<(WorkerId, Frames)>, TransportError> {
        // What is read at once from processes is little, so threads have their turn.
        if let Some(processes) = &mut self.processes
            && let Some(received) = processes.recv()?
        {
            return Ok(Some(received));
        }
        self.threads.as_mut().map_or(Ok(None), Threads::recv)
    }

    fn send(&mut self, to: WorkerId, mut frames: Frames) -> Result<Delivery, TransportError> {
        if let Some(processes) = &mut self.processes {
            match processes.send(to, frames)? {
                None => return Ok(Delivery::Sent),
                Some(refused) => frames = refused,
            }
        }
        match &mut self.threads {
            Some(threads) => threads.send(to, frames),
            None => Ok(Delivery::Gone(frames)),
        }
    }

    fn wait(&mut self, timeout: Duration, patience: Duration) -> Result<(), TransportError> {
        if !patience.is_zero() {
            let end = Instant::now() + patience.min(timeout);
            while Instant::now() < end {
                if self.sleep(Duration::ZERO)? {
                    return Ok(());
                }
                // Whoever else waits for this core goes first.
                thread::yield_now();
            }
        }
        self.sleep(timeout).map(drop)
    }
}

impl Sockets {
    /// Sleeps until something has happened. Returns whether it has.
    fn sleep(&mut self, timeout: Duration) -> Result<bool, TransportError> {
        let mut files: Vec<PollFd<'_>> = vec![PollFd::new(&self.wakeup, PollFlags::IN)];
        if let Some(processes) = &self.processes {
            if processes.has_received() {
                return Ok(true);
            }
            files.push(PollFd::new(processes, PollFlags::IN));
        }
        if let Some(threads) = &self.threads {
            let Some(file) = threads.awaited()? else { return Ok(true) };
            files.push(PollFd::from_borrowed_fd(file, PollFlags::IN));
        }
        let found = match poll(&mut files, Some(&timespec(timeout))) {
            Ok(count) => count > 0,
            Err(Errno::INTR) => true,
            Err(error) => return Err(io::Error::from(error).into()),
        };
        if files[0].revents().contains(PollFlags::IN) {
            self.wakeup.clear();
        }
        Ok(found)
    }
}

impl From<io::Error> for TransportError {
    fn from(error: io::Error) -> Self {
        Self(error.into())
    }
}
