//! The file that `--trace` names: when each message waited and ran, at which worker, in
//! the JSON form of trace events, as Perfetto and chrome://tracing open it.
//!
//! One process of the file is a step, one thread a worker. A thread of its own writes. The
//! run never waits for it: what finds no room is left out, and its number is written at
//! the end. The file is an array with one event a line, written as the run goes: of a
//! run that was killed the array is not closed, which both programs accept.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use serde_json::{Value, json};

use crate::event::Snapshot;
use crate::router::Span;

/// So many spans may wait to be written.
const MOST_WAITING: usize = 100_000;
/// At the end of a run, a reader that takes nothing is waited for this long.
const PATIENCE: Duration = Duration::from_secs(5);

/// The trace of a run that is under way.
pub(crate) struct Trace {
    sender: Sender<Part>,
    room: Arc<Room>,
    written: Receiver<io::Result<()>>,
}

/// How much waits, and how much found no room.
#[derive(Default)]
struct Room {
    waiting: AtomicUsize,
    omitted: AtomicU64,
    /// How often something was written.
    portions: AtomicU64,
}

enum Part {
    Spans(Vec<Span>),
    Numbers(Snapshot),
}

impl Trace {
    /// Begins the file for a run with these steps.
    ///
    /// # Errors
    /// If it cannot be written to.
    pub(crate) fn begin(path: &Path, steps: Vec<Arc<str>>) -> io::Result<Self> {
        let is_pipe = fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
        // A pipe is opened once it has a reader, and the run does not wait for one.
        let file = if is_pipe { None } else { Some(File::create(path)?) };
        let path = path.to_owned();
        let mut opening = String::from("[\n");
        for (index, step) in steps.iter().enumerate() {
            let pid = index + 1;
            line(
                &mut opening,
                &json!({"name": "process_name", "ph": "M", "pid": pid, "tid": 0, "args": {"name": **step}}),
            );
            line(
                &mut opening,
                &json!({"name": "process_sort_index", "ph": "M", "pid": pid, "tid": 0, "args": {"sort_index": pid}}),
            );
        }
        let (sender, parts) = mpsc::channel();
        let (done, written) = mpsc::channel();
        let room = Arc::<Room>::default();
        let (shared, scribe) = (Arc::clone(&room), Scribe { steps, named: BTreeSet::new() });
        let write = move || {
            let file = file.map_or_else(|| File::options().write(true).open(path), Ok);
            let result = file.and_then(|mut file| {
                file.write_all(opening.as_bytes())?;
                scribe.write(file, &parts, &shared)
            });
            // Nobody may wait for it any more.
            let _ = done.send(result);
        };
        std::thread::Builder::new().name("trace".into()).spawn(write)?;
        Ok(Self { sender, room, written })
    }

    pub(crate) fn spans(&self, spans: Vec<Span>) {
        let count = spans.len();
        self.send(count, Part::Spans(spans));
    }

    /// The queues and the workers at an instant.
    pub(crate) fn numbers(&self, snapshot: &Snapshot) {
        self.send(snapshot.steps.len(), Part::Numbers(snapshot.clone()));
    }

    fn send(&self, count: usize, part: Part) {
        let Room { waiting, omitted, .. } = &*self.room;
        let before = waiting.fetch_add(count, Ordering::Relaxed);
        if before + count > MOST_WAITING || self.sender.send(part).is_err() {
            waiting.fetch_sub(count, Ordering::Relaxed);
            omitted.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// Waits until everything is written, or nothing has been for a while.
    ///
    /// # Errors
    /// Why the file is not whole.
    pub(crate) fn finish(self) -> io::Result<()> {
        let Self { sender, written, room } = self;
        drop(sender);
        let mut portions = room.portions.load(Ordering::Relaxed);
        loop {
            match written.recv_timeout(PATIENCE) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("its thread panicked"));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let now = room.portions.load(Ordering::Relaxed);
                    if now == portions {
                        return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody takes it"));
                    }
                    portions = now;
                }
            }
        }
    }
}

/// Writes events.
struct Scribe {
    steps: Vec<Arc<str>>,
    /// The workers whose names have been written.
    named: BTreeSet<(usize, usize)>,
}

