//! Steps and workers for the tests of policies.

use std::sync::Arc;

use super::queue::Queue;
use super::step::Step;
use super::worker::{State, Worker, Workers};
use crate::base::failure::Failure;
use crate::base::ids::{MessageId, Slot, StepId};
use crate::message::batch::Batch;
use crate::message::{Message, Payload};
use crate::plan;
use crate::stage::registry::Kind;

/// The first step of a run, with this many workers.
pub(super) fn step_of(workers: usize) -> Step {
    let workers = (0..workers).map(Slot::at).collect();
    let step = plan::Step {
        name: "S".into(),
        class: "Tested".into(),
        kind: Kind::Stage,
        options: plan::StepOptions::default(),
        routes: Vec::new(),
        params: serde_json::Value::Null,
        gathers: false,
        single: false,
        build: Arc::new(|| Err(Failure::permanent("never built"))),
        input: None,
        codec: Default::default(),
        takes_objects: false,
        python: None,
    };
    Step::new(&step, workers)
}

/// The workers of the first step, in these states.
pub(super) fn workers_of(states: &[State]) -> Workers {
    let worker = |(number, state): (usize, &State)| Worker::new(StepId(0), number, *state);
    Workers::new(states.iter().enumerate().map(worker).collect())
}

/// Puts messages into the step's queue.
pub(super) fn waiting(step: &mut Step, count: u64) {
    step.queue = Queue::new(None, None);
    for id in 0..count {
        let (id, payload) = (MessageId(id), Payload::default());
        step.queue.push(Batch::One(Message { id, attempt: 0, origin: None, payload }));
    }
}
