//! What waits for one step with one priority.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use crate::base::failure::Failure;
use crate::base::ids::MessageId;
use crate::event::Cause;
use crate::message::Message;
use crate::message::batch::Batch;

/// Messages in order of arrival, and those that wait for their retry. It is bounded.
#[derive(Debug)]
pub(super) struct Line {
    batches: VecDeque<Batch>,
    /// The number of messages in the batches.
    waiting: usize,
    /// The size of everything here.
    bytes: u64,
    limit: usize,
    limit_bytes: u64,
    /// Retries by the instant they are due; they count towards the limit, so
    /// that a step whose every input fails holds its senders back.
    delayed: BinaryHeap<Reverse<Delayed>>,
    /// The number of deferred messages, which wait elsewhere and count towards the limit too.
    deferred: usize,
    /// The largest number of messages that ever stood here.
    high_water: usize,
}

#[derive(Debug)]
struct Delayed {
    due: Duration,
    message: Message,
    /// Why it waits: its latest attempt.
    failed: Option<Failed>,
}

/// How the latest attempt on a message failed.
#[derive(Debug)]
pub(super) struct Failed {
    /// From 1.
    pub(super) attempt: u32,
    /// The number of the worker within the step; none if the message reached no worker.
    pub(super) worker: Option<usize>,
    pub(super) cause: Cause,
    pub(super) failure: Failure,
}

/// The messages to give up.
#[derive(Debug, Clone, Copy)]
pub(super) enum Doomed<'a> {
    Item(u64),
    Origin(&'a str),
}

impl Doomed<'_> {
    pub(super) fn is(self, message: &Message) -> bool {
        match self {
            Self::Item(number) => message.item == number,
            Self::Origin(origin) => message.origin.as_ref().is_some_and(|of| &**of == origin),
        }
    }

    pub(super) fn has(self, batch: &Batch) -> bool {
        batch.alone().is_some_and(|message| self.is(message))
    }
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Delayed {}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Delayed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.message.id).cmp(&(other.due, other.message.id))
    }
}

impl Line {
    pub(super) fn new(limit: Option<usize>, limit_bytes: Option<u64>) -> Self {
        Self {
            batches: VecDeque::new(),
            waiting: 0,
            bytes: 0,
            limit: limit.unwrap_or(usize::MAX),
            limit_bytes: limit_bytes.unwrap_or(u64::MAX),
            delayed: BinaryHeap::new(),
            deferred: 0,
            high_water: 0,
        }
    }

    /// How many messages more may enter.
    pub(super) fn room(&self) -> usize {
        if self.bytes >= self.limit_bytes && !self.is_empty() {
            return 0;
        }
        self.limit.saturating_sub(self.len())
    }

    /// The room for a grant of `most` messages. None while they would wait behind many others anyway:
    /// then a producer is not woken for every few messages that are taken.
    pub(super) fn room_for_grant(&self, most: usize) -> usize {
        let room = self.room();
        if room < most.min(self.waiting / 3) { 0 } else { room }
    }

    /// How many of the batch's first messages may enter. One larger than the
    /// whole limit in bytes may enter an empty line: otherwise it could never
    /// pass.
    pub(super) fn admits(&self, batch: &Batch) -> usize {
        let room = self.limit_bytes.saturating_sub(self.bytes);
        let fitting = batch.fitting(room).max(usize::from(self.is_empty()));
        fitting.min(self.limit.saturating_sub(self.len()))
    }

    pub(super) fn push(&mut self, batch: Batch) {
        self.bytes += batch.len() as u64;
        self.waiting += batch.count();
        self.batches.push_back(batch);
        self.high_water = self.high_water.max(self.waiting);
    }

    /// Puts a message into the place that it has among the others.
    pub(super) fn insert(&mut self, place: usize, batch: Batch) {
        self.bytes += batch.len() as u64;
        self.waiting += batch.count();
        self.batches.insert(place.min(self.batches.len()), batch);
        self.high_water = self.high_water.max(self.waiting);
    }

    /// The number of the first messages that all satisfy `comes_before`.
    pub(super) fn partition_point(&self, comes_before: impl Fn(&Batch) -> bool) -> usize {
        self.batches.partition_point(comes_before)
    }

    /// The number of the message that would be served next.
    pub(super) fn next(&self, now: Duration) -> Option<MessageId> {
        let due = self.delayed.peek().filter(|Reverse(delayed)| delayed.due <= now);
        let due = due.map(|Reverse(delayed)| delayed.message.id);
        due.or_else(|| self.batches.front().map(Batch::first))
    }

