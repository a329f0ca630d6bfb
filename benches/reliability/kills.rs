//! Worker processes that are killed.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use serde_json::json;

use crate::processes::{children, disturb_until_end, signal};
use crate::{drpipe, is_balanced, scaled, summary, write};

/// 20 000 messages through three steps of two processes each, while a random
/// one is killed every 50 ms.
pub fn kills() {
    let count = 20_000;
    let mut undisturbed: Vec<f64> = (0..3).map(|_| run(count, None).seconds).collect();
    undisturbed.sort_by(f64::total_cmp);
    println!("  undisturbed: {:.2} s", undisturbed[1]);
    for seed in 0..scaled(10) as u64 {
        let Run { seconds, kills, lost, twice, balanced } = run(count, Some(seed));
        println!(
            "  seed {seed}: {kills} kills, {lost} lost, {twice} twice, ledger {}, {seconds:.2} s, \
             {:.2} of the undisturbed run",
            if balanced { "balanced" } else { "NOT balanced" },
            seconds / undisturbed[1]
        );
    }
}

struct Run {
    seconds: f64,
    kills: usize,
    lost: usize,
    twice: usize,
    balanced: bool,
}

fn run(count: usize, seed: Option<u64>) -> Run {
    let directory = tempfile::tempdir().unwrap();
    let step = |name: &str, class: &str| json!({"name": name, "class": class, "nb_process": 2, "retries": 100, "backoff": 0});
    let mut slow = step("B", "Sleep");
    slow["params"] = json!({"seconds": 0.0002});
    let config = json!({
        "version": 1,
        "producer": {"name": "IN", "class": "Integers", "params": {"first": 1, "last": count}},
        "stagers": [step("A", "Pass"), slow, step("C", "FormatNumber")],
        "consumer": {"name": "OUT", "class": "WriteLines", "params": {"file": "out.txt"}},
    });
    write(directory.path(), &config);
    let mut command = drpipe(directory.path());
    command.args(["--quiet", "--log-level", "off", "--summary", "run.json"]);
    let start = Instant::now();
    let mut program = command.spawn().unwrap();
    let mut rng = seed.map(ChaCha8Rng::seed_from_u64);
    let mut kills = 0;
    let every = Duration::from_millis(if seed.is_some() { 50 } else { 1 });
    let status = disturb_until_end(&mut program, every, |program| {
        let Some(rng) = &mut rng else { return };
        let workers = children(program);
        // Before all six are there the run has not begun.
        if (kills > 0 || workers.len() == 6)
            && let Some(worker) = workers.get(rng.random_range(0..workers.len().max(1)))
        {
            signal(*worker, Signal::KILL);
            kills += 1;
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    assert!(status.success(), "{status}");
    let (lost, twice) = lost_and_twice(directory.path(), count);
    Run { seconds, kills, lost, twice, balanced: is_balanced(&summary(directory.path())) }
}

fn lost_and_twice(directory: &Path, count: usize) -> (usize, usize) {
    let mut seen = vec![0; count + 1];
    for line in std::fs::read_to_string(directory.join("out.txt")).unwrap().lines() {
        seen[line.parse::<usize>().unwrap()] += 1;
    }
    let lost = seen[1..].iter().filter(|times| **times == 0).count();
    let twice = seen[1..].iter().filter(|times| **times > 1).count();
    (lost, twice)
}
