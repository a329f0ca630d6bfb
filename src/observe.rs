//! Where the events and the failed inputs of a run go.

use std::sync::mpsc;
use std::time::Duration;

use crate::event::{Event, Snapshot};
use crate::quarantine::{Keeper, Kept};
use crate::router::Casualty;

/// Time between progress events.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Carries what the router tells to the observers, and what failed to quarantine.
pub(crate) struct Outlet {
    observers: Vec<mpsc::Sender<Event>>,
    keeper: Keeper,
    next_progress: Duration,
}

impl Outlet {
    pub(crate) fn new(observers: Vec<mpsc::Sender<Event>>, keeper: Keeper) -> Self {
        Self { observers, keeper, next_progress: Duration::ZERO }
    }

    /// An observer that has gone is forgotten.
    pub(crate) fn tell(&mut self, event: Event) {
        self.observers.retain(|observer| observer.send(event.clone()).is_ok());
    }

    pub(crate) fn quarantine(&mut self, casualty: Casualty) {
        self.keeper.keep(casualty);
    }

    /// Tells where the run stands, if it is time to and somebody listens.
    pub(crate) fn progress(&mut self, now: Duration, snapshot: impl FnOnce() -> Snapshot) {
        if !self.observers.is_empty() && now >= self.next_progress {
            self.next_progress = now + PROGRESS_EVERY;
            self.tell(Event::Progress(snapshot()));
        }
    }

    /// The instant of the next progress event, if anybody listens.
    pub(crate) fn next_progress(&self) -> Option<Duration> {
        (!self.observers.is_empty()).then_some(self.next_progress)
    }

    /// Waits until every failed input is kept.
    pub(crate) fn finish(self) -> Kept {
        self.keeper.finish()
    }
}
