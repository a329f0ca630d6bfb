//! What a worker process shows from outside: whether it is alive, and how it ended.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::reexec::{EXIT_FULL, EXIT_LOST, HEARTBEAT};

/// A worker that gives no sign of life for this long is frozen: longer than a busy machine keeps
/// a thread from running.
pub(crate) const SILENCE: Duration = Duration::from_secs(60);

/// The signs of life of one worker.
pub(crate) struct Liveness {
    /// The number of heartbeats, and when it last changed.
    beats: u64,
    seen: Instant,
    /// The processor time that it had used halfway through its present silence.
    computed: Option<u64>,
}

impl Liveness {
    pub(crate) fn new(started: Instant) -> Self {
        Self { beats: 0, seen: started, computed: None }
    }

    /// Ignores the silence so far.
    pub(crate) fn forgive(&mut self, now: Instant) {
        (self.seen, self.computed) = (now, None);
    }

    /// Returns whether a silent worker has also used no processor time for a while: C code may keep
    /// a Python worker from sending heartbeats for any length of time. `computed` returns the
    /// processor time that the worker has used.
    pub(crate) fn has_stopped(
        &mut self,
        beats: u64,
        now: Instant,
        computed: impl FnOnce() -> Option<u64>,
    ) -> bool {
        let silence = SILENCE.max(HEARTBEAT * 10);
        if beats != self.beats {
            (self.beats, self.seen, self.computed) = (beats, now, None);
        }
        let silent = now.saturating_duration_since(self.seen);
        if silent <= silence / 2 {
            return false;
        }
        if self.computed.is_none() {
            self.computed = computed();
            return false;
        }
        if silent < silence {
            return false;
        }
        let stands_still = computed() == self.computed;
        if !stands_still {
            (self.seen, self.computed) = (now, None);
        }
        stands_still
    }
}

/// The usual cause of a SIGKILL that no user sent.
const OUT_OF_MEMORY: &str =
    ", which the system sends when memory runs out: use fewer workers, or set a \"memory_limit\"";

/// Describes how a process has ended.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) if code == i32::from(EXIT_LOST) => {
            "its process could no longer talk to the router".to_owned()
        }
        (Some(code), _) if code == i32::from(EXIT_FULL) => {
            "it used more memory than its limit, and is replaced".to_owned()
        }
        (Some(code), _) => format!("its process ended with exit code {code}"),
        (None, Some(signal)) => {
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("an unknown signal");
            let hint = if signal == Signal::KILL.as_raw() { OUT_OF_MEMORY } else { "" };
            format!("its process was ended by signal {signal} ({name}){hint}")
        }
        (None, None) => "its process ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_described() {
        let killed = describe(ExitStatus::from_raw(9));
        assert!(killed.contains("signal 9 (SIGKILL)") && killed.contains("memory"), "{killed}");
        assert!(!describe(ExitStatus::from_raw(15)).contains("memory"));
        assert!(describe(ExitStatus::from_raw(3 << 8)).contains("exit code 3"));
    }

    #[test]
    fn a_frozen_worker_is_noticed_when_its_silence_has_lasted_as_long_as_is_said() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut liveness = Liveness::new(start);
        let noticed = (0..200).find(|second| {
            let beats = if *second < 10 { *second + 1 } else { 10 };
            liveness.has_stopped(beats, at(*second), || Some(7))
        });
        assert_eq!(noticed, Some(9 + SILENCE.as_secs()));
    }

    #[test]
    fn a_worker_that_computes_without_a_sign_of_life_is_not_frozen() {
        let start = Instant::now();
        let mut liveness = Liveness { beats: 1, ..Liveness::new(start) };
        for second in 0..1000 {
            let now = start + Duration::from_secs(second);
            assert!(!liveness.has_stopped(1, now, || Some(second)), "{second}");
        }
    }
}
