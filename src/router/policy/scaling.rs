//! When a step gets another worker, and when it lets one go, between the plan's limits.

use std::time::Duration;

use crate::base::ids::Slot;
use crate::router::step::Step;
use crate::router::workers::{Roster, Workers};

/// How long pressure or idleness lasts before the number of workers follows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delays {
    /// Messages that have waited this long ask for another worker.
    pub(crate) grow_after: Duration,
    /// A worker that has had nothing to do for this long is let go.
    pub(crate) shrink_after: Duration,
}

/// The spare worker to start once messages have waited long enough; none unless some wait
/// and no worker is starting.
pub(in crate::router) fn candidate(step: &Step, roster: &Roster, now: Duration) -> Option<Slot> {
    let pressed = step.queue.servable(now).is_some() && roster.starting == 0;
    roster.spare.first().copied().filter(|_| pressed)
}

/// The worker to let go at `now`.
pub(in crate::router) fn excess(
    step: &Step,
    roster: &Roster,
    workers: &Workers,
    delays: Delays,
    now: Duration,
) -> Option<Slot> {
    let idle = longest_idle(step, roster, workers);
    idle.filter(|(_, since)| now.saturating_sub(*since) >= delays.shrink_after)
        .map(|(slot, _)| slot)
}

/// Whether messages have waited long enough for another worker.
pub(in crate::router) fn is_due(step: &Step, delays: Delays, now: Duration) -> bool {
    step.pool.pressed_since.is_some_and(|since| now.saturating_sub(since) >= delays.grow_after)
}

/// When the number of the step's workers may have to change though nothing has happened.
pub(in crate::router) fn next(
    step: &Step,
    roster: &Roster,
    workers: &Workers,
    delays: Delays,
) -> Option<Duration> {
    let grow = step.pool.pressed_since.map(|since| since.saturating_add(delays.grow_after));
    let idle = longest_idle(step, roster, workers);
    let shrink = idle.map(|(_, since)| since.saturating_add(delays.shrink_after));
    grow.into_iter().chain(shrink).min()
}

/// The worker that has had nothing to do for longest, and since when; none unless there
/// are more workers than the step's least.
fn longest_idle(step: &Step, roster: &Roster, workers: &Workers) -> Option<(Slot, Duration)> {
    if roster.present() <= step.pool.min {
        return None;
    }
    // The least recently used one has been idle for longest.
    let (turn, _) = roster.first()?;
    (turn.in_hand == 0).then(|| (turn.slot, workers[turn.slot].since))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::StepId;
    use crate::router::testing::{step_of, waiting, workers_of};
    use crate::router::worker::State;

    const DELAYS: Delays = Delays { grow_after: ms(100), shrink_after: ms(5000) };

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_spare_worker_is_started_while_messages_wait_and_none_is_starting() {
        use State::{Gone, Ready, Spare, Starting};
        let cases: [(&[State], u64, Option<u32>); 5] = [
            (&[Ready, Spare, Spare], 1, Some(1)),
            (&[Ready, Spare], 0, None),
            (&[Ready, Starting, Spare], 1, None),
            (&[Ready, Gone], 1, None),
            (&[Ready, Gone, Spare], 1, Some(2)),
        ];
        for (states, count, expected) in cases {
            let (mut step, workers) = (step_of(states.len()), workers_of(states));
            waiting(&mut step, count);
            let expected = expected.map(Slot);
            let roster = workers.roster(StepId(0));
            assert_eq!(candidate(&step, roster, ms(1)), expected, "{states:?}, {count}");
        }
    }

    #[test]
    fn messages_have_to_wait_for_some_time_before_a_worker_is_added() {
        let mut step = step_of(1);
        for (since, now, expected) in
            [(None, 900, false), (Some(50), 149, false), (Some(50), 150, true)]
        {
            step.pool.pressed_since = since.map(ms);
            assert_eq!(is_due(&step, DELAYS, ms(now)), expected, "{since:?}, {now}");
        }
    }

    #[test]
    fn the_worker_that_is_idle_for_longest_goes_while_there_are_more_than_the_least() {
        use State::Ready;
        // since when each is idle; the least; now
        let cases: [(&[u64], usize, u64, Option<u32>); 4] = [
            (&[0, 10], 1, 4999, None),
            (&[10, 0], 1, 5000, Some(1)),
            (&[0, 0], 2, 9000, None),
            (&[30, 20, 10], 1, 9000, Some(2)),
        ];
        for (idle, least, now, expected) in cases {
            let mut step = step_of(idle.len());
            step.pool.min = least;
            let mut workers = workers_of(&vec![Ready; idle.len()]);
            for (slot, since) in workers.slots().zip(idle) {
                workers[slot].since = ms(*since);
                workers[slot].last_used = *since;
            }
            workers.update_rosters();
            let roster = workers.roster(StepId(0));
            let expected = expected.map(Slot);
            assert_eq!(
                excess(&step, roster, &workers, DELAYS, ms(now)),
                expected,
                "{idle:?}, {least}"
            );
            let due = next(&step, roster, &workers, DELAYS).is_some_and(|due| due <= ms(now));
            assert_eq!(due, expected.is_some(), "it is woken in time");
        }
    }
}