    /// Takes back what was handed out and not begun, to be served first. It may
    /// stand beyond the limit: it was admitted before.
    pub(super) fn give_back(&mut self, batch: Batch) {
        self.bytes += batch.len() as u64;
        self.waiting += batch.count();
        self.batches.push_front(batch);
    }

    /// Counts a message that is deferred.
    pub(super) fn keep_room(&mut self, message: &Message) {
        self.deferred += 1;
        self.bytes += message.payload.len() as u64;
    }

    /// No longer counts a message that was deferred.
    pub(super) fn free_room(&mut self, message: &Message) {
        self.deferred -= 1;
        self.bytes -= message.payload.len() as u64;
    }

    /// Takes in a message that was deferred, behind all others.
    pub(super) fn readmit(&mut self, batch: Batch) {
        self.bytes += batch.len() as u64;
        self.waiting += batch.count();
        self.batches.push_back(batch);
    }

    pub(super) fn delay(&mut self, message: Message, due: Duration, failed: Option<Failed>) {
        self.bytes += message.payload.len() as u64;
        self.delayed.push(Reverse(Delayed { due, message, failed }));
    }

    /// Takes out the retries that are not due yet.
    pub(super) fn take_delayed(&mut self, now: Duration) -> Vec<(Message, Failed)> {
        let mut taken = Vec::new();
        for Reverse(delayed) in std::mem::take(&mut self.delayed) {
            match delayed {
                Delayed { due, message, failed: Some(failed) } if due > now => {
                    self.bytes -= message.payload.len() as u64;
                    taken.push((message, failed));
                }
                other => self.delayed.push(Reverse(other)),
            }
        }
        taken
    }

    /// The next messages to serve at `now`, `most` at most: retries that are
    /// due go first.
    pub(super) fn pop(&mut self, most: usize, now: Duration) -> Option<Batch> {
        let due = self.next_due().is_some_and(|due| due <= now);
        let batch = if due {
            Batch::One(self.delayed.pop()?.0.message)
        } else {
            let first = self.batches.front_mut()?;
            let batch = if first.count() > most {
                first.split_to(most)
            } else {
                self.batches.pop_front()?
            };
            self.waiting -= batch.count();
            batch
        };
        self.bytes -= batch.len() as u64;
        Some(batch)
    }

    /// How many messages could be served at `now`, in O(1): of the retries
    /// that are due it counts one.
    pub(super) fn servable(&self, now: Duration) -> usize {
        self.waiting + usize::from(self.next_due().is_some_and(|due| due <= now))
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        self.delayed.peek().map(|Reverse(delayed)| delayed.due)
    }

