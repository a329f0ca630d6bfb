//! Whether the loop looks again for a while before it sleeps.

use std::thread;
use std::time::Duration;

/// How long it looks again at most. To be woken takes about half of that, on another core.
const MOST: Duration = Duration::from_micros(50);
/// A wait of less than that would have been shorter if the loop had looked again.
const SHORT: Duration = Duration::from_micros(100);
/// The number of short waits in succession after which it looks again.
const ENOUGH: u8 = 3;

/// Whether looking again pays.
///
/// The loop looks again only if its latest waits were short, which they are where one thing is done
/// at a time, and if fewer workers are at work than there are cores: it takes no core from them. An
/// idle run has long waits, so it sleeps at once.
pub(super) struct Patience {
    cores: usize,
    /// The number of short waits in succession.
    short: u8,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { cores: thread::available_parallelism().map_or(1, usize::from), short: 0 }
    }

    /// How long to look again in the next wait.
    pub(super) fn now(&self, at_work: usize) -> Duration {
        let pays = self.short >= ENOUGH && at_work < self.cores && self.cores > 1;
        if pays { MOST } else { Duration::ZERO }
    }

    /// A wait took this long.
    pub(super) fn waited(&mut self, time: Duration) {
        self.short = if time < SHORT { self.short.saturating_add(1) } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_looks_again_while_waits_are_short_and_a_core_is_free() {
        let mut patience = Patience { cores: 2, short: 0 };
        assert_eq!(patience.now(0), Duration::ZERO);
        (0..u8::MAX).for_each(|_| patience.waited(SHORT / 2));
        patience.waited(Duration::ZERO);
        assert_eq!((patience.now(1), patience.now(2)), (MOST, Duration::ZERO));
        patience.waited(SHORT);
        assert_eq!(patience.now(0), Duration::ZERO);
    }

    #[test]
    fn one_core_is_never_held() {
        assert_eq!(Patience { cores: 1, short: ENOUGH }.now(0), Duration::ZERO);
    }
}
