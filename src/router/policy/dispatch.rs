//! Which worker gets the next messages, and how many.

use std::time::Duration;

use crate::base::ids::Slot;
use crate::router::step::Step;
use crate::router::worker::Workers;

/// How long the work is that a worker has in hand: longer, and messages would wait behind
/// others while another worker is free.
const AHEAD: Duration = Duration::from_micros(200);
/// Messages that take less than this count as very short.
const VERY_SHORT: Duration = Duration::from_micros(50);
/// The most messages that a worker has in hand.
pub(in crate::router) const MOST_IN_HAND: usize = 1024;
/// Beyond its first message a worker is given no more than this many bytes.
pub(in crate::router) const BYTES_AHEAD: usize = 1 << 20;

/// The worker with the least in hand, of several the least recently used, and its share
/// of the `servable` messages: no more than keeps it within `depth`, nor than fits into
/// the `room` of the next queues. None if no worker can take any.
pub(in crate::router) fn choose(
    step: &Step,
    workers: &Workers,
    servable: usize,
    depth: usize,
    room: usize,
) -> Option<(Slot, usize)> {
    let can_take = |slot: &&Slot| workers[**slot].can_take(depth);
    let count = step.workers.iter().filter(can_take).count();
    let chosen = step.workers.iter().filter(can_take).min_by_key(|slot| {
        let worker = &workers[**slot];
        (worker.in_hand_count, worker.last_used)
    });
    let slot = *chosen?;
    let share = servable.div_ceil(count).min(depth - workers[slot].in_hand_count);
    Some((slot, share.min(room).max(1)))
}

/// How many messages that take `mean` a worker may have in hand: short ones travel in
/// batches, long ones alone. `very_short` is how long a batch of very short ones takes.
pub(in crate::router) fn depth(very_short: Duration, mean: Option<Duration>) -> usize {
    let Some(mean) = mean else { return 1 };
    let ahead = if mean < VERY_SHORT { very_short } else { AHEAD };
    let messages = ahead.as_nanos() / mean.as_nanos().max(1);
    usize::try_from(messages).unwrap_or(MOST_IN_HAND).saturating_add(1).min(MOST_IN_HAND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::testing::{step_of, workers_of};
    use crate::router::worker::State;

    #[test]
    fn the_worker_with_the_least_in_hand_gets_its_share_then_the_least_recently_used() {
        // in hand and last used of each; servable, depth, room; the worker and its share
        type Case = (&'static [(usize, u64)], (usize, usize, usize), Option<(u32, usize)>);
        let cases: [Case; 7] = [
            (&[(0, 5), (0, 2), (0, 9)], (9, 100, 100), Some((1, 3))),
            (&[(3, 1), (1, 9)], (9, 100, 100), Some((1, 5))),
            (&[(1, 1), (1, 2)], (9, 1, 100), None),
            (&[(1, 1), (0, 2)], (9, 1, 100), Some((1, 1))),
            (&[(0, 1)], (50, 100, 7), Some((0, 7))),
            (&[(0, 1)], (50, 100, 0), Some((0, 1))),
            (&[(98, 1)], (50, 100, 9), Some((0, 2))),
        ];
        for (in_hand, (servable, depth, room), expected) in cases {
            let step = step_of(in_hand.len());
            let mut workers = workers_of(&vec![State::Ready; in_hand.len()]);
            for (slot, (count, last_used)) in workers.slots().zip(in_hand) {
                workers[slot].in_hand_count = *count;
                workers[slot].last_used = *last_used;
            }
            let chosen = choose(&step, &workers, servable, depth, room);
            assert_eq!(chosen, expected.map(|(slot, share)| (Slot(slot), share)), "{in_hand:?}");
        }
    }

    #[test]
    fn nothing_goes_to_a_worker_that_is_not_ready_or_is_to_go() {
        for state in [State::Spare, State::Starting, State::Finishing, State::Gone] {
            assert_eq!(choose(&step_of(1), &workers_of(&[state]), 5, 10, 10), None, "{state:?}");
        }
        let mut workers = workers_of(&[State::Ready]);
        workers[Slot(0)].retiring = true;
        assert_eq!(choose(&step_of(1), &workers, 5, 10, 10), None);
    }

    #[test]
    fn a_worker_has_as_much_ahead_as_it_does_in_a_short_time() {
        let us = Duration::from_micros;
        let cases = [
            (None, 1),
            (Some(us(5000)), 1),
            (Some(us(100)), 3),
            (Some(us(50)), 5),
            (Some(us(49)), 62),
            (Some(us(1)), MOST_IN_HAND),
            (Some(Duration::ZERO), MOST_IN_HAND),
        ];
        for (mean, expected) in cases {
            assert_eq!(depth(us(3000), mean), expected, "{mean:?}");
        }
    }
}
