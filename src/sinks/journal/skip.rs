//! Skips what earlier runs have done.

use std::sync::Arc;

use super::previous::Past;
use super::{Entry, FileState, Queue, look_at_size};
use crate::event::Event;
use crate::message::batch::Output;
use crate::message::{ItemKey, NO_ITEM};

/// Removes from a producer's reports what earlier runs have done, and records the rest as begun.
pub(crate) struct SkipCompleted {
    queue: Queue,
    /// None unless the run skips completed items.
    past: Option<Past>,
    /// The number of messages skipped.
    skipped: u64,
    /// Whether a warning has said that the producer emits messages that cannot be tracked.
    warned: bool,
}

impl SkipCompleted {
    pub(super) fn new(queue: Queue, past: Option<Past>) -> Self {
        Self { queue, past, skipped: 0, warned: false }
    }

    /// Removes from the outputs of a producer what is done, and records that the rest is begun.
    /// Returns what the observers should know, and the items that are done.
    pub(crate) fn skip_completed(
        &mut self,
        step: &Arc<str>,
        outputs: &mut Vec<Output>,
    ) -> (Vec<Event>, Vec<(u64, ItemKey)>) {
        let (mut events, mut skipped) = (Vec::new(), Vec::new());
        outputs.retain(|output| match output {
            Output::One { origin: Some(origin), item, .. } => {
                let is_to_run = self.is_to_run(origin, &mut events);
                if !is_to_run && *item != NO_ITEM {
                    skipped.push((*item, Some(Arc::clone(origin))));
                }
                is_to_run
            }
            Output::One { .. } | Output::Many { .. } => {
                if !std::mem::replace(&mut self.warned, true) {
                    events.push(Event::Untracked { step: Arc::clone(step) });
                }
                true
            }
        });
        (events, skipped)
    }

    fn is_to_run(&mut self, origin: &Arc<str>, events: &mut Vec<Event>) -> bool {
        let file = FileState::of(origin);
        let mut done = 0;
        if let Some(past) = &mut self.past {
            let decision = past.decide(origin, &file, &look_at_size);
            events.push(Event::Decided {
                origin: Arc::clone(origin),
                skipped: decision.skip,
                why: decision.why,
            });
            if decision.skip {
                self.skipped += 1;
                return false;
            }
            done = decision.done;
        }
        let file = file.ok().flatten();
        self.queue.send(Entry::Begun { origin: Arc::clone(origin), done, file });
        true
    }

    /// Closes its queue to the journal, and returns the number of messages skipped.
    pub(crate) fn finish(self) -> u64 {
        self.skipped
    }
}
