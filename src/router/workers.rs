//! The workers of a run, and for each step a roster of its workers in the order in which they are
//! served, kept up to date so that no decision looks at all of them.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};

use super::worker::{State, Worker};
use crate::base::ids::{Slot, StepId, WorkerId};

/// The workers by their slots: first those of the plan, step by step, then those that
/// an operator has added.
pub(super) struct Workers {
    all: Vec<Worker>,
    rosters: Rosters,
    /// Grows with each use of a worker.
    uses: u64,
    /// An upper bound of the number of workers that are retiring.
    pub(super) retiring: usize,
}

impl Workers {
    pub(super) fn new(all: Vec<Worker>) -> Self {
        let rosters = Rosters::of(&all);
        Self { all, rosters, uses: 0, retiring: 0 }
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Notes that the worker is the most recently used.
    pub(super) fn used(&mut self, slot: Slot) {
        self.uses += 1;
        self[slot].last_used = self.uses;
    }

    pub(super) fn slots(&self) -> impl DoubleEndedIterator<Item = Slot> + Clone + use<> {
        (0..self.all.len()).map(Slot::at)
    }

    pub(super) fn add(&mut self, worker: Worker) -> Slot {
        let slot = Slot::at(self.all.len());
        self.all.push(worker);
        self.rosters.mark_changed(slot);
        slot
    }

    /// Brings the rosters up to date with what has changed of the workers.
    pub(super) fn update_rosters(&mut self) {
        self.rosters.update(&self.all);
    }

    /// The rosters as they should be.
    #[cfg(test)]
    pub(super) fn new_rosters(&self) -> Rosters {
        Rosters::of(&self.all)
    }

    /// The roster of a step, up to date since [`Workers::update_rosters`].
    pub(super) fn roster(&self, step: StepId) -> &Roster {
        self.rosters.of_step(step)
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Worker> {
        self.all.iter()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Worker> {
        self.all.get(slot.index())
    }

    /// The slot's present worker.
    pub(super) fn id(&self, slot: Slot) -> WorkerId {
        WorkerId { slot, epoch: self[slot].epoch }
    }
}

impl Index<Slot> for Workers {
    type Output = Worker;

    fn index(&self, slot: Slot) -> &Worker {
        &self.all[slot.index()]
    }
}

impl IndexMut<Slot> for Workers {
    fn index_mut(&mut self, slot: Slot) -> &mut Worker {
        // Whoever changes a worker need not think of the roster.
        self.rosters.mark_changed(slot);
        &mut self.all[slot.index()]
    }
}

/// The workers of one step by what can be done with them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Roster {
    /// Those that can take messages and have none, the least recently used first.
    pub(super) idle: BTreeSet<(u64, Slot)>,
    /// Those that can take messages and have some, the one with the fewest first, of several the
    /// least recently used.
    pub(super) busy: BTreeSet<(usize, u64, Slot)>,
    /// Those that can be started.
    pub(super) spare: BTreeSet<Slot>,
    /// The number of those that are starting.
    pub(super) starting: usize,
    /// The number of those that are ready, but must not be given anything for now.
    unavailable: usize,
}

impl Roster {
    /// The number of workers that are ready or starting.
    pub(super) fn present(&self) -> usize {
        self.idle.len() + self.busy.len() + self.unavailable + self.starting
    }

    fn enter(&mut self, slot: Slot, place: Place) {
        match place {
            Place::Idle { last_used } => drop(self.idle.insert((last_used, slot))),
            Place::Busy { in_hand, last_used } => {
                self.busy.insert((in_hand, last_used, slot));
            }
            Place::Spare => drop(self.spare.insert(slot)),
            Place::Starting => self.starting += 1,
            Place::Unavailable => self.unavailable += 1,
            Place::None => {}
        }
    }

    fn leave(&mut self, slot: Slot, place: Place) {
        match place {
            Place::Idle { last_used } => drop(self.idle.remove(&(last_used, slot))),
            Place::Busy { in_hand, last_used } => {
                self.busy.remove(&(in_hand, last_used, slot));
            }
            Place::Spare => drop(self.spare.remove(&slot)),
            Place::Starting => self.starting -= 1,
            Place::Unavailable => self.unavailable -= 1,
            Place::None => {}
        }
    }
}

/// Where a worker stands in its step's roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Idle { last_used: u64 },
    Busy { in_hand: usize, last_used: u64 },
    Spare,
    Starting,
    Unavailable,
    None,
}

impl Place {
    fn of(worker: &Worker) -> Self {
        let &Worker { state, last_used, in_hand_count: in_hand, .. } = worker;
        match state {
            State::Spare => Self::Spare,
            State::Starting => Self::Starting,
            State::Ready if !worker.can_take() => Self::Unavailable,
            State::Ready if in_hand == 0 => Self::Idle { last_used },
            State::Ready => Self::Busy { in_hand, last_used },
            State::Finishing | State::Gone => Self::None,
        }
    }
}

/// The rosters of all steps.
pub(super) struct Rosters {
    steps: Vec<Roster>,
    /// By slot: where the worker stands, and whether it has changed since.
    places: Vec<(Place, bool)>,
    changed: Vec<Slot>,
}

impl Rosters {
    pub(super) fn of(workers: &[Worker]) -> Self {
        let mut rosters = Self { steps: Vec::new(), places: Vec::new(), changed: Vec::new() };
        (0..workers.len()).for_each(|slot| rosters.mark_changed(Slot::at(slot)));
        rosters.update(workers);
        rosters
    }

    pub(super) fn mark_changed(&mut self, slot: Slot) {
        if slot.index() >= self.places.len() {
            self.places.resize(slot.index() + 1, (Place::None, false));
        }
        let (_, is_changed) = &mut self.places[slot.index()];
        if !std::mem::replace(is_changed, true) {
            self.changed.push(slot);
        }
    }

    pub(super) fn update(&mut self, workers: &[Worker]) {
        while let Some(slot) = self.changed.pop() {
            let worker = &workers[slot.index()];
            let step = worker.step.index();
            if step >= self.steps.len() {
                self.steps.resize_with(step + 1, Roster::default);
            }
            let (before, now) = (self.places[slot.index()].0, Place::of(worker));
            self.places[slot.index()] = (now, false);
            if before != now {
                self.steps[step].leave(slot, before);
                self.steps[step].enter(slot, now);
            }
        }
    }

    pub(super) fn of_step(&self, step: StepId) -> &Roster {
        debug_assert!(self.changed.is_empty(), "the rosters are not up to date");
        &self.steps[step.index()]
    }
}