    /// Messages, retries and deferred ones together.
    pub(super) fn len(&self) -> usize {
        self.waiting + self.delayed.len() + self.deferred
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The number of the first message; retries do not count.
    pub(super) fn front(&self) -> Option<MessageId> {
        self.batches.front().map(Batch::first)
    }

    /// The number of messages without the retries.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    #[cfg(test)]
    pub(super) fn high_water(&self) -> usize {
        self.high_water
    }

    /// The numbers of the messages without the retries.
    #[cfg(test)]
    pub(super) fn numbers(&self) -> impl Iterator<Item = MessageId> {
        self.batches.iter().flat_map(|batch| batch.first().successive(batch.count()))
    }

    /// The numbers of the retries that are due.
    #[cfg(test)]
    pub(super) fn due(&self, now: Duration) -> impl Iterator<Item = MessageId> {
        let due = self.delayed.iter().filter(move |Reverse(delayed)| delayed.due <= now);
        due.map(|Reverse(delayed)| delayed.message.id)
    }

    /// The messages here that travel alone, as each does that has an origin or an item.
    pub(super) fn messages(&self) -> impl Iterator<Item = &Message> {
        let delayed = self.delayed.iter().map(|Reverse(delayed)| &delayed.message);
        self.batches.iter().filter_map(Batch::alone).chain(delayed)
    }

    /// Takes out messages, retries among them.
    pub(super) fn remove(&mut self, doomed: Doomed<'_>) -> Vec<Batch> {
        let mut taken = Vec::new();
        if self.batches.iter().any(|batch| doomed.has(batch)) {
            let all = std::mem::take(&mut self.batches).into_iter();
            let (removed, others): (Vec<_>, Vec<_>) = all.partition(|batch| doomed.has(batch));
            self.batches = others.into();
            self.waiting -= removed.iter().map(Batch::count).sum::<usize>();
            taken = removed;
        }
        if self.delayed.iter().any(|Reverse(delayed)| doomed.is(&delayed.message)) {
            for Reverse(delayed) in std::mem::take(&mut self.delayed) {
                if doomed.is(&delayed.message) {
                    taken.push(Batch::One(delayed.message));
                } else {
                    self.delayed.push(Reverse(delayed));
                }
            }
        }
        self.bytes -= taken.iter().map(|batch| batch.len() as u64).sum::<u64>();
        taken
    }

    /// Empties the line and gives what it held.
    pub(super) fn clear(&mut self) -> Vec<Batch> {
        self.waiting = 0;
        self.bytes = 0;
        let delayed = self.delayed.drain().map(|Reverse(delayed)| Batch::One(delayed.message));
        self.batches.drain(..).chain(delayed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::output::OutputBuffer;
    use crate::message::{Payload, Priority};

    fn message(id: u64, size: usize) -> Message {
        let payload = Payload { header: vec![0; size].into(), buffers: Vec::new() };
        Message {
            id: MessageId(id),
            attempt: 0,
            priority: Priority::Normal,
            item: 0,
            origin: None,
            payload,
        }
    }

    fn one(id: u64, size: usize) -> Batch {
        Batch::One(message(id, size))
    }

    fn many(first: u64, sizes: &[usize]) -> Batch {
        let mut outputs = OutputBuffer::default();
        for size in sizes {
            outputs.push_payload(0, None, message(0, *size).payload);
        }
        Batch::new(MessageId(first), outputs.take().remove(0))
    }

    #[test]
    fn the_limit_in_messages_is_exact() {
        let mut line = Line::new(Some(2), None);
        assert_eq!(line.admits(&many(0, &[1, 1, 1])), 2);
        for id in 0..2 {
            assert_eq!(line.admits(&one(id, 1)), 1);
            line.push(one(id, 1));
        }
        assert_eq!(line.admits(&one(2, 1)), 0);
        assert_eq!(line.room(), 0);
    }

    #[test]
    fn the_limit_in_bytes_is_exact_and_a_giant_passes_alone() {
        let mut line = Line::new(None, Some(10));
        assert_eq!(line.admits(&one(0, 50)), 1);
        assert_eq!(line.admits(&many(0, &[50, 1])), 1);
        line.push(one(1, 6));
        assert_eq!(line.admits(&one(2, 4)), 1);
        assert_eq!(line.admits(&one(2, 5)), 0);
        assert_eq!(line.admits(&many(2, &[1, 2, 1, 1])), 3);
        assert_eq!(line.admits(&one(0, 50)), 0);
    }

    #[test]
    fn a_retry_waits_until_it_is_due_then_goes_first() {
        let mut line = Line::new(Some(4), None);
        let second = Duration::from_secs(1);
        line.push(many(1, &[1, 1]));
        line.delay(message(0, 1), second, None);
        line.push(one(3, 1));
        assert_eq!(line.admits(&one(4, 1)), 0, "a delayed retry counts");
        assert_eq!(line.pop(1, Duration::ZERO).map(|p| p.first().0), Some(1));
        assert_eq!(line.pop(9, second).map(|p| p.first().0), Some(0));
        assert_eq!(line.pop(9, second).map(|p| p.first().0), Some(2));
        assert_eq!(line.pop(9, second).map(|p| p.first().0), Some(3));
        assert_eq!((line.bytes(), line.pop(9, second)), (0, None));
    }

    #[test]
    fn a_grant_waits_until_its_messages_are_worth_it_but_never_for_retries() {
        let mut line = Line::new(Some(12), None);
        assert_eq!(line.room_for_grant(100), 12);
        (0..10).for_each(|id| line.push(one(id, 1)));
        assert_eq!([1, 2, 3, 100].map(|most| line.room_for_grant(most)), [2, 2, 0, 0]);
        line.pop(1, Duration::ZERO);
        assert_eq!(line.room_for_grant(100), 3);
        line.clear();
        let due = Duration::from_secs(9);
        (0..11).for_each(|id| line.delay(message(id, 1), due, None));
        assert_eq!(line.room_for_grant(100), 1, "a retry may wait for long");
        line.push(one(11, 1));
        assert_eq!(line.room_for_grant(1), 0);
    }

    #[test]
    fn retries_that_are_not_due_are_taken_out() {
        let mut line = Line::new(None, None);
        let failed = || {
            let failure = Failure::retryable("busy");
            Some(Failed { attempt: 1, worker: Some(0), cause: Cause::Failed, failure })
        };
        for (id, due) in [(1, 5), (2, 9), (3, 7)] {
            line.delay(message(id, 1), Duration::from_secs(due), failed());
        }
        line.delay(message(4, 1), Duration::from_secs(8), None);
        let taken = line.take_delayed(Duration::from_secs(5));
        let mut numbers: Vec<u64> = taken.into_iter().map(|(message, _)| message.id.0).collect();
        numbers.sort_unstable();
        assert_eq!((numbers, line.len(), line.bytes()), (vec![2, 3], 2, 2));
    }
}
