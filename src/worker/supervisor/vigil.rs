//! When the supervisor looks at the workers: often while one with a limit has something in hand,
//! seldom while none has, so that an idle run uses no processor time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the supervisor goes on looking often after the latest sign of work. Before it stops,
/// it asks to be told of new work, for this long: a worker begins what it was given before that.
const LINGER: Duration = Duration::from_millis(500);

/// Decides how often to look.
pub(super) struct Vigil {
    /// Whether the supervisor wants to be told of new work.
    dozing: Arc<AtomicBool>,
    /// The latest sign of work.
    latest: Instant,
}

impl Vigil {
    pub(super) fn new(now: Instant) -> Self {
        Self { dozing: Arc::default(), latest: now }
    }

    /// A worker has been given work, or is at work.
    pub(super) fn stir(&mut self, now: Instant) {
        self.latest = now;
        self.dozing.store(false, Ordering::SeqCst);
    }

    /// Whether the workers must still be looked at often.
    pub(super) fn is_awake(&self, now: Instant) -> bool {
        let quiet = now.saturating_duration_since(self.latest);
        if quiet >= LINGER {
            self.dozing.store(true, Ordering::SeqCst);
        }
        quiet < 2 * LINGER
    }

    /// What tells whether the supervisor wants to be told.
    pub(super) fn dozing(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.dozing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_to_be_told_before_it_stops_looking() {
        let start = Instant::now();
        let mut vigil = Vigil::new(start);
        let dozing = vigil.dozing();
        assert!(vigil.is_awake(start) && !dozing.load(Ordering::SeqCst));
        assert!(vigil.is_awake(start + LINGER) && dozing.load(Ordering::SeqCst));
        assert!(!vigil.is_awake(start + 2 * LINGER));
        vigil.stir(start + 3 * LINGER);
        assert!(!dozing.load(Ordering::SeqCst));
        assert!(vigil.is_awake(start + 3 * LINGER));
    }
}
