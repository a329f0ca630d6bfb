//! Which worker gets the next messages, and how many.

use std::time::Duration;

use crate::base::ids::Slot;
use crate::router::workers::{Roster, Turn};

/// The most messages that a worker has in hand.
pub(in crate::router) const MOST_IN_HAND: usize = 4096;

/// How many messages a worker gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::router) struct Portion {
    /// The fewest messages that an idle worker gets, if enough wait.
    pub(in crate::router) least: usize,
    /// The most messages that a worker has in hand.
    pub(in crate::router) most: usize,
}

impl Portion {
    /// One message at a time.
    pub(in crate::router) const ONE: Self = Self { least: 1, most: 1 };

    /// Returns the portion for messages that take `mean`: as many as take `ahead` together, and
    /// one more; long messages one by one. An idle worker is not woken for less than takes
    /// `worth_waking`.
    pub(in crate::router) fn of(ahead: Duration, worth_waking: Duration, mean: Duration) -> Self {
        let within = |time: Duration| {
            let messages = time.as_nanos() / mean.as_nanos().max(1);
            usize::try_from(messages).unwrap_or(MOST_IN_HAND).min(MOST_IN_HAND)
        };
        let most = within(ahead).saturating_add(1).min(MOST_IN_HAND);
        Self { least: within(worth_waking).clamp(1, most), most }
    }
}

/// Returns the worker that gets some of the `servable` messages, and how many; none if no worker
/// can take any.
///
/// The least recently used idle worker gets its share, but no less than is worth waking it for.
/// While all workers are busy, the one with the fewest messages in hand gets more once it has done
/// a quarter of its portion. Workers report after half of it, so they never run dry. Beyond what is
/// worth a wake-up, nobody gets more than fits into the `room` of the next queues.
pub(in crate::router) fn choose(
    roster: &Roster,
    servable: usize,
    portion: Portion,
    room: usize,
) -> Option<(Slot, usize)> {
    let Portion { least, most } = portion;
    let (Turn { in_hand, slot, .. }, sharers) = roster.first()?;
    if 4 * in_hand > 3 * most {
        return None;
    }
    let share = (servable / sharers).max(least).min(most - in_hand);
    Some((slot, share.min(room.max(least))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::StepId;
    use crate::router::testing::workers_of;
    use crate::router::worker::State;
    use crate::router::workers::Workers;

    fn chosen(
        workers: &mut Workers,
        servable: usize,
        portion: (usize, usize),
        room: usize,
    ) -> Option<(u32, usize)> {
        workers.update_rosters();
        let portion = Portion { least: portion.0, most: portion.1 };
        let chosen = choose(workers.roster(StepId(0)), servable, portion, room);
        chosen.map(|(slot, share)| (slot.0, share))
    }

    #[test]
    fn the_least_recently_used_idle_worker_gets_its_share_but_no_less_than_is_worth_waking_it() {
        // in hand and last used of each; servable, portion, room; the worker and its share
        type Case = (&'static [(usize, u64)], usize, (usize, usize), usize, Option<(u32, usize)>);
        let cases: [Case; 14] = [
            (&[(0, 5), (0, 2), (0, 9)], 9, (1, 100), 100, Some((1, 3))),
            (&[(0, 5), (0, 2), (0, 9)], 8, (1, 100), 100, Some((1, 2))),
            (&[(0, 5), (0, 2)], 8, (6, 100), 100, Some((1, 6))),
            (&[(0, 5), (0, 2)], 2, (6, 100), 100, Some((1, 6))),
            (&[(1, 1), (0, 2)], 9, (1, 1), 100, Some((1, 1))),
            (&[(0, 1)], 50, (1, 100), 7, Some((0, 7))),
            (&[(0, 1)], 50, (9, 100), 7, Some((0, 9))),
            (&[(0, 1)], 50, (1, 100), 0, Some((0, 1))),
            // Nobody is idle.
            (&[(3, 1), (1, 9)], 9, (1, 100), 100, Some((1, 4))),
            (&[(50, 1)], 100, (1, 100), 100, Some((0, 50))),
            (&[(75, 1)], 100, (1, 100), 100, Some((0, 25))),
            (&[(76, 1)], 100, (1, 100), 100, None),
            (&[(1, 1)], 100, (1, 2), 100, Some((0, 1))),
            (&[(1, 1), (1, 2)], 9, (1, 1), 100, None),
        ];
        for (in_hand, servable, portion, room, expected) in cases {
            let mut workers = workers_of(&vec![State::Ready; in_hand.len()]);
            for (slot, (count, last_used)) in workers.slots().zip(in_hand) {
                workers[slot].in_hand_count = *count;
                workers[slot].last_used = *last_used;
            }
            let found = chosen(&mut workers, servable, portion, room);
            assert_eq!(found, expected, "{in_hand:?}, {servable}, {portion:?}, {room}");
        }
    }

    #[test]
    fn nothing_goes_to_a_worker_that_is_not_ready_or_is_to_go() {
        for state in [State::Spare, State::Starting, State::Finishing, State::Gone] {
            assert_eq!(chosen(&mut workers_of(&[state]), 5, (1, 10), 10), None, "{state:?}");
        }
        let mut workers = workers_of(&[State::Ready]);
        workers[Slot(0)].retiring = true;
        assert_eq!(chosen(&mut workers, 5, (1, 10), 10), None);
    }

    #[test]
    fn a_worker_has_as_much_ahead_as_it_does_in_a_short_time() {
        let us = Duration::from_micros;
        let cases = [
            (us(5000), (1, 1)),
            (us(2000), (1, 2)),
            (us(100), (1, 21)),
            (us(10), (10, 201)),
            (us(1), (100, 2001)),
            (Duration::ZERO, (MOST_IN_HAND, MOST_IN_HAND)),
        ];
        for (mean, (least, most)) in cases {
            assert_eq!(Portion::of(us(2000), us(100), mean), Portion { least, most }, "{mean:?}");
        }
    }
}
