//! Workers behind a transport, on threads or in processes.

use std::io;
use std::time::Duration;

use super::{Driver, Run};
use crate::protocol::lifeline::Lifeline;
use crate::protocol::wire::{FromWorker, Sharing, ToWorker};
use crate::router::{Action, Input};
use crate::transport::descriptors::{OF_A_PROCESS, OF_A_START, make_room};
use crate::transport::{Delivery, Place, Transport, TransportError};

/// The most messages taken in before the router decides again, so that a flood of reports does
/// not keep idle workers waiting.
const MOST_AT_ONCE: usize = 256;

/// The driver of a run whose workers are behind a transport.
///
/// `S` starts the worker in a place, given its step and its number in the step. It returns the
/// program's end of the lifeline of a process. A worker that cannot be started is reported as
/// lost.
pub(crate) struct Hub<T, S> {
    transport: T,
    start: S,
    workers: Vec<WorkerSlot>,
}

/// Who holds a worker's place.
#[derive(Default)]
struct WorkerSlot {
    incarnation: u32,
    /// Present if it is a worker process.
    lifeline: Option<Lifeline>,
}

impl<T, S> Hub<T, S>
where
    T: Transport,
    S: FnMut(Place, (usize, usize)) -> Option<Lifeline>,
{
    pub(crate) fn new(transport: T, start: S) -> Self {
        Self { transport, start, workers: Vec::new() }
    }

    /// The transport, which must stay open until the workers have ended.
    pub(crate) fn into_transport(self) -> T {
        self.transport
    }

    fn holds(&self, place: Place) -> bool {
        self.workers.get(place.worker).is_some_and(|slot| slot.incarnation == place.incarnation)
    }

    fn spawn(&mut self, worker: usize, run: &Run) {
        if worker >= self.workers.len() {
            self.workers.resize_with(worker + 1, WorkerSlot::default);
        }
        let slot = &mut self.workers[worker];
        slot.incarnation += 1;
        let place = Place { worker, incarnation: slot.incarnation };
        slot.lifeline = (self.start)(place, run.router.place_of(worker));
    }

    fn send(&mut self, worker: usize, message: ToWorker) -> Result<(), TransportError> {
        let WorkerSlot { incarnation, lifeline } = &self.workers[worker];
        let place = Place { worker, incarnation: *incarnation };
        let sharing = lifeline.as_ref().map_or(Sharing::No, Sharing::Over);
        match self.transport.send(place, message.encode(sharing))? {
            // The router still has what a lost worker had in hand: its end is reported apart.
            Delivery::Sent | Delivery::Gone(_) => Ok(()),
        }
    }
}

impl<T, S> Driver for Hub<T, S>
where
    T: Transport,
    S: FnMut(Place, (usize, usize)) -> Option<Lifeline>,
{
    type Error = TransportError;

    fn receive(&mut self, run: &mut Run) -> Result<(), TransportError> {
        for _ in 0..MOST_AT_ONCE {
            let Some((place, frames)) = self.transport.recv()? else { break };
            let mut frames = frames.into_iter();
            let head = frames.next();
            let (true, Some(head)) = (self.holds(place), head) else { continue };
            let worker = place.worker;
            let lifeline = self.workers[worker].lifeline.as_ref();
            match FromWorker::decode(head, frames.collect(), lifeline) {
                Ok(report) => run.report(worker, report),
                Err(error) => run.handle(Input::Broken { worker, reason: error.to_string() }),
            }
        }
        Ok(())
    }

    fn act(&mut self, action: Action, run: &mut Run) -> Result<(), TransportError> {
        match action {
            Action::Grant { worker, count } => self.send(worker, ToWorker::Grant { count }),
            Action::Work { worker, batches } => self.send(worker, ToWorker::Work(batches)),
            Action::Finish { worker } => self.send(worker, ToWorker::Finish),
            Action::Stop { worker } => self.send(worker, ToWorker::Stop),
            Action::Spawn { worker } => {
                self.spawn(worker, run);
                Ok(())
            }
            // These concern no worker.
            Action::Quarantine(_) | Action::Tell(_) | Action::Record(_) | Action::Spans(_) => {
                Ok(())
            }
        }
    }

    fn wait(&mut self, timeout: Duration, _: &mut Run) -> Result<(), TransportError> {
        self.transport.wait(timeout)
    }

    fn retire(&mut self, place: Place) -> bool {
        let holds = self.holds(place);
        if holds {
            self.workers[place.worker].incarnation += 1;
        }
        holds
    }

    fn make_room(&self, workers: usize) -> io::Result<()> {
        make_room(workers * OF_A_PROCESS + OF_A_START, workers)
    }
}
