//! Where the output of a run goes: its stream and its [`Sink`]s.
//!
//! A new sink is a file here and a line where the pipeline adds it. The stream is not a sink: it
//! numbers the events, and everyone who watches or controls the run reads it.

#[cfg_attr(not(feature = "journal"), path = "journal/not_built.rs")]
pub(crate) mod journal;
pub(crate) mod lossy_writer;
pub(crate) mod quarantine;
pub(crate) mod trace;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec::Drain;

use crate::event::Event;
use crate::router::{FailedInput, Input, Record, Router, Span};
use crate::status::stream::Stream;
use journal::SkipCompleted;

/// Takes the output of a run, on the router's thread.
///
/// Every call except [`finish`](Self::finish) returns at once: slow work belongs on a thread of the
/// sink's own. A sink that must not lose anything may let the caller wait for room, as the journal
/// and the quarantine do when a disk cannot keep up; one that serves a reader drops what finds no
/// room, and counts it. A sink that can no longer do its work reports that at once through a
/// callback that it was made with, and again in `finish`; it never fails a call.
///
/// Calls come in the order of events. No call follows `finish`; if `finish` is never called, the
/// run failed before it began.
pub(crate) trait Sink: Send {
    /// What the router must record for this sink; it records nothing that no sink needs.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Takes an event that is about to be published.
    fn event(&mut self, _event: &Event) {}

    /// Takes the records of items since the last call. Only with [`Needs::items`].
    fn items(&mut self, _records: Drain<'_, Record>) {}

    /// Takes when messages waited and ran. Only with [`Needs::spans`].
    fn spans(&mut self, _spans: Drain<'_, Span>) {}

    /// Takes an input that failed for good.
    fn failed_input(&mut self, _input: &Arc<FailedInput>) {}

    /// Takes a product that a step has announced, and the item that it is made of.
    fn product(&mut self, _step: &Arc<str>, _item: Option<&Arc<str>>, _path: &Path) {}

    /// Waits until everything is written, and says what was lost.
    fn finish(self: Box<Self>, _end: &RunEnd<'_>) -> Finished {
        Finished::default()
    }
}

/// What the router records only if a sink needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Needs {
    /// What became of each item.
    pub(crate) items: bool,
    /// When each message waited and ran.
    pub(crate) spans: bool,
}

/// How a run ended, as far as sinks need to know.
pub(crate) struct RunEnd<'r> {
    /// The name of its verdict.
    pub(crate) verdict: &'static str,
    /// Whether everything was done that could be.
    pub(crate) is_complete: bool,
    /// The quarantine entries whose inputs were tried again.
    pub(crate) requeued: &'r BTreeSet<String>,
}

/// What a sink reports at the end.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    /// What was lost, and why: it becomes the verdict of the run.
    pub(crate) lost: Option<String>,
    /// The directory with failed inputs, and their number.
    pub(crate) quarantined: Option<(PathBuf, u64)>,
}

/// The stream and the sinks of one run.
pub(crate) struct Sinks {
    stream: Stream,
    sinks: Vec<Box<dyn Sink>>,
    skip: Option<SkipCompleted>,
    /// Records for the next call of [`Sinks::pass_on_records`].
    records: Vec<Record>,
}

/// What all sinks together report at the end.
#[derive(Debug, Default)]
pub(crate) struct SinkReport {
    pub(crate) finished: Finished,
    /// Messages of the producer that were not processed, because they are done.
    pub(crate) skipped: u64,
}

