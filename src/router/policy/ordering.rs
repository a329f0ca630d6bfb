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
//! granted nothing while one of them is at its limit. So a queue exceeds its limit at most by
//! what was under way in the other queues and in hand; and whatever is under way can always
//! move, because the queue at its end is open.
//!
//! With several producers the order among them is that of their reports. What `finish`
//! emits comes behind everything that there was before it, in the order of the reports.

use std::collections::{BTreeMap, HashMap};

use crate::base::ids::{MessageId, StepId};
use crate::plan::Plan;

/// Compared as words are: what descends from a message comes right behind it.
pub(in crate::router) type Key = Box<[u64]>;

/// The open messages in order.
pub(in crate::router) struct Order {
    /// For each step, whether it ends the pipeline.
    ends: Vec<bool>,
    /// For each step, the steps that its messages can reach, itself among them.
    reach: Vec<Vec<bool>>,
    /// The open messages: their numbers and where they are, or are on their way to.
    open: BTreeMap<Key, (MessageId, StepId)>,
    keys: HashMap<MessageId, Key>,
    /// Messages without a parent so far.
    roots: u64,
}

impl Order {
    pub(in crate::router) fn new(plan: &Plan) -> Self {
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
    pub(in crate::router) fn is_end(&self, step: StepId) -> bool {
        self.ends[step.index()]
    }

    pub(in crate::router) fn enter(&mut self, key: Key, message: MessageId, to: StepId) {
        self.keys.insert(message, key.clone());
        self.open.insert(key, (message, to));
    }

    pub(in crate::router) fn leave(&mut self, message: MessageId) {
        if let Some(key) = self.keys.remove(&message) {
            self.open.remove(&key);
        }
    }

    /// A key behind all that there are.
    pub(in crate::router) fn root(&mut self) -> Key {
        self.roots += 1;
        Box::new([self.roots])
    }

    /// Whether nothing that comes before the message can reach the step any more.
    pub(in crate::router) fn may_give(&self, message: MessageId, step: StepId) -> bool {
        let Some(key) = self.keys.get(&message).cloned() else { return true };
        let mut before = self.open.range(..key);
        !before.any(|(_, (_, at))| self.reach[at.index()][step.index()])
    }

    /// The key of an open message.
    pub(in crate::router) fn key(&self, message: MessageId) -> Option<&Key> {
        self.keys.get(&message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of three steps, of which the last gets its messages in order.
    fn line() -> Order {
        let reach = (0..3).map(|from| (0..3).map(|to| to >= from).collect()).collect();
        let ends = vec![false, false, true];
        Order { ends, reach, open: BTreeMap::new(), keys: HashMap::new(), roots: 0 }
    }

    #[test]
    fn a_message_is_given_when_nothing_before_it_can_reach_its_step() {
        const END: StepId = StepId(2);
        // The open messages: their keys, and where each is. Message 1 is at the end.
        type Case = (&'static [(&'static [u64], u32)], bool);
        let cases: [Case; 6] = [
            (&[(&[2], 2)], true),
            (&[(&[2], 2), (&[1], 1)], false),
            (&[(&[2], 2), (&[1], 2)], false),
            (&[(&[2], 2), (&[3], 0)], true),
            (&[(&[2, 1], 2), (&[2, 0], 1)], false),
            (&[(&[2, 0], 2), (&[2, 1], 1)], true),
        ];
        for (open, expected) in cases {
            let mut order = line();
            for (id, (key, at)) in (1..).zip(open) {
                order.enter((*key).into(), MessageId(id), StepId(*at));
            }
            assert_eq!(order.may_give(MessageId(1), END), expected, "{open:?}");
        }
        let mut order = line();
        order.enter([2].into(), MessageId(1), END);
        order.enter([1].into(), MessageId(2), StepId(1));
        order.leave(MessageId(2));
        assert!(order.may_give(MessageId(1), END), "what came before it has ended");
    }

    #[test]
    fn a_message_that_has_no_key_waits_for_nothing() {
        assert!(line().may_give(MessageId(9), StepId(2)));
    }
}
