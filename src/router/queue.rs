//! The bounded queue of one step.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use crate::message::Message;

/// Messages in order of arrival, and those that wait for their retry.
#[derive(Debug)]
pub(super) struct Queue {
    messages: VecDeque<Message>,
    bytes: u64,
    limit: usize,
    limit_bytes: u64,
    /// Retries by the instant they are due; they count towards the limit, so
    /// that a step whose every input fails holds its senders back.
    delayed: BinaryHeap<Reverse<Delayed>>,
    /// The largest number of messages that ever stood here.
    high_water: usize,
}

#[derive(Debug)]
struct Delayed {
    due: Duration,
    message: Message,
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

impl Queue {
    pub(super) fn new(limit: Option<usize>, limit_bytes: Option<u64>) -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            limit: limit.unwrap_or(usize::MAX),
            limit_bytes: limit_bytes.unwrap_or(u64::MAX),
            delayed: BinaryHeap::new(),
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

    /// Whether `message` may enter. One larger than the whole limit in bytes
    /// may enter an empty queue: otherwise it could never pass.
    pub(super) fn admits(&self, message: &Message) -> bool {
        let size = message.payload.len() as u64;
        self.len() < self.limit
            && (self.is_empty() || self.bytes.saturating_add(size) <= self.limit_bytes)
    }

    pub(super) fn push(&mut self, message: Message) {
        self.bytes += message.payload.len() as u64;
        self.messages.push_back(message);
        self.high_water = self.high_water.max(self.messages.len());
    }

    pub(super) fn delay(&mut self, message: Message, due: Duration) {
        self.bytes += message.payload.len() as u64;
        self.delayed.push(Reverse(Delayed { due, message }));
    }

    /// The next message to serve at `now`: retries that are due go first.
    pub(super) fn pop(&mut self, now: Duration) -> Option<Message> {
        let due = self.next_due().is_some_and(|due| due <= now);
        let message = if due {
            self.delayed.pop().map(|Reverse(delayed)| delayed.message)
        } else {
            self.messages.pop_front()
        }?;
        self.bytes -= message.payload.len() as u64;
        Some(message)
    }

    /// How many messages could be served at `now`, in O(1): of the retries
    /// that are due it counts one.
    pub(super) fn servable(&self, now: Duration) -> usize {
        self.messages.len() + usize::from(self.next_due().is_some_and(|due| due <= now))
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        self.delayed.peek().map(|Reverse(delayed)| delayed.due)
    }

    /// Messages and retries together.
    pub(super) fn len(&self) -> usize {
        self.messages.len() + self.delayed.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn high_water(&self) -> usize {
        self.high_water
    }

    /// Empties the queue and says how many messages it held.
    pub(super) fn clear(&mut self) -> usize {
        let count = self.len();
        self.messages.clear();
        self.delayed.clear();
        self.bytes = 0;
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Payload;

    fn message(id: u64, size: usize) -> Message {
        let payload = Payload { header: vec![0; size].into(), buffers: Vec::new() };
        Message { id, attempt: 0, origin: None, payload }
    }

    #[test]
    fn the_limit_in_messages_is_exact() {
        let mut queue = Queue::new(Some(2), None);
        for id in 0..2 {
            assert!(queue.admits(&message(id, 1)));
            queue.push(message(id, 1));
        }
        assert!(!queue.admits(&message(2, 1)));
        assert_eq!(queue.room(), 0);
    }

    #[test]
    fn the_limit_in_bytes_is_exact_and_a_giant_passes_alone() {
        let mut queue = Queue::new(None, Some(10));
        assert!(queue.admits(&message(0, 50)));
        queue.push(message(1, 6));
        assert!(queue.admits(&message(2, 4)));
        assert!(!queue.admits(&message(2, 5)));
        assert!(!queue.admits(&message(0, 50)));
    }

    #[test]
    fn a_retry_waits_until_it_is_due_then_goes_first() {
        let mut queue = Queue::new(Some(3), None);
        let second = Duration::from_secs(1);
        queue.push(message(1, 1));
        queue.delay(message(0, 1), second);
        queue.push(message(2, 1));
        assert!(!queue.admits(&message(3, 1)), "a delayed retry counts");
        assert_eq!(queue.pop(Duration::ZERO).map(|m| m.id), Some(1));
        assert_eq!(queue.pop(second).map(|m| m.id), Some(0));
        assert_eq!(queue.pop(second).map(|m| m.id), Some(2));
        assert_eq!((queue.bytes(), queue.pop(second)), (0, None));
    }
}
