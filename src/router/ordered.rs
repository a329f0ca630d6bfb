//! Results in order: the steps that end the pipeline get their messages in the order in
//! which one worker a step would give them, however many there are.
//!
//! Every message has a key: the number of the producer's message that it descends from,
//! then, for each step on its way, its number among what that step emitted for one
//! message. Keys are compared from the left, as words are. A message may be given to an
//! ending step when no open message with a smaller key can still reach that step: what
//! such a message will emit has a key that begins with its own, so it is smaller too.
//!
//! A full queue in front of an ending step must not keep out the message that all others
//! there wait for, so those queues are exempt from their limit, and the producer is
//! granted nothing while one of them is at it. Beyond the limit stands therefore at most
//! what was under way in the other queues and hands; and whatever is under way can always
//! move, for the queue at its end is open.
//!
//! With several producers the order among them is that of their reports. What `finish`
//! emits comes behind everything that there was before it, in the order of the reports.

use std::collections::{BTreeMap, HashMap};

use super::{Phase, Router};
use crate::base::ids::{MessageId, Slot, StepId};
use crate::message::batch::Batch;
use crate::plan::Plan;

/// Compared as words are: what descends from a message comes right behind it.
type Key = Box<[u64]>;

/// The open messages in order.
pub(super) struct Ordered {
    /// Of each step, whether it ends the pipeline.
    ends: Vec<bool>,
    /// Of each step, which ones its messages can reach, itself among them.
    reach: Vec<Vec<bool>>,
    /// The open messages: their numbers and where they are, or are on their way to.
    open: BTreeMap<Key, (MessageId, StepId)>,
    keys: HashMap<MessageId, Key>,
    /// Messages without a parent so far.
    roots: u64,
}

impl Ordered {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut reach = plan.reach();
        reach.iter_mut().enumerate().for_each(|(step, reach)| reach[step] = true);
        Self {
            ends: plan.steps.iter().map(|step| step.routes.is_empty()).collect(),
            reach,
            open: BTreeMap::new(),
            keys: HashMap::new(),
            roots: 0,
        }
    }

    /// Whether the step ends the pipeline.
    pub(super) fn is_end(&self, step: StepId) -> bool {
        self.ends[step.index()]
    }

    fn enter(&mut self, key: Key, message: MessageId, to: StepId) {
        self.keys.insert(message, key.clone());
        self.open.insert(key, (message, to));
    }

    fn leave(&mut self, message: MessageId) {
        if let Some(key) = self.keys.remove(&message) {
            self.open.remove(&key);
        }
    }

    /// A key behind all that there are.
    fn root(&mut self) -> Key {
        self.roots += 1;
        Box::new([self.roots])
    }

    /// Whether nothing that comes before the message can reach the step any more.
    fn is_next(&self, message: MessageId, step: StepId) -> bool {
        let Some(key) = self.keys.get(&message).cloned() else { return true };
        let mut before = self.open.range(..key);
        !before.any(|(_, (_, at))| self.reach[at.index()][step.index()])
    }
}

impl Router {
    /// Gives the outputs of one report their keys. What a report of a stage holds was
    /// emitted for the one message that its worker has in hand: in order nobody has more.
    pub(super) fn order_outputs(&mut self, worker: Slot, held_before: usize) {
        let Some(ordered) = &mut self.ordered else { return };
        let worker = &self.workers[worker];
        let parent = worker.in_hand.front().map(Batch::first);
        let parent = parent.and_then(|message| ordered.keys.get(&message)).cloned();
        for (index, held) in (0..).zip(worker.held.iter().skip(held_before)) {
            let key = match &parent {
                Some(parent) => parent.iter().copied().chain([index]).collect(),
                None => ordered.root(),
            };
            ordered.enter(key, held.batch.first(), held.to);
        }
    }

    /// A message that had failed is tried again, behind all that there are.
    pub(super) fn order_requeued(&mut self, message: MessageId, step: StepId) {
        if let Some(ordered) = &mut self.ordered {
            let key = ordered.root();
            ordered.enter(key, message, step);
        }
    }

    /// These messages have come to their end: others may be next now.
    pub(super) fn order_leaves(&mut self, messages: impl IntoIterator<Item = MessageId>) {
        let Some(ordered) = &mut self.ordered else { return };
        messages.into_iter().for_each(|message| ordered.leave(message));
        for step in self.steps.ids() {
            if self.is_ordered_end(step) {
                self.touch(step);
            }
        }
    }

    /// Whether the step gets its messages in order.
    pub(super) fn is_ordered_end(&self, step: StepId) -> bool {
        self.ordered.as_ref().is_some_and(|ordered| ordered.is_end(step))
    }

    /// Where in the step's queue a message belongs, counted from the front.
    pub(super) fn order_in_queue(&self, step: StepId, message: MessageId) -> Option<usize> {
        let ordered = self.ordered.as_ref().filter(|ordered| ordered.ends[step.index()])?;
        let key = ordered.keys.get(&message)?;
        let queue = &self.steps[step].queue;
        Some(queue.partition_point(|other| ordered.keys.get(&other.first()) < Some(key)))
    }

    /// Whether the step may be given what its queue would give next.
    pub(super) fn is_next_in_order(&self, step: StepId, now: std::time::Duration) -> bool {
        let Some(ordered) = self.ordered.as_ref().filter(|ordered| ordered.ends[step.index()])
        else {
            return true;
        };
        let next = self.steps[step].queue.next(now);
        next.is_none_or(|message| ordered.is_next(message, step))
    }

    /// Whether a queue of results that wait for their turn is at its limit.
    pub(super) fn results_are_many(&self) -> bool {
        let is_full = |step: &StepId| {
            let step = &self.steps[*step];
            step.phase == Phase::Running && step.queue.room() == 0
        };
        self.ordered.is_some()
            && self.steps.ids().filter(|s| self.is_ordered_end(*s)).any(|s| is_full(&s))
    }
}
