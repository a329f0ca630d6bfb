//! Runs that are stopped by a signal.

use std::process::Child;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::processes::{children, eventually, is_alive, signal};
use crate::{drpipe, frames, is_balanced, scaled, summary, write};

/// The drain limit, in seconds.
const LIMIT: f64 = 2.0;

/// SIGTERM at random instants of fits2png, in turn with threads and with
/// processes.
pub fn stops() {
    let directory = tempfile::tempdir().unwrap();
    if !frames(&directory.path().join("raw"), 60) {
        return;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut late, mut orphans, mut leftovers, mut unbalanced) = (0, 0, 0, 0);
    let (mut interrupted, mut longest) = (0, 0.0_f64);
    let count = scaled(100);
    for n in 0..count {
        let key = if n % 2 == 0 { "nb_thread" } else { "nb_process" };
        write(directory.path(), &fits2png(key));
        let mut command = drpipe(directory.path());
        command.args(["--quiet", "--log-level", "off", "--summary", "run.json"]);
        command.args(["--drain-limit", &LIMIT.to_string()]);
        let mut program = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(rng.random_range(20..250)));
        let workers = children(program.id());
        signal(program.id(), Signal::TERM);
        let (code, seconds) = wait(&mut program);
        interrupted += usize::from(code == Some(130));
        longest = longest.max(seconds);
        late += usize::from(seconds > LIMIT + 1.0);
        orphans += workers.iter().filter(|worker| is_alive(**worker)).count();
        unbalanced += usize::from(!is_balanced(&summary(directory.path())));
        for entry in walkdir::WalkDir::new(directory.path()) {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            leftovers += usize::from(name.starts_with(".drpipe") || name.starts_with("drpipe-"));
        }
    }
    println!(
        "  SIGTERM at {count} instants ({interrupted} before the end): {late} later than the drain \
         limit, {orphans} orphans, {leftovers} temporary files, {unbalanced} unbalanced ledgers; \
         longest end {longest:.2} s"
    );
}

fn wait(program: &mut Child) -> (Option<i32>, f64) {
    let start = Instant::now();
    let status = eventually("the program ends", || program.try_wait().unwrap());
    (status.code(), start.elapsed().as_secs_f64())
}

fn fits2png(key: &str) -> Value {
    json!({
        "version": 1,
        "producer": {"name": "FILES", "class": "FitsFiles", "params": {"directory": "raw"}},
        "stagers": [
            {"name": "READ", "class": "ReadFits", key: 2},
            {"name": "CLEAN", "class": "NoiseRemoval", key: 2},
            {"name": "EQUALIZE", "class": "HistogramEqualization", key: 2},
        ],
        "consumer": {"name": "SAVE", "class": "SavePng", key: 2, "params": {"directory": "png"}},
    })
}
