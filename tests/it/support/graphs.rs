//! Random pipelines for mocks: branches, joins, loops, threads, processes.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// A pipeline of the seed. Every queue holds one message; one in four has a step
/// with 24 threads and 4 processes, one in four a step that 8 branches lead to.
pub fn graph(seed: u64) -> Value {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    if seed % 4 == 1 {
        return fan(&mut rng);
    }
    let stagers = rng.random_range(1..6);
    let crowded = seed.is_multiple_of(4).then(|| rng.random_range(0..stagers));
    let name = |index: usize| if index == stagers { "END".into() } else { format!("S{index}") };
    let steps = (0..stagers).map(|index| {
        // A chain keeps every step reachable; other edges branch, join and go back.
        let mut next = vec![name(index + 1)];
        let mut feedback = Vec::new();
        for to in (0..=stagers).filter(|to| *to != index + 1) {
            if to > index && rng.random_ratio(1, 4) {
                next.push(name(to));
            } else if to <= index && rng.random_ratio(1, 8) {
                next.push(name(to));
                feedback.push(name(to));
            }
        }
        let crowded = crowded == Some(index);
        stager(&mut rng, &name(index), &next, &feedback, crowded)
    });
    pipeline(&["S0".into()], steps.collect(), &mut rng)
}

/// Eight branches that join again.
fn fan(rng: &mut ChaCha8Rng) -> Value {
    let branches: Vec<String> = (0..8).map(|branch| format!("B{branch}")).collect();
    let mut steps: Vec<Value> =
        branches.iter().map(|name| stager(rng, name, &["JOIN".into()], &[], false)).collect();
    steps.push(stager(rng, "JOIN", &["END".into()], &[], false));
    pipeline(&branches, steps, rng)
}

fn stager(
    rng: &mut ChaCha8Rng,
    name: &str,
    next: &[String],
    feedback: &[String],
    crowded: bool,
) -> Value {
    let (threads, processes) = match (crowded, rng.random_range(0..4)) {
        (true, _) => (24, 4),
        (_, 0) => (0, 1),
        (_, 1) => (1, 1),
        (_, workers) => (workers, 0),
    };
    let policy = ["quarantine", "skip"][rng.random_range(0..2)];
    let retries = rng.random_range(0..3);
    let mut step = json!({
        "name": name, "class": "Pass", "nb_thread": threads, "nb_process": processes,
        "queue_limit": 1, "next_steps": next, "feedback": feedback,
        "retries": retries, "backoff": 0, "on_error": policy,
    });
    if threads == 0 {
        step["timeout"] = json!(0.5);
    }
    step
}

fn pipeline(first: &[String], stagers: Vec<Value>, rng: &mut ChaCha8Rng) -> Value {
    let ends = rng.random_range(1..3);
    json!({
        "version": 1,
        "producer": {"name": "IN", "class": "Integers", "params": {"last": 1}, "next_steps": first},
        "stagers": stagers,
        "consumer": {"name": "END", "class": "Discard", "queue_limit": 1,
                     "nb_thread": ends},
    })
}
