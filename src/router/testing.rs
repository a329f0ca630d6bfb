//! Plans, steps and workers for the tests of the router.

use std::sync::Arc;

use super::queue::Queue;
use super::step::Step;
use super::worker::{State, Worker};
use super::workers::Workers;
use crate::base::failure::Failure;
use crate::base::ids::{MessageId, Slot, StepId};
use crate::message::batch::Batch;
use crate::message::{Message, NO_ITEM, Payload, Priority};
use crate::plan;
use crate::plan::{PipelineOptions, Plan};
use crate::stage::registry::Kind;

/// A step with the default options and one worker; its class cannot be built.
pub(super) fn planned(name: &str, kind: Kind, routes: Vec<plan::Route>) -> plan::Step {
    plan::Step {
        name: name.into(),
        class: "Tested".into(),
        kind,
        options: plan::StepOptions::default(),
        routes,
        params: serde_json::Value::Null,
        stateful: false,
        acknowledges: false,
        feed: false,
        limits_tasks: false,
        singleton: false,
        build: Arc::new(|| Err(Failure::permanent("never built"))),
        input: None,
        output: None,
        codec: Default::default(),
        takes_objects: false,
        python: None,
        is_open: false,
    }
}

/// The plan of these steps.
pub(super) fn plan_of(steps: Vec<plan::Step>) -> Plan {
    Plan {
        sequential: false,
        identity: String::new(),
        reads: Vec::new(),
        writes: Vec::new(),
        options: PipelineOptions::default(),
        config: serde_json::Value::Null,
        steps,
        config_hash: String::new(),
        work_hash: String::new(),
    }
}

/// The first step of a run, with this many workers.
pub(super) fn step_of(workers: usize) -> Step {
    let workers = (0..workers).map(Slot::at).collect();
    Step::new(&planned("S", Kind::Stage, Vec::new()), workers)
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
        let (priority, item) = (Priority::Normal, NO_ITEM);
        let message = Message { id, attempt: 0, priority, item, origin: None, payload };
        step.queue.push(Batch::One(message));
    }
}
