//! The connections of a run with its worker processes.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use super::connection::Connection;
use crate::base::ids::WorkerId;
use crate::transport::Frames;
use crate::transport::wakeable::timespec;

/// Whose event it is: those of connections follow.
const LISTENER: u64 = 0;
/// The most events that are taken at once.
const MOST_EVENTS: usize = 64;

/// The workers that are processes, as the router's loop sees them.
pub(crate) struct Processes {
    listener: UnixListener,
    /// Readable when one of the connections is, or somebody connects.
    epoll: OwnedFd,
    connections: HashMap<u64, Connection>,
    workers: HashMap<WorkerId, u64>,
    latest: u64,
    received: VecDeque<(WorkerId, Frames)>,
    events: Vec<Event>,
}

impl Processes {
    /// Listens at this path.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self {
            listener,
            epoll,
            connections: HashMap::new(),
            workers: HashMap::new(),
            latest: LISTENER,
            received: VecDeque::new(),
            events: Vec::with_capacity(MOST_EVENTS),
        })
    }

    /// Returns the next message that has arrived.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn recv(&mut self) -> io::Result<Option<(WorkerId, Frames)>> {
        if self.received.is_empty() {
            self.look()?;
        }
        Ok(self.received.pop_front())
    }

    /// Whether [`recv`](Self::recv) has something to return whatever the file says.
    pub(crate) fn has_received(&self) -> bool {
        !self.received.is_empty()
    }

    /// Sends a message, or gives it back if the worker is not connected.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn send(&mut self, to: WorkerId, message: Frames) -> io::Result<Option<Frames>> {
        let Some(key) = self.workers.get(&to).copied() else { return Ok(Some(message)) };
        let Some(connection) = self.connections.get_mut(&key) else { return Ok(Some(message)) };
        if connection.send(message) {
            let flags = EventFlags::IN | EventFlags::OUT;
            epoll::modify(&self.epoll, &*connection, EventData::new_u64(key), flags)?;
        }
        Ok(None)
    }

    /// Takes in what has happened on the connections; never blocks.
    fn look(&mut self) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let now = timespec(std::time::Duration::ZERO);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&now)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let (key, flags) = (event.data.u64(), event.flags);
            if key == LISTENER { self.accept()? } else { self.attend(key, flags)? }
        }
        self.events = events;
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        let socket = match self.listener.accept() {
            Ok((socket, _)) => OwnedFd::from(socket),
            // It has gone again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        };
        self.latest += 1;
        let mut connection = Connection::new(socket);
        // The greeting finds room.
        connection.flush();
        epoll::add(&self.epoll, &connection, EventData::new_u64(self.latest), EventFlags::IN)?;
        self.connections.insert(self.latest, connection);
        Ok(())
    }

    fn attend(&mut self, key: u64, flags: EventFlags) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&key) else { return Ok(()) };
        if flags.contains(EventFlags::OUT) && !connection.flush() {
            let flags = EventFlags::IN;
            epoll::modify(&self.epoll, &*connection, EventData::new_u64(key), flags)?;
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return Ok(());
        }
        let is_new = connection.worker.is_none();
        let received = &mut self.received;
        let mut is_closed =
            connection.read(|worker, frames| received.push_back((worker, frames))).is_err();
        if let (true, Some(worker)) = (is_new, connection.worker) {
            // A worker connects once: whoever comes later is somebody else.
            is_closed |= *self.workers.entry(worker).or_insert(key) != key;
        }
        if is_closed {
            self.close(key)?;
        }
        Ok(())
    }

    fn close(&mut self, key: u64) -> io::Result<()> {
        let Some(connection) = self.connections.remove(&key) else { return Ok(()) };
        if let Some(worker) =
            connection.worker.filter(|worker| self.workers.get(worker) == Some(&key))
        {
            self.workers.remove(&worker);
        }
        // A fork of the worker may hold the other end open.
        Ok(epoll::delete(&self.epoll, &connection)?)
    }
}

impl AsFd for Processes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
