//! Where the events, the failed inputs and the records of a run go.

pub(crate) mod journal;
pub(crate) mod quarantine;
pub(crate) mod trace;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::base::path_name::name_of_path;
use crate::event::{Event, Level, Snapshot};
use crate::router::{FailedInput, Input, Record, Router, Span};
use crate::stage::scope::Note;
use crate::status::stream::Stream;
use journal::{Journal, JournalSummary};
use quarantine::{QuarantineSummary, QuarantineWriter};
use trace::Trace;

/// Time between progress events.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// Of one step so many products a second are told at most.
const PRODUCT_EVERY: Duration = Duration::from_millis(100);
/// Products are counted for so many directories, and those of the others together.
const MOST_DIRECTORIES: usize = 1000;
const ELSEWHERE: &str = "other directories";

/// Carries what the router tells to the observers, and what failed to quarantine.
pub(crate) struct RunSinks {
    stream: Stream,
    keeper: QuarantineWriter,
    journal: Option<Journal>,
    trace: Option<Trace>,
    next_progress: Duration,
    /// When the next product of each step is told.
    next_product: BTreeMap<Arc<str>, Duration>,
    /// How many products are in each directory.
    products: BTreeMap<String, u64>,
}

/// What is left when the run has ended.
pub(crate) struct SinkReport {
    pub(crate) kept: QuarantineSummary,
    pub(crate) journal: JournalSummary,
    pub(crate) products: BTreeMap<String, u64>,
}

impl RunSinks {
    pub(crate) fn new(stream: Stream, keeper: QuarantineWriter, journal: Option<Journal>) -> Self {
        Self {
            stream,
            keeper,
            journal,
            trace: None,
            next_progress: Duration::ZERO,
            next_product: BTreeMap::new(),
            products: BTreeMap::new(),
        }
    }

    /// Has it written when each message waited and ran.
    pub(crate) fn set_trace(&mut self, trace: Option<Trace>) {
        self.trace = trace;
    }

    /// Whether the router has to tell when each message waited and ran.
    pub(crate) fn has_trace(&self) -> bool {
        self.trace.is_some()
    }

    /// Whether there is a journal, so that the router has to tell of each item.
    pub(crate) fn has_journal(&self) -> bool {
        self.journal.is_some()
    }

    /// Takes out of a producer's report what the journal has as done.
    pub(crate) fn skip_completed(&mut self, mut input: Input, router: &Router) -> Input {
        let Some(journal) = &mut self.journal else { return input };
        if let Input::Produced { worker, outputs, .. } | Input::Finished { worker, outputs, .. } =
            &mut input
            && router.is_producer(*worker)
        {
            let events = journal.skip_completed(&router.step_name(*worker), outputs);
            events.into_iter().for_each(|event| self.tell(event));
        }
        input
    }

    pub(crate) fn record(&mut self, record: Record) {
        if let Some(journal) = &mut self.journal {
            journal.record(record);
        }
    }

    pub(crate) fn trace(&mut self, spans: Vec<Span>) {
        if let Some(trace) = &self.trace {
            trace.spans(spans);
        }
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.stream.tell(event);
    }

    /// What a worker makes known.
    pub(crate) fn note(&mut self, step: &Arc<str>, worker: usize, notes: Vec<Note>) {
        for note in notes {
            match note {
                Note::Expected(total) => {
                    self.tell(Event::Expected { step: Arc::clone(step), total });
                }
                Note::Warning(text) => self.tell(Event::Said {
                    step: Arc::clone(step),
                    worker,
                    level: Level::Warning,
                    logger: String::new(),
                    text,
                }),
                Note::Product { path, origin } => {
                    if let Some(journal) = &mut self.journal {
                        journal.product(step, origin.clone(), path.clone());
                    }
                    self.count_product(&path);
                    let now = self.stream.elapsed();
                    let next = self.next_product.entry(Arc::clone(step)).or_default();
                    if now >= *next {
                        *next = now + PRODUCT_EVERY;
                        self.tell(Event::Product { step: Arc::clone(step), worker, origin, path });
                    }
                }
            }
        }
    }

    fn count_product(&mut self, path: &Path) {
        let directory = path.parent().filter(|parent| *parent != Path::new(""));
        let directory = name_of_path(directory.unwrap_or(Path::new(".")));
        let full = self.products.len() >= MOST_DIRECTORIES;
        let counted = match full && !self.products.contains_key(&directory) {
            true => ELSEWHERE.to_owned(),
            false => directory,
        };
        *self.products.entry(counted).or_default() += 1;
    }

    pub(crate) fn quarantine(&mut self, failed_input: FailedInput) {
        self.keeper.keep(failed_input);
    }

    /// Tells where the run stands, if it is time to.
    pub(crate) fn progress(&mut self, now: Duration, snapshot: impl FnOnce() -> Snapshot) {
        if now >= self.next_progress {
            self.next_progress = now + PROGRESS_EVERY;
            let snapshot = snapshot();
            if let Some(trace) = &self.trace {
                trace.numbers(&snapshot);
            }
            self.tell(Event::Progress(snapshot));
        }
    }

    /// The instant of the next progress event.
    pub(crate) fn next_progress(&self) -> Duration {
        self.next_progress
    }

    /// Waits until every failed input is kept and every record is written.
    pub(crate) fn finish(self, router: &Router) -> SinkReport {
        let verdict = router.verdict();
        if let Some(Err(error)) = self.trace.map(Trace::finish) {
            // The run itself is not affected.
            tracing::warn!("the trace is not whole: {error}");
        }
        let mut kept = self.keeper.finish();
        if router.has_done_all() && kept.error.is_none() {
            // They were tried again, and what failed again has an entry of its own.
            kept.remove(router.requeued());
        }
        let journal = self.journal.map(|journal| journal.finish(verdict.name()));
        SinkReport { kept, journal: journal.unwrap_or_default(), products: self.products }
    }
}
