//! Whether and when a failed attempt is repeated, and a lost worker replaced.

use std::time::Duration;

/// The longest wait to which doubling leads.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);
/// How many losses of a step's workers in a row, without any work done in between, end the run.
/// Chance alone hardly does that; a class that crashes at once does.
pub(in crate::router) const FATAL_CRASHES: u32 = 7;

/// How often the step repeats an attempt.
#[derive(Debug, Clone, Copy)]
pub(in crate::router) struct Limits {
    pub(in crate::router) retries: u32,
    /// The wait before the first retry; each further one is twice as long.
    pub(in crate::router) backoff: Duration,
}

/// A failed attempt.
#[derive(Debug, Clone, Copy)]
pub(in crate::router) struct Attempt {
    /// From 0.
    pub(in crate::router) number: u32,
    pub(in crate::router) is_retryable: bool,
    /// How many attempts on the message have been forgiven before.
    pub(in crate::router) forgiven: u32,
    /// How many may be forgiven, for how this one ended.
    pub(in crate::router) forgivable: u32,
}

/// Whether there is still time for a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::router) enum Patience {
    /// Retries are awaited.
    Waits,
    /// The run takes no more input: only retries without a wait are made.
    Drains,
    /// The run drops what waits.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::router) enum Retry {
    /// Repeat the attempt after `wait`; `is_forgiven` says that it does not count.
    After { wait: Duration, is_forgiven: bool },
    /// The input has failed.
    GiveUp,
    /// The input would be tried again, but nobody waits for that.
    NotAwaited,
}

/// What follows a failed attempt. One that is forgiven is made up for at once, in another
/// worker.
pub(in crate::router) fn after(limits: Limits, attempt: Attempt, patience: Patience) -> Retry {
    let is_forgiven = attempt.forgiven < attempt.forgivable;
    let charged = attempt.number.saturating_sub(attempt.forgiven);
    if !is_forgiven && (charged >= limits.retries || !attempt.is_retryable) {
        return Retry::GiveUp;
    }
    let wait = if is_forgiven { Duration::ZERO } else { backoff(limits.backoff, charged) };
    match patience {
        Patience::Drains if !wait.is_zero() => Retry::NotAwaited,
        Patience::None if wait.is_zero() => Retry::GiveUp,
        Patience::None => Retry::NotAwaited,
        Patience::Waits | Patience::Drains => Retry::After { wait, is_forgiven },
    }
}

/// The wait before a producer's next call after `failures` failed ones in a row; none if
/// production ends.
pub(in crate::router) fn of_producer(
    limits: Limits,
    failures: u32,
    is_retryable: bool,
) -> Option<Duration> {
    (failures < limits.retries && is_retryable).then(|| backoff(limits.backoff, failures))
}

/// The wait before a lost worker is replaced; none if that has been in vain too often.
/// `crashes` workers of the step were lost in a row without any work done in between; all
/// its `workers` may die at once of one cause, which counts once.
pub(in crate::router) fn of_worker(
    crashes: u32,
    workers: usize,
    respawn_after: Duration,
) -> Option<Duration> {
    match crashes.div_ceil(workers.max(1) as u32) {
        times if times >= FATAL_CRASHES => None,
        0 | 1 => Some(Duration::ZERO),
        times => Some(backoff(respawn_after, times - 2)),
    }
}

/// The wait before the retry that follows failed attempt `attempt` (from 0).
fn backoff(first: Duration, attempt: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(attempt)).min(LONGEST_BACKOFF.max(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_failed_attempt_is_repeated_or_given_up() {
        let wait =
            |seconds: u64| Retry::After { wait: Duration::from_secs(seconds), is_forgiven: false };
        let forgiven = Retry::After { wait: Duration::ZERO, is_forgiven: true };
        // retries, backoff; number, retryable, forgiven, forgivable; patience
        let cases = [
            ((0, 1), (0, true, 0, 0), Patience::Waits, Retry::GiveUp),
            ((2, 1), (0, true, 0, 0), Patience::Waits, wait(1)),
            ((2, 1), (1, true, 0, 0), Patience::Waits, wait(2)),
            ((2, 1), (2, true, 0, 0), Patience::Waits, Retry::GiveUp),
            ((2, 1), (0, false, 0, 0), Patience::Waits, Retry::GiveUp),
            // The first loss is forgiven, whatever the failure says; then retries are charged.
            ((0, 1), (0, false, 0, 1), Patience::Waits, forgiven),
            ((1, 1), (1, true, 1, 1), Patience::Waits, wait(1)),
            ((1, 1), (2, true, 1, 1), Patience::Waits, Retry::GiveUp),
            // A run that drains repeats only what need not wait.
            ((2, 1), (0, true, 0, 0), Patience::Drains, Retry::NotAwaited),
            ((2, 0), (0, true, 0, 0), Patience::Drains, wait(0)),
            ((2, 1), (0, true, 0, 1), Patience::Drains, forgiven),
            ((2, 1), (2, true, 0, 0), Patience::Drains, Retry::GiveUp),
            ((2, 1), (0, true, 0, 1), Patience::None, Retry::GiveUp),
            ((2, 1), (0, true, 0, 0), Patience::None, Retry::NotAwaited),
        ];
        for (limits, attempt, patience, expected) in cases {
            let (retries, seconds) = limits;
            let limits = Limits { retries, backoff: Duration::from_secs(seconds) };
            let (number, is_retryable, forgiven, forgivable) = attempt;
            let attempt = Attempt { number, is_retryable, forgiven, forgivable };
            assert_eq!(after(limits, attempt, patience), expected, "{attempt:?}, {patience:?}");
        }
    }

    #[test]
    fn the_wait_doubles_up_to_five_minutes_or_the_first_one_if_that_is_longer() {
        let cases = [(1, 0, 1), (1, 3, 8), (1, 9, 300), (1, u32::MAX, 300), (400, 5, 400)];
        for (first, attempt, expected) in cases {
            let wait = backoff(Duration::from_secs(first), attempt);
            assert_eq!(wait, Duration::from_secs(expected), "{first} s, attempt {attempt}");
        }
    }

    #[test]
    fn a_producer_is_called_again_as_often_as_its_step_says() {
        let limits = Limits { retries: 2, backoff: SECOND };
        assert_eq!(of_producer(limits, 0, true), Some(SECOND));
        assert_eq!(of_producer(limits, 1, true), Some(SECOND * 2));
        assert_eq!(of_producer(limits, 2, true), None);
        assert_eq!(of_producer(limits, 0, false), None);
    }

    #[test]
    fn workers_that_crash_in_a_row_are_replaced_ever_later_then_not_at_all() {
        let wait = |crashes, workers| of_worker(crashes, workers, SECOND);
        assert_eq!([wait(0, 1), wait(1, 1)], [Some(Duration::ZERO); 2]);
        assert_eq!([wait(2, 1), wait(3, 1)], [Some(SECOND), Some(SECOND * 2)]);
        assert_eq!([wait(FATAL_CRASHES - 1, 1), wait(FATAL_CRASHES, 1)], [Some(SECOND * 16), None]);
        // Four that die together count as one.
        assert_eq!([wait(4, 4), wait(5, 4)], [Some(Duration::ZERO), Some(SECOND)]);
    }
}
