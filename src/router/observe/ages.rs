//! For how long messages have waited, at no cost a message: they are numbered in the order in which
//! they are made, so it is enough to note now and then which number comes next.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::ids::MessageId;

/// The part of the longest age that the others are exact to.
const PRECISION: u32 = 256;

/// Which numbers were given by when.
#[derive(Default)]
pub(in crate::router) struct Ages {
    /// The number of the next message at an instant; both grow.
    marks: VecDeque<(MessageId, Duration)>,
}

impl Ages {
    /// Notes that no message from `next` on has been made, and that no age of one before `oldest`
    /// will be asked for.
    pub(in crate::router) fn mark(&mut self, next: MessageId, oldest: MessageId, now: Duration) {
        while self.marks.front().is_some_and(|(next, _)| *next <= oldest) {
            self.marks.pop_front();
        }
        let span = self.marks.front().map_or(Duration::ZERO, |(_, at)| now.saturating_sub(*at));
        let is_known = |(latest, at): &(MessageId, Duration)| {
            *latest == next || now.saturating_sub(*at) < span / PRECISION
        };
        if !self.marks.back().is_some_and(is_known) {
            self.marks.push_back((next, now));
        }
    }

    /// Returns how long ago the message was made, at least.
    pub(in crate::router) fn of(&self, message: MessageId, now: Duration) -> Duration {
        let place = self.marks.partition_point(|(next, _)| *next <= message);
        self.marks.get(place).map_or(Duration::ZERO, |(_, at)| now.saturating_sub(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn second(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_message_is_as_old_as_the_first_mark_behind_it() {
        let mut ages = Ages::default();
        assert_eq!(ages.of(MessageId(1), second(9)), Duration::ZERO, "nothing was noted");
        for (next, at) in [(1, 0), (1, 1), (4, 2), (4, 3), (9, 4)] {
            ages.mark(MessageId(next), MessageId(0), second(at));
        }
        let age = |message| ages.of(MessageId(message), second(10)).as_secs();
        assert_eq!([1, 3, 4, 8, 9].map(age), [8, 8, 6, 6, 0]);
    }

    #[test]
    fn marks_stay_few_and_ages_exact_enough() {
        const NOW: u64 = 100_000;
        let mut ages = Ages::default();
        for at in 0..NOW {
            ages.mark(MessageId(at), MessageId(0), second(at));
        }
        assert!(ages.marks.len() < 4000, "{}", ages.marks.len());
        for message in (0..NOW - 1000).step_by(997) {
            let (age, found) = (NOW - message, ages.of(MessageId(message), second(NOW)).as_secs());
            assert!(found < age && found + 400 > age, "{message}: {found}");
        }
        ages.mark(MessageId(NOW), MessageId(NOW), second(NOW));
        assert_eq!(ages.marks.len(), 1, "nothing waits");
    }
}