impl Scribe {
    fn write(mut self, mut file: File, parts: &Receiver<Part>, room: &Room) -> io::Result<()> {
        let mut text = String::new();
        while let Ok(part) = parts.recv() {
            let count = match part {
                Part::Spans(spans) => {
                    spans.iter().for_each(|span| self.span(&mut text, span));
                    spans.len()
                }
                Part::Numbers(snapshot) => {
                    self.numbers(&mut text, &snapshot);
                    snapshot.steps.len()
                }
            };
            room.waiting.fetch_sub(count, Ordering::Relaxed);
            file.write_all(text.as_bytes())?;
            room.portions.fetch_add(1, Ordering::Relaxed);
            text.clear();
        }
        let omitted = room.omitted.load(Ordering::Relaxed);
        let end =
            json!({"name": "omitted", "ph": "M", "pid": 0, "tid": 0, "args": {"count": omitted}});
        file.write_all(format!("{end}\n]\n").as_bytes())
    }

    /// The number that stands for a step; 0 for none.
    fn process(&self, step: &str) -> usize {
        self.steps.iter().position(|name| **name == *step).map_or(0, |index| index + 1)
    }

    fn span(&mut self, text: &mut String, span: &Span) {
        let pid = self.process(&span.step);
        let waited = span.begun_at.saturating_sub(span.queued_at);
        let mut event = json!({
            "name": &*span.step,
            "cat": span.outcome,
            "ph": "X",
            "pid": pid,
            "tid": 0,
            "ts": microseconds(span.begun_at),
            "dur": microseconds(span.busy),
            "args": {
                "message": span.message,
                "origin": span.origin.as_deref(),
                "attempt": span.attempt,
                "calls": span.calls,
                "outcome": span.outcome,
                "cause": span.cause,
                "waited_us": microseconds(waited),
                "queued_at_us": microseconds(span.queued_at),
                "given_at_us": microseconds(span.given_at),
                "reported_at_us": microseconds(span.reported_at),
            }
        });
        match span.worker {
            Some(worker) => {
                event["tid"] = (worker + 1).into();
                if self.named.insert((pid, worker)) {
                    let name = format!("worker {worker}");
                    line(
                        text,
                        &json!({"name": "thread_name", "ph": "M", "pid": pid, "tid": worker + 1, "args": {"name": name}}),
                    );
                }
            }
            // It was at no worker: a mark in its step instead of a bar.
            None => {
                event["ph"] = "i".into();
                event["s"] = "p".into();
            }
        }
        line(text, &event);
    }

    fn numbers(&self, text: &mut String, snapshot: &Snapshot) {
        for step in &snapshot.steps {
            let (pid, ts) = (self.process(&step.name), microseconds(snapshot.elapsed));
            line(
                text,
                &json!({"name": "queue", "ph": "C", "pid": pid, "ts": ts, "args": {"messages": step.queued}}),
            );
        }
    }
}

fn line(text: &mut String, event: &Value) {
    *text += &event.to_string();
    text.push_str(",\n");
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(message: u64) -> Span {
        let at = Duration::from_micros;
        Span {
            step: "S\"".into(),
            worker: Some(1),
            message: Some(message),
            calls: 1,
            attempt: 1,
            origin: Some("a\nb".into()),
            queued_at: at(1),
            given_at: at(2),
            begun_at: at(3),
            reported_at: at(9),
            busy: at(5),
            outcome: "done",
            cause: None,
        }
    }

    #[test]
    fn the_file_is_an_array_with_an_event_a_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let trace = Trace::begin(file.path(), vec!["S\"".into()]).unwrap();
        trace.spans(vec![span(1), span(2)]);
        trace.spans(vec![Span { worker: None, outcome: "dropped", ..span(3) }]);
        trace.finish().unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        let events: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(text.lines().count(), events.len() + 2);
        let kinds: Vec<_> = events.iter().map(|event| event["ph"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["M", "M", "M", "X", "X", "i", "M"]);
        assert_eq!((&events[3]["ts"], &events[3]["dur"]), (&json!(3.0), &json!(5.0)));
        assert_eq!(events[3]["args"]["origin"], "a\nb");
        assert_eq!((&events[3]["pid"], &events[3]["tid"]), (&json!(1), &json!(2)));
        assert_eq!(events[6]["args"]["count"], 0);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let room = Arc::<Room>::default();
        let (sender, parts) = mpsc::channel();
        let (_done, written) = mpsc::channel();
        let trace = Trace { sender, room: Arc::clone(&room), written };
        for _ in 0..3 {
            trace.spans((0..MOST_WAITING as u64 / 2).map(span).collect());
        }
        assert_eq!(parts.try_iter().count(), 2);
        assert_eq!(room.omitted.load(Ordering::Relaxed), MOST_WAITING as u64 / 2);
        assert_eq!(room.waiting.load(Ordering::Relaxed), MOST_WAITING);
    }
}
