//! The stream of a run's events: the one source for all watchers.
//!
//! The run appends and never waits; events stay until newer ones need the room. Each watcher has a
//! position of its own, so neither their number nor a stuck one costs the run anything. A watcher
//! that falls too far behind learns how many events it has missed, and finds the current state in
//! the status, which every event updates.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::series::History;
use super::state::Status;
use super::view::View;
use crate::event::{Event, EventRecord};

/// The most events that the stream keeps.
const MAX_EVENTS: usize = 1 << 16;
/// The most memory of kept events, in bytes, by estimate.
const MAX_BYTES: usize = 16 << 20;

/// The events of one run.
#[derive(Clone)]
pub struct Stream {
    shared: Arc<Shared>,
}

struct Shared {
    start: Instant,
    kept: Mutex<Kept>,
    more: Condvar,
}

#[derive(Default)]
struct Kept {
    events: VecDeque<Arc<EventRecord>>,
    bytes: usize,
    /// The number of the last event.
    last: u64,
    status: Status,
    ended: bool,
}

/// A position in a stream.
pub struct Watcher {
    stream: Stream,
    /// The number of the last event seen.
    seen: u64,
}

/// What [`Watcher::next`] returns.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// An event.
    Event(Arc<EventRecord>),
    /// The stream dropped this many events; the next one follows them.
    Missed(u64),
    /// No event came in time.
    Nothing,
    /// The run has ended, and all its events were seen.
    End,
}

impl Stream {
    pub(crate) fn new() -> Self {
        let kept = Mutex::new(Kept::default());
        Self { shared: Arc::new(Shared { start: Instant::now(), kept, more: Condvar::new() }) }
    }

    /// Time since the run's start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.shared.start.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn publish(&self, event: Event) {
        let at = self.shared.start.elapsed();
        let mut kept = self.lock();
        if kept.ended {
            return;
        }
        kept.ended = matches!(event, Event::Ended(_) | Event::Error { .. });
        kept.last += 1;
        let record = Arc::new(EventRecord { number: kept.last, at, event });
        kept.status.apply(&record);
        kept.push(record);
        drop(kept);
        self.shared.more.notify_all();
    }

    /// The status of the run, after all events so far.
    pub fn status(&self) -> Status {
        self.lock().status.clone()
    }

    /// The number of the last event.
    pub fn number(&self) -> u64 {
        self.lock().last
    }

    /// The view of the run, after all events so far.
    pub fn view(&self) -> View {
        self.lock().status.view()
    }

    /// How the numbers have changed so far.
    pub fn history(&self) -> History {
        self.lock().status.history.clone()
    }

    /// A watcher before the first event.
    pub fn watch(&self) -> Watcher {
        Watcher { stream: self.clone(), seen: 0 }
    }

    /// A watcher after event `number`; 0 is before the first.
    pub fn watch_after(&self, number: u64) -> Watcher {
        Watcher { stream: self.clone(), seen: number }
    }
}

impl Kept {
    fn push(&mut self, record: Arc<EventRecord>) {
        self.bytes += size(&record);
        self.events.push_back(record);
        while self.events.len() > MAX_EVENTS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.events.pop_front() else { return };
            self.bytes -= size(&oldest);
        }
    }

    fn after(&self, seen: u64) -> Option<Seen> {
        let first = self.events.front()?.number;
        if seen + 1 < first {
            return Some(Seen::Missed(first - seen - 1));
        }
        let place = usize::try_from(seen + 1 - first).ok()?;
        self.events.get(place).map(|record| Seen::Event(Arc::clone(record)))
    }
}

/// Estimates the bytes of an event from those texts of it that can be long.
fn size(record: &EventRecord) -> usize {
    const LEAST: usize = 256;
    LEAST
        + match &record.event {
            Event::Said { text, .. } => text.len(),
            Event::Deferred { why, .. } => why.len(),
            Event::Progress(snapshot) => {
                snapshot.steps.iter().map(|step| 512 + step.each_worker.len() * 128).sum()
            }
            Event::Failed { failure, .. } | Event::Retrying { failure, .. } => {
                failure.chain().iter().map(String::len).sum()
            }
            _ => 0,
        }
}

impl Watcher {
    /// The next event. Blocks for `patience` at most; without it, until an event comes or the run
    /// ends.
    pub fn next(&mut self, patience: Option<Duration>) -> Seen {
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        let shared = Arc::clone(&self.stream.shared);
        let mut kept = self.stream.lock();
        loop {
            if let Some(seen) = kept.after(self.seen) {
                drop(kept);
                self.seen = match &seen {
                    Seen::Event(record) => record.number,
                    Seen::Missed(count) => self.seen + count,
                    Seen::Nothing | Seen::End => self.seen,
                };
                return seen;
            }
            if kept.ended {
                return Seen::End;
            }
            let Some(until) = until else {
                kept = shared.more.wait(kept).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Seen::Nothing;
            }
            let waited = shared.more.wait_timeout(kept, left);
            kept = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The events from here to the end, without those that the stream dropped; blocks for each.
    pub fn events(mut self) -> impl Iterator<Item = Arc<EventRecord>> {
        std::iter::from_fn(move || {
            loop {
                match self.next(None) {
                    Seen::Event(record) => return Some(record),
                    Seen::Missed(_) | Seen::Nothing => {}
                    Seen::End => return None,
                }
            }
        })
    }

    /// The stream that it reads.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Event {
        Event::Stopping { reason: text.to_owned() }
    }

    fn numbers(watcher: &mut Watcher) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Seen::Event(record) = watcher.next(Some(Duration::ZERO)) {
            numbers.push(record.number);
        }
        numbers
    }

    #[test]
    fn every_watcher_sees_every_event_in_order() {
        let stream = Stream::new();
        stream.publish(said("a"));
        let (mut one, mut late) = (stream.watch(), stream.watch_after(1));
        stream.publish(said("b"));
        assert_eq!(numbers(&mut one), [1, 2]);
        assert_eq!(numbers(&mut late), [2]);
        stream.publish(Event::Error { exit_code: 3, reason: "c".into() });
        stream.publish(said("after the end"));
        assert_eq!(numbers(&mut one), [3]);
        assert_eq!(one.next(None), Seen::End);
    }

    #[test]
    fn a_watcher_that_falls_behind_learns_how_many_events_it_has_missed() {
        let stream = Stream::new();
        let mut stuck = stream.watch();
        for _ in 0..MAX_EVENTS + 5 {
            stream.publish(said("x"));
        }
        assert_eq!(stuck.next(None), Seen::Missed(5));
        let Seen::Event(record) = stuck.next(None) else { panic!("an event should follow") };
        assert_eq!(record.number, 6);
        assert_eq!(stream.lock().events.len(), MAX_EVENTS);
        assert_eq!(stream.status().number, MAX_EVENTS as u64 + 5);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let stream = Stream::new();
        for _ in 0..200 {
            let step: Arc<str> = "S".into();
            let (level, logger) = (crate::event::Level::Info, String::new());
            let text = "x".repeat(1 << 20);
            stream.publish(Event::Said { step, worker: 0, level, logger, text });
        }
        let kept = stream.lock();
        assert!(kept.bytes <= MAX_BYTES && kept.events.len() > 10, "{}", kept.bytes);
    }

    #[test]
    fn a_watcher_that_waits_is_woken() {
        let stream = Stream::new();
        let mut watcher = stream.watch();
        let waiting = std::thread::spawn(move || watcher.next(None));
        stream.publish(said("now"));
        assert!(matches!(waiting.join().unwrap(), Seen::Event(record) if record.number == 1));
    }
}
