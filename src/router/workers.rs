//! The workers of a run, and for each step a roster of its workers in the order in which they are
//! served, kept up to date so that no decision looks at all of them.

use std::collections::{BTreeSet, VecDeque};
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

    /// The number of workers that have messages in hand.
    pub(super) fn at_work(&self) -> usize {
        self.rosters.at_work
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
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut Worker {
        // Whoever changes a worker need not think of the roster.
        self.rosters.mark_changed(slot);
        &mut self.all[slot.index()]
    }
}

/// The workers of one step, sorted by availability.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Roster {
    /// The workers that can take messages, in the order in which the router serves them.
    ready: VecDeque<Turn>,
    /// The number of idle ones among them, which come first.
    idle: usize,
    /// The workers that the router may start.
    pub(super) spare: BTreeSet<Slot>,
    /// The number of workers that are starting.
    pub(super) starting: usize,
    /// The number of workers that are ready and cannot take messages for now.
    unavailable: usize,
}

/// The turn of a worker: the one with the fewest messages in hand is served first, and of several
/// the least recently used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    pub(super) in_hand: usize,
    pub(super) last_used: u64,
    pub(super) slot: Slot,
}

impl Roster {
    /// The number of workers that are ready or starting.
    pub(super) fn present(&self) -> usize {
        self.ready.len() + self.unavailable + self.starting
    }

    /// The worker whose turn it is, and the number of workers that share what waits: those that are
    /// idle, or all if none is.
    pub(super) fn first(&self) -> Option<(Turn, usize)> {
        let sharers = if self.idle > 0 { self.idle } else { self.ready.len() };
        self.ready.front().map(|turn| (*turn, sharers))
    }

    fn change(&mut self, slot: Slot, before: Place, now: Place) {
        if let (Place::Ready(_), Place::Ready(turn), 1) = (before, now, self.ready.len()) {
            // One alone needs no sorting.
            self.ready[0] = turn;
            self.idle = usize::from(turn.in_hand == 0);
        } else {
            self.leave(slot, before);
            self.enter(slot, now);
        }
    }

    fn enter(&mut self, slot: Slot, place: Place) {
        match place {
            Place::Ready(turn) => {
                self.idle += usize::from(turn.in_hand == 0);
                let at = self.ready.partition_point(|other| *other < turn);
                self.ready.insert(at, turn);
            }
            Place::Spare => drop(self.spare.insert(slot)),
            Place::Starting => self.starting += 1,
            Place::Unavailable { .. } => self.unavailable += 1,
            Place::None => {}
        }
    }

    fn leave(&mut self, slot: Slot, place: Place) {
        match place {
            Place::Ready(turn) => {
                self.idle -= usize::from(turn.in_hand == 0);
                let at = self.ready.partition_point(|other| *other < turn);
                self.ready.remove(at);
            }
            Place::Spare => drop(self.spare.remove(&slot)),
            Place::Starting => self.starting -= 1,
            Place::Unavailable { .. } => self.unavailable -= 1,
            Place::None => {}
        }
    }
}

/// Where a worker stands in its step's roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Ready(Turn),
    Spare,
    Starting,
    Unavailable { at_work: bool },
    None,
}

impl Place {
    fn of(slot: Slot, worker: &Worker) -> Self {
        let &Worker { state, last_used, in_hand_count: in_hand, .. } = worker;
        match state {
            State::Spare => Self::Spare,
            State::Starting => Self::Starting,
            State::Ready if !worker.can_take() => Self::Unavailable { at_work: in_hand > 0 },
            State::Ready => Self::Ready(Turn { in_hand, last_used, slot }),
            State::Finishing | State::Gone => Self::None,
        }
    }

    fn is_at_work(self) -> bool {
        match self {
            Self::Ready(turn) => turn.in_hand > 0,
            Self::Unavailable { at_work } => at_work,
            Self::Spare | Self::Starting | Self::None => false,
        }
    }
}

/// The rosters of all steps.
pub(super) struct Rosters {
    steps: Vec<Roster>,
    /// By slot: where the worker stands.
    places: Vec<Place>,
    /// The workers that may stand elsewhere by now.
    changed: Vec<Slot>,
    /// By slot: whether `changed` has the worker.
    is_changed: Vec<bool>,
    /// The number of workers that have messages in hand.
    at_work: usize,
}

impl Rosters {
    pub(super) fn of(workers: &[Worker]) -> Self {
        let mut rosters = Self {
            steps: Vec::new(),
            places: Vec::new(),
            changed: Vec::new(),
            is_changed: Vec::new(),
            at_work: 0,
        };
        (0..workers.len()).for_each(|slot| rosters.mark_changed(Slot::at(slot)));
        rosters.update(workers);
        rosters
    }

    #[inline]
    pub(super) fn mark_changed(&mut self, slot: Slot) {
        match self.is_changed.get_mut(slot.index()) {
            Some(true) => {}
            Some(is_changed) => {
                *is_changed = true;
                self.changed.push(slot);
            }
            None => {
                self.is_changed.resize(slot.index() + 1, false);
                self.places.resize(slot.index() + 1, Place::None);
                self.mark_changed(slot);
            }
        }
    }

    pub(super) fn update(&mut self, workers: &[Worker]) {
        while let Some(slot) = self.changed.pop() {
            let worker = &workers[slot.index()];
            let step = worker.step.index();
            if step >= self.steps.len() {
                self.steps.resize_with(step + 1, Roster::default);
            }
            self.is_changed[slot.index()] = false;
            let now = Place::of(slot, worker);
            let before = std::mem::replace(&mut self.places[slot.index()], now);
            if before != now {
                self.at_work += usize::from(now.is_at_work());
                self.at_work -= usize::from(before.is_at_work());
                self.steps[step].change(slot, before, now);
            }
        }
    }

    pub(super) fn of_step(&self, step: StepId) -> &Roster {
        debug_assert!(self.changed.is_empty(), "the rosters are not up to date");
        &self.steps[step.index()]
    }
}