impl Sinks {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, sinks: Vec::new(), skip: None, records: Vec::new() }
    }

    /// Adds a sink. They are called, and finished, in the order in which they were added.
    pub(crate) fn add(&mut self, sink: impl Sink + 'static) {
        self.sinks.push(Box::new(sink));
    }

    /// Makes the run skip what an earlier run has done.
    pub(crate) fn set_skip(&mut self, skip: SkipCompleted) {
        self.skip = Some(skip);
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The needs of all sinks together.
    pub(crate) fn needs(&self) -> Needs {
        self.sinks.iter().map(|sink| sink.needs()).fold(Needs::default(), |all, needs| Needs {
            items: all.items || needs.items,
            spans: all.spans || needs.spans,
        })
    }

    /// Removes from a producer's report what an earlier run has done.
    pub(crate) fn skip_completed(&mut self, mut input: Input, router: &mut Router) -> Input {
        let Some(skip) = &mut self.skip else { return input };
        if let Input::Produced { worker, outputs, .. } | Input::Finished { worker, outputs, .. } =
            &mut input
            && router.is_producer(*worker)
        {
            let (events, skipped) = skip.skip_completed(&router.step_name(*worker), outputs);
            if !skipped.is_empty() {
                router.skipped(*worker, skipped);
            }
            events.into_iter().for_each(|event| self.event(event));
        }
        input
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.sinks.iter_mut().for_each(|sink| sink.event(&event));
        self.stream.publish(event);
    }

    /// Keeps a record for [`Sinks::pass_on_records`].
    pub(crate) fn record(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Passes all records so far to the sinks, with one call each.
    pub(crate) fn pass_on_records(&mut self) {
        if self.records.is_empty() {
            return;
        }
        let takers = self.sinks.iter_mut().filter(|sink| sink.needs().items);
        give(&mut self.records, takers, |sink, records| sink.items(records));
    }

    pub(crate) fn spans(&mut self, mut spans: Vec<Span>) {
        let takers = self.sinks.iter_mut().filter(|sink| sink.needs().spans);
        give(&mut spans, takers, |sink, spans| sink.spans(spans));
    }

    pub(crate) fn failed_input(&mut self, input: FailedInput) {
        let input = Arc::new(input);
        self.sinks.iter_mut().for_each(|sink| sink.failed_input(&input));
    }

    pub(crate) fn product(&mut self, step: &Arc<str>, item: Option<&Arc<str>>, path: &Path) {
        self.sinks.iter_mut().for_each(|sink| sink.product(step, item, path));
    }

    /// Waits for all sinks, one after the other. Of several losses the first counts.
    pub(crate) fn finish(mut self, end: &RunEnd<'_>) -> SinkReport {
        self.pass_on_records();
        // It goes first: the journal waits until no sender is left.
        let skipped = self.skip.take().map_or(0, SkipCompleted::finish);
        let mut all = Finished::default();
        for sink in self.sinks {
            let Finished { lost, quarantined } = sink.finish(end);
            all.lost = all.lost.or(lost);
            all.quarantined = all.quarantined.or(quarantined);
        }
        SinkReport { finished: all, skipped }
    }
}

/// Gives the values to each of the takers, and empties `values`. With one taker nothing is copied.
fn give<T: Clone, S>(
    values: &mut Vec<T>,
    takers: impl Iterator<Item = S>,
    take: impl Fn(S, Drain<'_, T>),
) {
    let mut takers = takers.peekable();
    while let Some(taker) = takers.next() {
        match takers.peek() {
            Some(_) => take(taker, values.clone().drain(..)),
            None => take(taker, values.drain(..)),
        }
    }
    values.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::End;

    /// Notes what it gets; as small as a sink can be.
    struct Noting {
        needs: Needs,
        notes: std::sync::mpsc::Sender<String>,
    }

    impl Noting {
        fn note(&self, text: String) {
            self.notes.send(text).unwrap();
        }
    }

    impl Sink for Noting {
        fn needs(&self) -> Needs {
            self.needs
        }

        fn event(&mut self, event: &Event) {
            let Event::Expected { total, .. } = event else { panic!("{event:?}") };
            self.note(format!("event {total}"));
        }

        fn items(&mut self, records: Drain<'_, Record>) {
            self.note(format!("{} records", records.len()));
        }

        fn product(&mut self, step: &Arc<str>, _: Option<&Arc<str>>, path: &Path) {
            self.note(format!("{step} {}", path.display()));
        }

        fn finish(self: Box<Self>, end: &RunEnd<'_>) -> Finished {
            let lost = Some(format!("{} with {:?}", end.verdict, self.needs));
            Finished { lost, quarantined: None }
        }
    }

    fn record() -> Record {
        Record::Closed { origin: "a".into(), occurrences: 1, end: End::Done }
    }

    #[test]
    fn each_sink_gets_what_it_needs_and_the_first_loss_counts() {
        let (notes, noted) = std::sync::mpsc::channel();
        let stream = Stream::new();
        let mut sinks = Sinks::new(stream.clone());
        let with = |items| Noting { needs: Needs { items, spans: false }, notes: notes.clone() };
        assert_eq!(sinks.needs(), Needs::default());
        for items in [true, false, true] {
            sinks.add(with(items));
        }
        assert_eq!(sinks.needs(), Needs { items: true, spans: false });
        sinks.event(Event::Expected { step: "S".into(), total: 7 });
        sinks.record(record());
        sinks.record(record());
        sinks.pass_on_records();
        sinks.pass_on_records();
        sinks.product(&"S".into(), None, Path::new("p"));
        assert_eq!(stream.number(), 1);
        let end = RunEnd { verdict: "done", is_complete: true, requeued: &BTreeSet::new() };
        let report = sinks.finish(&end);
        drop(notes);
        let noted: Vec<String> = noted.iter().collect();
        let expected = [["event 7"; 3].as_slice(), &["2 records"; 2], &["S p"; 3]].concat();
        assert_eq!(noted, expected);
        let lost = report.finished.lost.unwrap();
        assert_eq!(lost, "done with Needs { items: true, spans: false }");
    }
}
