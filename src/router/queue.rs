//! The bounded queue of one step: a line for each priority, so that a full normal line holds no
//! message of high priority back.

use std::time::Duration;

use super::line::{Doomed, Failed, Line};
use crate::base::ids::MessageId;
use crate::message::batch::Batch;
use crate::message::{ByPriority, Message, Priority};

/// What waits for a step. Each line has the step's limits.
#[derive(Debug)]
pub(super) struct Queue {
    lines: ByPriority<Line>,
    /// The largest number of messages that ever stood here.
    high_water: usize,
}

impl Queue {
    pub(super) fn new(limit: Option<usize>, limit_bytes: Option<u64>) -> Self {
        Self { lines: ByPriority::new(|| Line::new(limit, limit_bytes)), high_water: 0 }
    }

    pub(super) fn line(&self, priority: Priority) -> &Line {
        &self.lines[priority]
    }

    /// How many of the batch's first messages may enter.
    pub(super) fn admits(&self, batch: &Batch) -> usize {
        self.lines[batch.priority()].admits(batch)
    }

    pub(super) fn push(&mut self, batch: Batch) {
        self.lines[batch.priority()].push(batch);
        self.note_high_water();
    }

    /// The number of the first messages that all satisfy `comes_before`, in a queue that is in
    /// order.
    pub(super) fn partition_point(&self, comes_before: impl Fn(&Batch) -> bool) -> usize {
        self.lines[Priority::Normal].partition_point(comes_before)
    }

    /// Puts a message into the place that it has among the others: in order priorities count for
    /// nothing, so they all stand in one line.
    pub(super) fn insert(&mut self, place: usize, batch: Batch) {
        self.lines[Priority::Normal].insert(place, batch);
        self.note_high_water();
    }

    fn note_high_water(&mut self) {
        let waiting = self.lines.iter().map(Line::waiting).sum();
        self.high_water = self.high_water.max(waiting);
    }

    /// Takes back what was handed out and not begun, to be served first in its line.
    pub(super) fn give_back(&mut self, batch: Batch) {
        self.lines[batch.priority()].give_back(batch);
    }

    /// Counts a message that is deferred.
    pub(super) fn keep_room(&mut self, message: &Message) {
        self.lines[message.priority].keep_room(message);
    }

    /// No longer counts a message that was deferred.
    pub(super) fn free_room(&mut self, message: &Message) {
        self.lines[message.priority].free_room(message);
    }

    /// Takes in a message that was deferred, behind all others of its line. It may stand beyond the
    /// limit: it was admitted before.
    pub(super) fn readmit(&mut self, batch: Batch) {
        self.lines[batch.priority()].readmit(batch);
    }

    pub(super) fn delay(&mut self, message: Message, due: Duration, failed: Option<Failed>) {
        self.lines[message.priority].delay(message, due, failed);
    }

    /// Takes out the retries that are not due yet.
    pub(super) fn take_delayed(&mut self, now: Duration) -> Vec<(Message, Failed)> {
        self.lines.iter_mut().flat_map(|line| line.take_delayed(now)).collect()
    }

    /// The most urgent line of which something could be served at `now`.
    pub(super) fn servable(&self, now: Duration) -> Option<Priority> {
        Priority::ALL.into_iter().find(|priority| self.lines[*priority].servable(now) > 0)
    }

    /// The next messages of a line to serve at `now`, `most` at most.
    pub(super) fn pop(&mut self, priority: Priority, most: usize, now: Duration) -> Option<Batch> {
        self.lines[priority].pop(most, now)
    }

    /// Whether the next retry of a line is not due yet.
    pub(super) fn has_later_retry(&self, now: Duration) -> bool {
        self.lines.iter().any(|line| line.next_due().is_some_and(|due| due > now))
    }

    /// The number of the message that would be served next.
    pub(super) fn next(&self, now: Duration) -> Option<MessageId> {
        self.lines.iter().find_map(|line| line.next(now))
    }

    /// Messages, retries and deferred ones together.
    pub(super) fn len(&self) -> usize {
        self.lines.iter().map(Line::len).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.lines.iter().map(Line::bytes).sum()
    }

    pub(super) fn high_water(&self) -> usize {
        self.high_water
    }

    /// The messages here that travel alone, as each does that has an origin or an item.
    pub(super) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.lines.iter().flat_map(Line::messages)
    }

    /// Takes out messages, retries among them.
    pub(super) fn remove(&mut self, doomed: Doomed<'_>) -> Vec<Batch> {
        self.lines.iter_mut().flat_map(|line| line.remove(doomed)).collect()
    }

    /// Empties the queue and gives what it held.
    pub(super) fn clear(&mut self) -> Vec<Batch> {
        self.lines.iter_mut().flat_map(Line::clear).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{NO_ITEM, Payload};
    use Priority::{High, Normal};

    fn message(id: u64, priority: Priority) -> Message {
        let payload = Payload { header: vec![0].into(), buffers: Vec::new() };
        let id = MessageId(id);
        Message { id, attempt: 0, priority, item: NO_ITEM, origin: None, payload }
    }

    fn one(id: u64, priority: Priority) -> Batch {
        Batch::One(message(id, priority))
    }

    /// Serves the queue until nothing is servable.
    fn serve(queue: &mut Queue, now: Duration) -> Vec<u64> {
        let mut served = Vec::new();
        while let Some(priority) = queue.servable(now) {
            let next = queue.next(now);
            let batch = queue.pop(priority, 1, now);
            assert_eq!(batch.as_ref().map(Batch::first), next);
            served.extend(next.map(|id| id.0));
        }
        served
    }

    #[test]
    fn a_full_normal_line_holds_no_high_message_back() {
        let mut queue = Queue::new(Some(2), Some(2));
        (1..3).for_each(|id| queue.push(one(id, Normal)));
        assert_eq!(queue.admits(&one(3, Normal)), 0);
        assert_eq!(queue.admits(&one(3, High)), 1);
        (3..5).for_each(|id| queue.push(one(id, High)));
        assert_eq!(queue.admits(&one(5, High)), 0, "a line of high priority has a limit too");
        assert_eq!((queue.len(), queue.bytes(), queue.high_water()), (4, 4, 4));
        queue.pop(High, 1, Duration::ZERO);
        assert_eq!([High, Normal].map(|priority| queue.admits(&one(5, priority))), [1, 0]);
    }

    #[test]
    fn retries_that_are_due_go_first_within_their_priority() {
        let mut queue = Queue::new(None, None);
        let (due, later) = (Duration::from_secs(1), Duration::from_secs(9));
        for (id, priority) in [(1, Normal), (2, High), (3, Normal), (4, High)] {
            queue.push(one(id, priority));
        }
        for (id, priority, at) in [(5, Normal, due), (6, High, due), (7, High, later)] {
            queue.delay(message(id, priority), at, None);
        }
        assert_eq!(serve(&mut queue, due), [6, 2, 4, 5, 1, 3]);
        assert_eq!(queue.servable(due), None);
        assert_eq!(serve(&mut queue, later), [7]);
    }

    #[test]
    fn what_is_given_back_goes_to_the_head_of_its_line() {
        let mut queue = Queue::new(None, None);
        [(3, Normal), (4, High)].into_iter().for_each(|(id, of)| queue.push(one(id, of)));
        [(1, Normal), (2, High)].into_iter().for_each(|(id, of)| queue.give_back(one(id, of)));
        assert_eq!(serve(&mut queue, Duration::ZERO), [2, 4, 1, 3]);
    }
}
