//! Whether the loop looks again for a while before it sleeps.

use std::fs;
use std::thread;
use std::time::Duration;

/// How long it looks again at most. To be woken takes about half of that, on another core.
const MOST: Duration = Duration::from_micros(50);
/// A wait of less than that would have been shorter if the loop had looked again.
const SHORT: Duration = Duration::from_micros(100);
/// The number of short waits in succession after which it looks again.
const ENOUGH: u8 = 3;
/// How long a look at the machine's load counts.
const COUNTS_FOR: Duration = Duration::from_millis(10);

/// Whether looking again pays.
///
/// It does if the latest waits were short, which they are where one thing is done at a time. It is
/// fair if a core is free: fewer of the run's workers have something in hand than there are cores,
/// and no more threads of the whole machine want to run. An idle run has long waits, so it sleeps at
/// once.
pub(super) struct Patience {
    cores: usize,
    /// The number of short waits in succession.
    short: u8,
    /// Whether the machine had more to do than cores, and until when that counts.
    is_crowded: bool,
    until: Duration,
}

impl Patience {
    pub(super) fn new() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { cores, short: 0, is_crowded: false, until: Duration::ZERO }
    }

    /// How long to look again in the wait that begins `now`.
    pub(super) fn of(&mut self, at_work: usize, now: Duration) -> Duration {
        self.with(at_work, now, wanting)
    }

    fn with(
        &mut self,
        at_work: usize,
        now: Duration,
        wanting: impl Fn() -> Option<usize>,
    ) -> Duration {
        if self.short < ENOUGH || self.cores < 2 || at_work >= self.cores {
            return Duration::ZERO;
        }
        if now >= self.until {
            self.until = now + COUNTS_FOR;
            self.is_crowded = wanting().is_none_or(|wanting| wanting > self.cores);
        }
        if self.is_crowded { Duration::ZERO } else { MOST }
    }

    /// A wait took this long.
    pub(super) fn waited(&mut self, time: Duration) {
        self.short = if time < SHORT { self.short.saturating_add(1) } else { 0 };
    }
}

/// The number of threads of the machine that run or want to, this one included.
fn wanting() -> Option<usize> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').nth(3)?.split_once('/')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn after_short_waits(cores: usize) -> Patience {
        let mut patience = Patience { cores, ..Patience::new() };
        (0..ENOUGH).for_each(|_| patience.waited(SHORT / 2));
        patience
    }

    #[test]
    fn the_loop_looks_again_while_waits_are_short() {
        let mut patience = after_short_waits(2);
        assert_eq!(patience.with(1, NOW, || Some(2)), MOST);
        patience.waited(SHORT);
        assert_eq!(patience.with(1, NOW, || Some(2)), Duration::ZERO);
        (0..=u8::MAX).for_each(|_| patience.waited(Duration::ZERO));
        assert_eq!(patience.with(1, NOW, || Some(2)), MOST);
    }

    #[test]
    fn it_takes_no_core_from_those_who_want_one() {
        for (cores, at_work, wanting) in
            [(1, 0, Some(1)), (2, 2, Some(1)), (2, 1, Some(3)), (2, 1, None)]
        {
            assert_eq!(after_short_waits(cores).with(at_work, NOW, || wanting), Duration::ZERO);
        }
    }

    #[test]
    fn the_load_is_looked_at_now_and_then() {
        let mut patience = after_short_waits(2);
        assert_eq!(patience.with(0, NOW, || Some(3)), Duration::ZERO);
        let later = NOW + COUNTS_FOR;
        assert_eq!(patience.with(0, later - Duration::from_nanos(1), || Some(1)), Duration::ZERO);
        assert_eq!(patience.with(0, later, || Some(1)), MOST);
    }

    #[test]
    fn the_system_tells_how_many_want_to_run() {
        assert!(wanting().is_some_and(|wanting| wanting > 0));
    }
}
