//! Random graphs, and the payloads that travel through them.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Faults;
use crate::message::Payload;
use crate::plan::{OnError, Plan, Route, Step, StepOptions, WorkerRange};
use crate::router::testing::{plan_of, planned};
use crate::stage::registry::Kind;

/// A simulated payload: its identity and the number of hops that are left to it.
#[derive(Clone, Copy)]
pub(super) struct Token {
    pub(super) id: u64,
    pub(super) hops: u64,
}

impl Token {
    pub(super) fn payload(self, size: usize) -> Payload {
        let mut header = Vec::with_capacity(16 + size);
        header.extend(self.id.to_le_bytes());
        header.extend(self.hops.to_le_bytes());
        header.resize(16 + size, 0);
        Payload { header: header.into(), buffers: Vec::new() }
    }

    pub(super) fn of(payload: &Payload) -> Self {
        let word = |at: usize| {
            u64::from_le_bytes(payload.header[at..at + 8].try_into().expect("eight bytes"))
        };
        Self { id: word(0), hops: word(8) }
    }
}

/// Makes a plan of a producer, up to five stages and a consumer.
pub(super) fn random_plan(rng: &mut ChaCha8Rng) -> Plan {
    let last = rng.random_range(0..6) + 1;
    let steps = (0..=last).map(|index| {
        let routes = random_routes(rng, index, last);
        let kind = match index {
            0 => Kind::Producer,
            _ if index == last => Kind::Consumer,
            _ => Kind::Stage,
        };
        Step {
            options: random_options(rng, index),
            stateful: index > 0 && rng.random_ratio(1, 4),
            ..planned(&format!("S{index}"), kind, routes)
        }
    });
    plan_of(steps.collect())
}

/// Has the producer told what became of its items, if the faults say so.
pub(super) fn tell(plan: &mut Plan, faults: Faults, rng: &mut ChaCha8Rng) {
    let (Some(last), true) = (plan.steps.len().checked_sub(1), faults.told) else { return };
    plan.steps[0].acknowledges = true;
    plan.steps[0].feed = faults.fed;
    plan.steps[0].options.window.value = [1, 2, 5, 64][rng.random_range(0..4)];
    plan.steps[0].options.window_bytes.value = Some([100, 1000, 100_000][rng.random_range(0..3)]);
    plan.steps[last].options.results.value = rng.random_ratio(3, 4);
    for step in &mut plan.steps {
        if rng.random_ratio(1, 4) {
            step.options.on_error.value = OnError::Tell;
        }
    }
}

/// Has the caller provide the workers of some steps, if the faults have it go.
pub(super) fn open(plan: &mut Plan, faults: Faults, rng: &mut ChaCha8Rng) {
    if faults.partings > 0 {
        for step in &mut plan.steps {
            step.is_open = step.feed || (step.kind != Kind::Producer && rng.random_ratio(1, 2));
        }
    }
}

/// A chain keeps every step reachable; extra routes branch, join and loop.
fn random_routes(rng: &mut ChaCha8Rng, index: usize, last: usize) -> Vec<Route> {
    if index == last {
        return Vec::new();
    }
    let mut routes = vec![Route { to: index + 1, feedback: false }];
    for to in index + 2..=last {
        if rng.random_ratio(1, 4) {
            routes.push(Route { to, feedback: false });
        }
    }
    for to in 1..=index {
        if rng.random_ratio(1, 8) {
            routes.push(Route { to, feedback: true });
        }
    }
    routes
}

fn random_options(rng: &mut ChaCha8Rng, index: usize) -> StepOptions {
    let policies = [OnError::Quarantine, OnError::Quarantine, OnError::Skip, OnError::Stop];
    let workers = if index == 0 { 1 } else { rng.random_range(1..5) };
    let mut options = StepOptions::default();
    options.nb_thread.value = WorkerRange { min: rng.random_range(1..=workers), max: workers };
    options.queue_limit.value = Some([1, 1, 2, 5, 100][rng.random_range(0..5)]);
    options.queue_bytes.value = [Some(64), Some(100_000), None][rng.random_range(0..3)];
    options.on_error.value = policies[rng.random_range(0..policies.len())];
    options.retries.value = rng.random_range(0..3);
    options.lost_retries.value = rng.random_range(0..3);
    options.backoff.value = Duration::from_millis(rng.random_range(0..50));
    options
}
