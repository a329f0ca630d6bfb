//! Actions: parts of a step's work that its stage counts itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::in_seconds;

/// The most actions of a step that are counted apart; all others are counted together.
const MOST_NAMES: usize = 500;
const OTHERS: &str = "other actions";
/// The most characters of a name; a longer one is cut.
const LONGEST_NAME: usize = 200;

/// How one execution of an action has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActionOutcome {
    /// It has done what it is for.
    Done,
    /// There was nothing for it to do.
    Skipped,
    /// It has failed.
    Failed,
    /// It cannot be done yet.
    Deferred,
}

/// How often an action of a step was executed. Executions are counted, not messages: those of calls
/// that fail and are repeated count too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ActionCounts {
    /// The name of the action.
    pub name: Arc<str>,
    /// Executions that have done something.
    pub done: u64,
    /// Executions that had nothing to do.
    pub skipped: u64,
    /// Executions that have failed.
    pub failed: u64,
    /// Executions that could not be done yet.
    pub deferred: u64,
    /// The time that all executions have taken together, in seconds.
    #[serde(rename = "busy_s", with = "in_seconds")]
    pub busy: Duration,
}

impl ActionCounts {
    pub(crate) fn new(name: &str) -> Self {
        let (name, busy) = (cut(name), Duration::ZERO);
        Self { name, done: 0, skipped: 0, failed: 0, deferred: 0, busy }
    }

    /// Adds one execution.
    pub(super) fn count(&mut self, outcome: ActionOutcome, busy: Duration) {
        let count = match outcome {
            ActionOutcome::Done => &mut self.done,
            ActionOutcome::Skipped => &mut self.skipped,
            ActionOutcome::Failed => &mut self.failed,
            ActionOutcome::Deferred => &mut self.deferred,
        };
        *count += 1;
        self.busy = self.busy.saturating_add(busy);
    }

    fn add(&mut self, more: &Self) {
        self.done += more.done;
        self.skipped += more.skipped;
        self.failed += more.failed;
        self.deferred += more.deferred;
        self.busy = self.busy.saturating_add(more.busy);
    }
}

fn cut(name: &str) -> Arc<str> {
    match name.char_indices().nth(LONGEST_NAME) {
        None => name.into(),
        Some((end, _)) => format!("{}…", &name[..end]).into(),
    }
}

/// The actions of a step, in the order in which they were first executed.
#[derive(Debug, Default)]
pub(crate) struct ActionTally {
    counts: Vec<ActionCounts>,
    places: BTreeMap<Arc<str>, usize>,
}

impl ActionTally {
    pub(crate) const fn new() -> Self {
        Self { counts: Vec::new(), places: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    pub(crate) fn counts(&self) -> &[ActionCounts] {
        &self.counts
    }

    pub(crate) fn add(&mut self, more: &ActionCounts) {
        self.of(&more.name).add(more);
    }

    /// Empties it.
    pub(crate) fn take(&mut self) -> Vec<ActionCounts> {
        self.places.clear();
        std::mem::take(&mut self.counts)
    }

    /// The counts of an action, which may be new.
    pub(super) fn of(&mut self, name: &str) -> &mut ActionCounts {
        let place = match self.places.get(name) {
            Some(place) => *place,
            None => self.place(name),
        };
        &mut self.counts[place]
    }

    /// The place of an action that may be new.
    fn place(&mut self, name: &str) -> usize {
        let mut new = ActionCounts::new(name);
        let known = self.places.get(&new.name).copied();
        if known.is_none() && self.counts.len() >= MOST_NAMES {
            new.name = OTHERS.into();
        }
        if let Some(place) = known.or_else(|| self.places.get(&new.name).copied()) {
            return place;
        }
        let place = self.counts.len();
        self.places.insert(Arc::clone(&new.name), place);
        self.counts.push(new);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_counted_by_name_in_the_order_of_their_first_execution() {
        let mut tally = ActionTally::new();
        let second = Duration::from_secs(1);
        tally.of("flat").count(ActionOutcome::Done, second);
        tally.of("bias").count(ActionOutcome::Skipped, Duration::ZERO);
        tally.of("flat").count(ActionOutcome::Failed, second);
        let mut all = ActionTally::new();
        all.add(&tally.counts()[0]);
        tally.take().iter().for_each(|counts| all.add(counts));
        assert!(tally.is_empty());
        let [flat, bias] = all.counts() else { panic!("{all:?}") };
        assert_eq!((&*flat.name, flat.done, flat.failed), ("flat", 2, 2));
        assert_eq!(flat.busy, 4 * second);
        assert_eq!((&*bias.name, bias.skipped, bias.deferred), ("bias", 1, 0));
    }

    #[test]
    fn many_names_are_bounded_and_long_ones_are_cut() {
        let mut tally = ActionTally::new();
        for name in 0..2 * MOST_NAMES {
            tally.of(&name.to_string()).count(ActionOutcome::Deferred, Duration::ZERO);
        }
        assert_eq!(tally.counts().len(), MOST_NAMES + 1);
        let others = tally.counts().last().unwrap();
        assert_eq!((&*others.name, others.deferred), (OTHERS, MOST_NAMES as u64));
        let long = "é".repeat(LONGEST_NAME + 1);
        let mut tally = ActionTally::new();
        tally.of(&long).count(ActionOutcome::Done, Duration::ZERO);
        tally.of(&long).count(ActionOutcome::Done, Duration::ZERO);
        assert_eq!(tally.counts().len(), 1);
        assert_eq!(tally.counts()[0].name.chars().count(), LONGEST_NAME + 1);
    }
}
