//! Where the events, the failed inputs and the records of a run go.

use std::sync::mpsc;
use std::time::Duration;

use crate::event::{Event, Snapshot};
use crate::journal::{Closed, Journal};
use crate::quarantine::{Keeper, Kept};
use crate::router::{Casualty, Input, Record, Router, Verdict};

/// Time between progress events.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Carries what the router tells to the observers, and what failed to quarantine.
pub(crate) struct Outlet {
    observers: Vec<mpsc::Sender<Event>>,
    keeper: Keeper,
    journal: Option<Journal>,
    next_progress: Duration,
}

/// What is left when the run has ended.
pub(crate) struct Left {
    pub(crate) kept: Kept,
    pub(crate) journal: Closed,
}

impl Outlet {
    pub(crate) fn new(
        observers: Vec<mpsc::Sender<Event>>,
        keeper: Keeper,
        journal: Option<Journal>,
    ) -> Self {
        Self { observers, keeper, journal, next_progress: Duration::ZERO }
    }

    /// Whether there is a journal, so that the router has to tell of each item.
    pub(crate) fn has_journal(&self) -> bool {
        self.journal.is_some()
    }

    /// Takes out of a producer's report what the journal has as done.
    pub(crate) fn screen(&mut self, mut input: Input, router: &Router) -> Input {
        let Some(journal) = &mut self.journal else { return input };
        if let Input::Produced { worker, outputs, .. } | Input::Finished { worker, outputs, .. } =
            &mut input
            && router.is_producer(*worker)
        {
            let events = journal.screen(&router.step_name(*worker), outputs);
            events.into_iter().for_each(|event| self.tell(event));
        }
        input
    }

    pub(crate) fn record(&mut self, record: Record) {
        if let Some(journal) = &mut self.journal {
            journal.record(record);
        }
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

    /// Waits until every failed input is kept and every record is written.
    pub(crate) fn finish(self, verdict: &Verdict) -> Left {
        let kept = self.keeper.finish();
        let journal = self.journal.map(|journal| journal.finish(verdict.name()));
        Left { kept, journal: journal.unwrap_or_default() }
    }
}
