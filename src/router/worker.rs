//! The workers of a run as the router sees them.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};
use std::time::Duration;

use crate::base::ids::{Slot, StepId, WorkerId};
use crate::message::batch::Batch;

/// The workers by their slots: first those of the plan, step by step, then those that
/// an operator has added.
pub(super) struct Workers {
    all: Vec<Worker>,
    /// Grows with each use of a worker.
    uses: u64,
    /// An upper bound of the number of workers that are retiring.
    pub(super) retiring: usize,
}

impl Workers {
    pub(super) fn new(all: Vec<Worker>) -> Self {
        Self { all, uses: 0, retiring: 0 }
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
        self.all.push(worker);
        Slot::at(self.all.len() - 1)
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
        &mut self.all[slot.index()]
    }
}

/// One worker, or the place of one.
pub(super) struct Worker {
    pub(super) step: StepId,
    /// Grows whenever a worker leaves this slot.
    pub(super) epoch: u32,
    /// Its number within the step.
    pub(super) number: usize,
    pub(super) state: State,
    /// What it has in hand, the oldest first.
    pub(super) in_hand: VecDeque<Batch>,
    /// How many messages that is.
    pub(super) in_hand_count: usize,
    /// What it has emitted and no queue has admitted yet, in order.
    pub(super) held: VecDeque<Held>,
    /// Grows with each use: the smallest is the least recently used.
    pub(super) last_used: u64,
    /// When it was given what it has in hand, or last reported on it, or was ready.
    pub(super) since: Duration,
    pub(super) producer: ProducerState,
    /// The number of a producer's failed calls in a row.
    pub(super) consecutive_failures: u32,
    /// The time that it has spent in the stage.
    pub(super) busy: Duration,
    /// Whether it leaves once it has nothing in hand.
    pub(super) retiring: bool,
    /// The number of messages of which it has kept something for its `finish`.
    pub(super) kept: u64,
    /// When its replacement starts, while that is due later.
    pub(super) respawn_at: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// May be started when there is more to do.
    Spare,
    Starting,
    Ready,
    /// Its stage is finishing.
    Finishing,
    /// Asked to stop, dead, or never able to start.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProducerState {
    /// May be granted from this instant on.
    Idle(Duration),
    /// Using a grant.
    Granted,
    /// Has said that there is no more.
    Exhausted,
}

pub(super) struct Held {
    pub(super) to: StepId,
    pub(super) feedback: bool,
    pub(super) batch: Batch,
}

impl Worker {
    pub(super) fn new(step: StepId, number: usize, state: State) -> Self {
        Self {
            step,
            epoch: 1,
            number,
            state,
            in_hand: VecDeque::new(),
            in_hand_count: 0,
            held: VecDeque::new(),
            last_used: 0,
            since: Duration::ZERO,
            producer: ProducerState::Idle(Duration::ZERO),
            respawn_at: None,
            consecutive_failures: 0,
            kept: 0,
            busy: Duration::ZERO,
            retiring: false,
        }
    }

    /// Whether it has been started; one that died before waits to be.
    pub(super) fn is_starting(&self) -> bool {
        self.state == State::Starting && self.respawn_at.is_none()
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.in_hand.is_empty()
            || self.state == State::Finishing
            || self.producer == ProducerState::Granted
    }

    pub(super) fn may_be_granted(&self) -> bool {
        self.state == State::Ready && self.held.is_empty()
    }

    /// Whether it has nothing in hand and nothing that waits for room.
    pub(super) fn is_empty(&self) -> bool {
        self.in_hand.is_empty() && self.held.is_empty()
    }

    /// Whether it may be given a message, with at most `depth` in hand.
    pub(super) fn can_take(&self, depth: usize) -> bool {
        self.state == State::Ready
            && !self.retiring
            && self.held.is_empty()
            && self.in_hand_count < depth
    }

    /// Puts messages into its hands; the oldest are given back first.
    pub(super) fn give(&mut self, batches: &[Batch], count: usize, now: Duration) {
        if self.in_hand.is_empty() {
            self.since = now;
        }
        self.in_hand_count += count;
        self.in_hand.extend(batches.iter().cloned());
    }

    /// Takes the oldest `count` messages out of its hands.
    pub(super) fn take_from_hand(&mut self, count: usize) -> Vec<Batch> {
        let mut taken = Vec::new();
        let mut left = count.min(self.in_hand_count);
        self.in_hand_count -= left;
        while left > 0 {
            let Some(first) = self.in_hand.front_mut() else { break };
            let batch = if first.count() > left {
                Some(first.split_to(left))
            } else {
                self.in_hand.pop_front()
            };
            left -= batch.as_ref().map_or(left, Batch::count);
            taken.extend(batch);
        }
        taken
    }
}
