//! I12: in one queue nothing of normal priority is given out while something of high priority is
//! servable; within a priority messages keep their order, but for retries; what is given back
//! comes first in its line.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::RngExt;

use super::plans::Token;
use super::*;
use crate::message::ByPriority;

/// What a simulation knows of the priorities of its messages.
#[derive(Default)]
pub(super) struct Priorities {
    /// Whether some are high.
    are_used: bool,
    /// By token: its priority, and the worker that has emitted it.
    emitted: BTreeMap<u64, (Priority, WorkerId)>,
    /// The tokens that were given to some worker, or tried again by an operator.
    given: BTreeSet<u64>,
    /// The latest token of each worker that was given at a step with a priority.
    latest: BTreeMap<(Slot, u32, StepId, bool), u64>,
    /// By step: what its queue had before the poll that is under way.
    before: Vec<ByPriority<Waiting>>,
}

/// What waited in a line and could be served.
#[derive(Default)]
struct Waiting {
    in_line: VecDeque<MessageId>,
    due: BTreeSet<MessageId>,
}

impl Priorities {
    /// Decides whether the messages of a run have different priorities.
    pub(super) fn drawn(plan: &mut Plan, rng: &mut ChaCha8Rng) -> Self {
        let are_used = rng.random();
        plan.steps[0].options.priority.value = Priority::ALL[rng.random_range(0..2)];
        Self { are_used, ..Self::default() }
    }
}

impl Simulator {
    /// Sets the priority of what is emitted next, as a producer's class may do.
    pub(super) fn draw_priority(&mut self, outputs: &mut OutputBuffer) {
        if self.priorities.are_used {
            outputs.set_priority(Priority::ALL[self.rng.random_range(0..2)]);
        }
    }

    /// Sets the priority of what a call emits: that of its message, or now and then another one.
    pub(super) fn inherit(&mut self, message: &Message, outputs: &mut OutputBuffer) {
        outputs.set_priority(message.priority);
        if self.rng.random_ratio(1, 10) {
            self.draw_priority(outputs);
        }
    }

    /// Notes what a worker has emitted.
    pub(super) fn note_priorities(&mut self, worker: WorkerId, outputs: &[Output]) {
        let batches = outputs.iter().map(|output| Batch::new(MessageId(0), output.clone()));
        for message in batches.flat_map(Batch::into_messages) {
            let token = Token::of(&message.payload).id;
            self.priorities.emitted.insert(token, (message.priority, worker));
        }
    }

    /// Notes that an operator has a token tried again: it may come after later ones.
    pub(super) fn note_requeued(&mut self, token: u64) {
        self.priorities.given.insert(token);
    }

    /// Notes what waits, before a poll.
    pub(super) fn note_waiting(&mut self) {
        if self.priorities.are_used {
            let waiting = |line: &Line| Waiting {
                in_line: line.numbers().collect(),
                due: line.due(self.now).collect(),
            };
            let of_step = |step: &Step| {
                let mut lines = ByPriority::default();
                for priority in Priority::ALL {
                    lines[priority] = waiting(step.queue.line(priority));
                }
                lines
            };
            self.priorities.before = self.router.steps.iter().map(of_step).collect();
        }
    }

    pub(super) fn check_priorities(&mut self, worker: WorkerId, messages: &[Message]) {
        let step = self.router.position(worker).0;
        if !self.priorities.are_used || self.router.observers.is_ordered_end(step) {
            return;
        }
        for message in messages {
            let token = Token::of(&message.payload).id;
            let known = &mut self.priorities;
            let is_new = known.given.insert(token);
            let (priority, emitter) = known.emitted[&token];
            assert!(!is_new || priority == message.priority, "the priority has changed");
            let lines = &mut known.before[step.index()];
            if message.priority == Priority::Normal {
                let Waiting { in_line, due } = &lines[Priority::High];
                assert!(in_line.is_empty() && due.is_empty(), "I12: normal goes before high");
            } else if !lines[Priority::Normal].in_line.is_empty() {
                self.seen.overtakes += 1;
            }
            let line = &mut lines[message.priority];
            let was_due = line.due.remove(&message.id);
            if line.in_line.contains(&message.id) {
                assert_eq!(line.in_line.pop_front(), Some(message.id), "I12: not the first");
            } else if is_new && !was_due {
                assert!(line.in_line.is_empty(), "I12: before those that had waited");
            }
            if is_new {
                let is_high = priority == Priority::High;
                let before =
                    known.latest.insert((emitter.slot, emitter.epoch, step, is_high), token);
                assert!(before.is_none_or(|before| before < token), "I12: out of order");
            }
        }
    }
}
