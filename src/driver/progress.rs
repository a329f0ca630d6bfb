//! What the loop itself publishes: the progress of the run, and the notes of workers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::base::path_name::name_of_path;
use crate::event::{Event, Level, Snapshot};
use crate::sinks::Sinks;
use crate::stage::ActionCounts;
use crate::stage::actions::ActionTally;
use crate::stage::scope::Note;

/// The time between progress events: as often as a person sees a change.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// The time between progress events while nothing happens: an idle run uses no processor time.
const STANDING_EVERY: Duration = Duration::from_secs(1);
/// The least time between two events about products of one step. All products are counted, and
/// all go to the journal.
const PRODUCT_EVERY: Duration = Duration::from_millis(100);
/// The most directories whose products are counted apart; those of the others are counted
/// together.
const MAX_DIRECTORIES: usize = 1000;
const ELSEWHERE: &str = "other directories";

/// What workers have announced in a whole run.
pub(crate) struct Totals {
    /// The number of products in each directory.
    pub(crate) products: BTreeMap<String, u64>,
    /// By step.
    pub(crate) actions: BTreeMap<Arc<str>, Vec<ActionCounts>>,
}

/// When the next events are due, and what is counted.
#[derive(Default)]
pub(super) struct Progress {
    /// When the latest progress event was published, if one was.
    latest: Option<Duration>,
    /// Whether nothing has happened since the latest progress event.
    is_standing: bool,
    next_product: BTreeMap<Arc<str>, Duration>,
    products: BTreeMap<String, u64>,
    /// By step.
    actions: BTreeMap<Arc<str>, ActionTally>,
}

impl Progress {
    /// When the next progress event is due.
    pub(super) fn next(&self) -> Duration {
        let every = if self.is_standing { STANDING_EVERY } else { PROGRESS_EVERY };
        self.latest.map_or(Duration::ZERO, |latest| latest + every)
    }

    /// Something has happened.
    pub(super) fn stir(&mut self) {
        self.is_standing = false;
    }

    /// Whether a progress event is due.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        now >= self.next()
    }

    /// A progress event is published, with what the driver itself counts.
    pub(super) fn publish(&mut self, snapshot: &mut Snapshot) {
        for step in &mut snapshot.steps {
            if let Some(tally) = self.actions.get(&step.name) {
                step.actions = tally.counts().to_vec();
            }
        }
        self.latest = Some(snapshot.elapsed);
        self.is_standing = snapshot.steps.iter().all(|step| step.busy == 0);
    }

    /// Publishes a note of a worker, given its number in the step.
    pub(super) fn note(&mut self, sinks: &mut Sinks, step: &Arc<str>, worker: usize, note: Note) {
        match note {
            Note::Expected(total) => {
                sinks.event(Event::Expected { step: Arc::clone(step), total });
            }
            Note::Warning(text) => sinks.event(Event::Said {
                step: Arc::clone(step),
                worker,
                level: Level::Warning,
                logger: String::new(),
                text,
            }),
            Note::Actions(actions) => {
                let tally = self.actions.entry(Arc::clone(step)).or_default();
                actions.iter().for_each(|counts| tally.add(counts));
            }
            Note::Product { path, origin } => {
                sinks.product(step, origin.as_ref(), &path);
                self.count_product(&path);
                let now = sinks.stream().elapsed();
                let next = self.next_product.entry(Arc::clone(step)).or_default();
                if now >= *next {
                    *next = now + PRODUCT_EVERY;
                    sinks.event(Event::Product { step: Arc::clone(step), worker, origin, path });
                }
            }
        }
    }

    fn count_product(&mut self, path: &Path) {
        let directory = path.parent().filter(|parent| *parent != Path::new(""));
        let directory = name_of_path(directory.unwrap_or(Path::new(".")));
        let is_full = self.products.len() >= MAX_DIRECTORIES;
        let counted = match is_full && !self.products.contains_key(&directory) {
            true => ELSEWHERE.to_owned(),
            false => directory,
        };
        *self.products.entry(counted).or_default() += 1;
    }

    /// The number of products in each directory, and the actions of each step.
    pub(super) fn into_totals(self) -> Totals {
        let Self { products, actions, .. } = self;
        let actions = actions.into_iter().map(|(step, mut tally)| (step, tally.take())).collect();
        Totals { products, actions }
    }
}
