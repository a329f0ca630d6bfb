//! The file that `--trace` names: when each message waited and ran, at which worker, in
//! the JSON form of trace events, as Perfetto and chrome://tracing open it.
//!
//! One process of the file is a step, one thread a worker. Events that find no room in memory are
//! left out, and their number is written at the end. The file is an array with one event a line,
//! written as the run goes: if a run is killed, the array stays open, which both programs accept.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::vec::Drain;

use serde_json::{Value, json};

use super::lossy_writer::{Buffer, LossyWriter};
use super::{Finished, Needs, RunEnd, Sink};
use crate::event::{Event, Snapshot};
use crate::router::Span;

/// The most spans that wait to be written: about 30 MB.
const MAX_WAITING: usize = 100_000;

/// The trace of a run that is under way.
pub(crate) struct Trace(LossyWriter<Waiting>);

/// What has not been written yet.
#[derive(Default)]
struct Waiting {
    parts: VecDeque<Part>,
    /// The number of spans and counters in them.
    count: usize,
    omitted: usize,
}

enum Part {
    Text(String),
    Spans(Vec<Span>),
    Numbers(Snapshot),
}

impl Part {
    fn count(&self) -> usize {
        match self {
            Self::Text(_) => 0,
            Self::Spans(spans) => spans.len(),
            Self::Numbers(snapshot) => snapshot.steps.len(),
        }
    }
}

impl Waiting {
    fn add(&mut self, part: Part) {
        let count = part.count();
        if self.count + count > MAX_WAITING {
            self.omitted += count;
        } else {
            self.count += count;
            self.parts.push_back(part);
        }
    }

    /// Closes the array.
    fn end(&mut self) {
        let count = self.omitted;
        let end =
            json!({"name": "omitted", "ph": "M", "pid": 0, "tid": 0, "args": {"count": count}});
        self.add(Part::Text(format!("{end}\n]\n")));
    }
}

impl Buffer for Waiting {
    type Portion = Part;

    fn take(&mut self) -> Option<Part> {
        let part = self.parts.pop_front()?;
        self.count -= part.count();
        Some(part)
    }
}

impl Trace {
    /// Begins the file for a run with these steps.
    ///
    /// # Errors
    /// If it cannot be written to.
    pub(crate) fn begin(path: &Path, steps: Vec<Arc<str>>) -> io::Result<Self> {
        let mut waiting = Waiting::default();
        waiting.add(Part::Text(opening(&steps)));
        let mut formatter = Formatter { steps, named: BTreeSet::new() };
        let format = move |part, text: &mut String| formatter.part(text, part);
        LossyWriter::open(path, "trace", waiting, format).map(Self)
    }
}

impl Sink for Trace {
    fn needs(&self) -> Needs {
        Needs { items: false, spans: true }
    }

    fn event(&mut self, event: &Event) {
        if let Event::Progress(snapshot) = event {
            self.0.put(|waiting| waiting.add(Part::Numbers(snapshot.clone())));
        }
    }

    fn spans(&mut self, spans: Drain<'_, Span>) {
        let spans = spans.collect();
        self.0.put(|waiting| waiting.add(Part::Spans(spans)));
    }

    /// An incomplete trace does not affect the run.
    fn finish(self: Box<Self>, _: &RunEnd<'_>) -> Finished {
        if let Err(error) = self.0.finish(Waiting::end) {
            tracing::warn!("the trace is incomplete: {error}");
        }
        Finished::default()
    }
}

/// The beginning of the file, which names the steps.
fn opening(steps: &[Arc<str>]) -> String {
    let mut text = String::from("[\n");
    for (pid, step) in (1..).zip(steps) {
        let metadata = |name: &str, args: Value| json!({"name": name, "ph": "M", "pid": pid, "tid": 0, "args": args});
        line(&mut text, &metadata("process_name", json!({"name": **step})));
        line(&mut text, &metadata("process_sort_index", json!({"sort_index": pid})));
    }
    text
}

/// Writes spans and counters as trace events.
struct Formatter {
    steps: Vec<Arc<str>>,
    /// The workers whose names have been written.
    named: BTreeSet<(usize, usize)>,
}

impl Formatter {
    fn part(&mut self, text: &mut String, part: Part) {
        match part {
            Part::Text(lines) => text.push_str(&lines),
            Part::Spans(spans) => spans.iter().for_each(|span| self.span(text, span)),
            Part::Numbers(snapshot) => self.numbers(text, &snapshot),
        }
    }

    /// The number that stands for a step, from 1; 0 for none.
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
                "message": span.message.map(|message| message.0),
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
            // No worker had it: a mark in its step instead of a bar.
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
    use crate::base::ids::MessageId;

    fn span(message: u64) -> Span {
        let at = Duration::from_micros;
        Span {
            step: "S\"".into(),
            worker: Some(1),
            message: Some(MessageId(message)),
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
        let mut trace = Trace::begin(file.path(), vec!["S\"".into()]).unwrap();
        trace.spans(vec![span(1), span(2)].drain(..));
        trace.spans(vec![Span { worker: None, outcome: "dropped", ..span(3) }].drain(..));
        let end = RunEnd { verdict: "done", is_complete: true, requeued: &BTreeSet::new() };
        Box::new(trace).finish(&end);
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
        let mut waiting = Waiting::default();
        for _ in 0..3 {
            let spans = (0..MAX_WAITING as u64 / 2).map(span).collect();
            waiting.add(Part::Spans(spans));
        }
        assert_eq!((waiting.parts.len(), waiting.count), (2, MAX_WAITING));
        assert_eq!(waiting.omitted, MAX_WAITING / 2);
        assert_eq!(waiting.take().map(|part| part.count()), Some(MAX_WAITING / 2));
        assert_eq!(waiting.count, MAX_WAITING / 2);
    }
}
