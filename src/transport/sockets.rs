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
    threads: Option<Threads>,
    processes: Option<Processes>,
    wakeup: Wakeup,
    threads_first: bool,
}

impl Transport for Sockets {
    fn recv(&mut self) -> Result<Option<(WorkerId, Frames)>, TransportError> {
        // In turn, so that neither waits for the other to fall silent.
        self.threads_first = !self.threads_first;
        if self.threads_first {
            let received = self.hear_threads()?;
            if received.is_some() { Ok(received) } else { self.hear_processes() }
        } else {
            let received = self.hear_processes()?;
            if received.is_some() { Ok(received) } else { self.hear_threads() }
        }
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
    /// Creates the transport of a run that has worker threads, processes, or both. `wakeup` wakes
    /// the owner.
    pub(crate) fn new(
        threads: Option<Threads>,
        processes: Option<Processes>,
        wakeup: Wakeup,
    ) -> Self {
        Self { threads, processes, wakeup, threads_first: false }
    }

    fn hear_threads(&mut self) -> Result<Option<(WorkerId, Frames)>, TransportError> {
        self.threads.as_mut().map_or(Ok(None), Threads::recv)
    }

    fn hear_processes(&mut self) -> Result<Option<(WorkerId, Frames)>, TransportError> {
        Ok(self.processes.as_mut().map_or(Ok(None), Processes::recv)?)
    }

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
