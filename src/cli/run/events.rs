//! The file that `--events` names. docs/EVENTS.md describes its lines.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::path::Path;

use serde_json::json;
use tracing::warn;

use crate::cli::output::CommandError;
use crate::event::{Event, EventRecord};
use crate::sinks::lossy_writer::{Buffer, LossyWriter};

/// The most lines and bytes that wait for a slow reader.
const MAX_LINES: usize = 10_000;
const MAX_BYTES: usize = 16 << 20;
/// From this size in bytes on, lines are written.
const BATCH_BYTES: usize = 64 << 10;

/// Writes events; the run never waits for a reader.
pub(crate) struct Events(LossyWriter<Waiting>);

/// The lines that are not written yet.
#[derive(Default)]
struct Waiting {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Events that found no room since the last line that says so.
    omitted: u64,
}

struct Line {
    text: String,
    is_progress: bool,
}

impl Events {
    /// Opens the file. A named pipe is opened once it has a reader; the run does not wait for
    /// one.
    ///
    /// # Errors
    /// If it cannot be written to.
    pub(crate) fn open(path: &Path) -> Result<Self, CommandError> {
        let copy = |portion: String, text: &mut String| text.push_str(&portion);
        let writer = LossyWriter::open(path, "events", Waiting::default(), copy);
        writer.map(Self).map_err(|error| {
            CommandError::usage(format_args!("--events {}: {error}", path.display()))
        })
    }

    /// Takes an event; never blocks.
    pub(crate) fn add(&self, record: &EventRecord) {
        if let Ok(text) = serde_json::to_string(record) {
            let is_progress = matches!(record.event, Event::Progress(_));
            self.0.put(|waiting| waiting.push(text, is_progress));
        }
    }

    /// Notes that the stream dropped events before this watcher saw them; the file says so.
    pub(crate) fn missed(&self, count: u64) {
        self.0.put(|waiting| waiting.omitted += count);
    }

    /// Writes the rest, and blocks until everything is written or the reader takes nothing. `error`
    /// says why the run could not start or could not go on; it becomes the last line.
    pub(crate) fn end(self, error: Option<&CommandError>) {
        let last = error.and_then(|CommandError { code, message }| {
            let event = Event::Error { exit_code: *code, reason: message.clone() };
            serde_json::to_string(&event).ok()
        });
        let error = match self.0.finish(|waiting| waiting.complete(last)) {
            Ok(()) => return,
            // A reader that is gone needs no more.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return,
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                io::Error::new(ErrorKind::TimedOut, "the reader does not take the last events")
            }
            Err(error) => error,
        };
        warn!("--events: {error}; the run itself is not affected");
    }
}

impl Buffer for Waiting {
    type Portion = String;

    fn take(&mut self) -> Option<String> {
        let mut portion = String::new();
        while portion.len() < BATCH_BYTES
            && let Some(line) = self.lines.pop_front()
        {
            self.bytes -= line.text.len();
            portion += &line.text;
        }
        (!portion.is_empty()).then_some(portion)
    }
}

impl Waiting {
    /// Drops older progress events: a slow reader needs only the latest.
    fn drop_progress(&mut self) {
        if let Some(at) = self.lines.iter().rposition(|line| line.is_progress)
            && let Some(line) = self.lines.remove(at)
        {
            self.bytes -= line.text.len();
        }
    }

    fn push(&mut self, text: String, is_progress: bool) {
        if is_progress {
            self.drop_progress();
        }
        if self.lines.len() >= MAX_LINES || self.bytes + text.len() >= MAX_BYTES {
            self.omitted += u64::from(!is_progress);
            return;
        }
        self.add_omitted();
        self.add(text, is_progress);
    }

    /// Drops progress events that the end makes obsolete, then adds the count of missing events and
    /// `last`.
    fn complete(&mut self, last: Option<String>) {
        self.drop_progress();
        self.add_omitted();
        if let Some(text) = last {
            self.add(text, false);
        }
    }

    /// Adds a line that says how many events are missing here.
    fn add_omitted(&mut self) {
        if self.omitted > 0 {
            let line = json!({"event": "omitted", "count": self.omitted});
            self.add(line.to_string(), false);
            self.omitted = 0;
        }
    }

    fn add(&mut self, mut text: String, is_progress: bool) {
        text.push('\n');
        self.bytes += text.len();
        self.lines.push_back(Line { text, is_progress });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(waiting: &Waiting) -> Vec<&str> {
        waiting.lines.iter().map(|line| line.text.trim_end()).collect()
    }

    #[test]
    fn only_the_newest_progress_waits() {
        let mut waiting = Waiting::default();
        for (text, is_progress) in [("a", true), ("b", false), ("c", true), ("d", false)] {
            waiting.push(text.to_owned(), is_progress);
        }
        assert_eq!(lines(&waiting), ["b", "c", "d"]);
        waiting.complete(Some("end".into()));
        assert_eq!(lines(&waiting), ["b", "d", "end"]);
    }

    #[test]
    fn what_finds_no_room_is_counted_where_it_is_missing() {
        let mut waiting = Waiting::default();
        for number in 0..MAX_LINES + 5 {
            waiting.push(number.to_string(), false);
        }
        assert_eq!(waiting.lines.len(), MAX_LINES);
        assert!(waiting.take().unwrap().starts_with("0\n1\n"));
        waiting.push("after".to_owned(), false);
        let [omitted, after] = lines(&waiting)[..] else { panic!("{:?}", lines(&waiting)) };
        let omitted: serde_json::Value = serde_json::from_str(omitted).unwrap();
        assert_eq!(omitted, json!({"event": "omitted", "count": 5}));
        assert_eq!(after, "after");
        let bytes: usize = waiting.lines.iter().map(|line| line.text.len()).sum();
        assert_eq!(waiting.bytes, bytes);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut waiting = Waiting::default();
        for _ in 0..40 {
            waiting.push("x".repeat(1 << 20), false);
        }
        assert!(waiting.bytes <= MAX_BYTES);
        waiting.complete(Some("end".into()));
        assert_eq!(*lines(&waiting).last().unwrap(), "end");
    }
}
