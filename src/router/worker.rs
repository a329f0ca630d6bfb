//! One worker as the router sees it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::ids::{FIRST, MessageId, StepId};
use crate::message::batch::Batch;
use crate::message::{ByPriority, Priority};

/// Beyond its first message a worker is given no more than this many bytes at a time.
pub(super) const BYTES_AHEAD: usize = 1 << 20;
/// A worker that has this many bytes in hand gets no more, but always one message ahead.
const MOST_BYTES_IN_HAND: usize = 8 * BYTES_AHEAD;

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
    /// The size of their payloads, in bytes.
    in_hand_bytes: usize,
    /// What it has emitted and no queue has admitted yet, in order.
    pub(super) held: ByPriority<VecDeque<Held>>,
    /// Grows with each use: the smallest is the least recently used.
    pub(super) last_used: u64,
    /// When it was given what it has in hand, or last reported on it, or was ready.
    pub(super) since: Duration,
    /// The news of the deferred messages when its hands were last empty.
    pub(super) seen: u64,
    pub(super) producer: ProducerState,
    /// The number of a producer's failed calls in a row.
    pub(super) consecutive_failures: u32,
    /// The time that it has spent in the stage.
    pub(super) busy: Duration,
    /// Whether its present call takes long: it has given back what else it had in hand.
    pub(super) is_slow: bool,
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
    /// May be granted when nothing that was emitted is left.
    AtBarrier,
    /// Using a grant.
    Granted,
    /// A feed: it brings items when it has some, and is not asked.
    Feeding,
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
            epoch: FIRST,
            number,
            state,
            in_hand: VecDeque::new(),
            in_hand_count: 0,
            in_hand_bytes: 0,
            held: ByPriority::default(),
            last_used: 0,
            since: Duration::ZERO,
            seen: 0,
            producer: ProducerState::Idle(Duration::ZERO),
            respawn_at: None,
            consecutive_failures: 0,
            kept: 0,
            busy: Duration::ZERO,
            is_slow: false,
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
        self.state == State::Ready && !self.holds()
    }

    /// Whether something that it has emitted waits for room.
    pub(super) fn holds(&self) -> bool {
        self.held.iter().any(|held| !held.is_empty())
    }

    /// All that waits for room; within a priority it is in order.
    pub(super) fn all_held(&self) -> impl Iterator<Item = &Held> {
        self.held.iter().flatten()
    }

    /// Takes what waits for room.
    pub(super) fn take_held(&mut self) -> Vec<Held> {
        self.held.iter_mut().flat_map(std::mem::take).collect()
    }

    /// What waits for room of the messages with numbers from `first` on, in order.
    pub(super) fn held_from(&self, first: MessageId) -> impl Iterator<Item = &Held> {
        let from = |held: &VecDeque<Held>| held.partition_point(|held| held.batch.first() < first);
        let (high, normal) = (&self.held[Priority::High], &self.held[Priority::Normal]);
        let mut high = high.range(from(high)..).peekable();
        let mut normal = normal.range(from(normal)..).peekable();
        std::iter::from_fn(move || match (high.peek(), normal.peek()) {
            (Some(urgent), Some(other)) if other.batch.first() < urgent.batch.first() => {
                normal.next()
            }
            (Some(_), _) => high.next(),
            (None, _) => normal.next(),
        })
    }

    /// Whether it has nothing in hand and nothing that waits for room.
    pub(super) fn is_empty(&self) -> bool {
        self.in_hand.is_empty() && !self.holds()
    }

    /// Whether it may be given messages.
    pub(super) fn can_take(&self) -> bool {
        self.state == State::Ready
            && !self.retiring
            && !self.is_slow
            && !self.holds()
            && (self.in_hand_count < 2 || self.in_hand_bytes < MOST_BYTES_IN_HAND)
    }

    /// Puts messages into its hands; the oldest are given back first.
    pub(super) fn give(&mut self, batches: &[Batch], count: usize, (now, news): (Duration, u64)) {
        if self.in_hand.is_empty() {
            (self.since, self.seen) = (now, news);
        }
        self.in_hand_count += count;
        self.in_hand_bytes += batches.iter().map(Batch::len).sum::<usize>();
        self.in_hand.extend(batches.iter().cloned());
    }

    /// Takes `count` messages from `first` on out of its hands, but never the oldest, which it is
    /// processing. None if it has no such messages.
    pub(super) fn take_back(&mut self, first: MessageId, count: usize) -> Option<Vec<Batch>> {
        let mut numbers =
            self.in_hand.iter().flat_map(|batch| batch.first().successive(batch.count()));
        let place = numbers.position(|number| number == first)?;
        if place == 0 || count == 0 || count > self.in_hand_count - place {
            return None;
        }
        let before = self.take_from_hand(place);
        let taken = self.take_from_hand(count);
        for batch in before.into_iter().rev() {
            self.in_hand_count += batch.count();
            self.in_hand_bytes += batch.len();
            self.in_hand.push_front(batch);
        }
        Some(taken)
    }

    /// Takes the oldest `count` messages out of its hands.
    pub(super) fn take_from_hand(&mut self, count: usize) -> Vec<Batch> {
        let mut taken = Vec::with_capacity(1);
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
            self.in_hand_bytes -= batch.as_ref().map_or(0, Batch::len);
            taken.extend(batch);
        }
        taken
    }
}
