//! A transport of channels within one process: the driver's tests use it instead of sockets.

use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::wakeable::{Waker, Wakeup};
use super::{Delivery, Frames, Link, LinkError, Transport, TransportError};
use crate::base::ids::WorkerId;
use crate::base::lock::lock;
use crate::protocol::wire::{FromWorker, Sharing, ToWorker};

type Workers = Arc<Mutex<HashMap<WorkerId, Sender<Frames>>>>;

/// The router's side.
pub(crate) struct Local {
    received: Receiver<(WorkerId, Frames)>,
    /// Taken from `received` by a wait.
    next: Option<(WorkerId, Frames)>,
    workers: Workers,
    wakeup: Wakeup,
}

/// Connects workers, from any thread.
#[derive(Clone)]
pub(crate) struct Connector {
    sender: Sender<(WorkerId, Frames)>,
    workers: Workers,
    waker: Waker,
}

/// A worker's side.
pub(crate) struct LocalLink {
    worker: WorkerId,
    received: Receiver<Frames>,
    connector: Connector,
}

impl Local {
    /// Creates a transport whose owner `wakeup` wakes.
    pub(crate) fn new(wakeup: Wakeup) -> (Self, Connector) {
        let (sender, received) = mpsc::channel();
        let workers = Workers::default();
        let connector = Connector { sender, workers: Arc::clone(&workers), waker: wakeup.waker() };
        (Self { received, next: None, workers, wakeup }, connector)
    }
}

impl Transport for Local {
    fn recv(&mut self) -> Result<Option<(WorkerId, Frames)>, TransportError> {
        Ok(self.next.take().or_else(|| self.received.try_recv().ok()))
    }

    fn send(&mut self, to: WorkerId, frames: Frames) -> Result<Delivery, TransportError> {
        Ok(match lock(&self.workers).get(&to) {
            None => Delivery::Gone(frames),
            Some(worker) => match worker.send(frames) {
                Ok(()) => Delivery::Sent,
                Err(mpsc::SendError(frames)) => Delivery::Gone(frames),
            },
        })
    }

    fn wait(&mut self, timeout: Duration, _: Duration) -> Result<(), TransportError> {
        self.next = self.recv()?;
        self.wakeup.wait(if self.next.is_some() { Duration::ZERO } else { timeout });
        Ok(())
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        lock(&self.workers).clear();
    }
}

impl Connector {
    /// The link of this worker.
    pub(crate) fn link(&self, worker: WorkerId) -> LocalLink {
        let (sender, received) = mpsc::channel();
        lock(&self.workers).insert(worker, sender);
        LocalLink { worker, received, connector: self.clone() }
    }
}

impl Link for LocalLink {
    fn send(&mut self, message: FromWorker) -> Result<(), LinkError> {
        let Connector { sender, waker, .. } = &self.connector;
        sender.send((self.worker, message.encode(Sharing::No))).map_err(|_| LinkError::Closed)?;
        waker.wake();
        Ok(())
    }

    fn receive(&mut self) -> Result<ToWorker, LinkError> {
        decode(self.received.recv().map_err(|_| LinkError::Closed)?)
    }

    fn try_receive(&mut self) -> Result<Option<ToWorker>, LinkError> {
        match self.received.try_recv() {
            Ok(frames) => decode(frames).map(Some),
            Err(mpsc::TryRecvError::Empty) => Ok(None),
            Err(mpsc::TryRecvError::Disconnected) => Err(LinkError::Closed),
        }
    }
}

fn decode(frames: Frames) -> Result<ToWorker, LinkError> {
    let mut frames = frames.into_iter();
    let head = frames.next().unwrap_or_default();
    Ok(ToWorker::decode(head, frames.collect(), None)?)
}

impl Drop for LocalLink {
    fn drop(&mut self) {
        lock(&self.connector.workers).remove(&self.worker);
    }
}
