//! What becomes of a run when workers, or the program itself, are killed,
//! stopped or overloaded, on purpose and at random: `cargo bench --bench
//! reliability`, or with the names of some cases behind `--`.
//! docs/RELIABILITY.md has results. `DRPIPE_SCALE=0.1` does a tenth.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure ends it")]

mod graphs;
mod kills;
mod poison;
#[path = "../../tests/it/support/processes.rs"]
mod processes;
mod resume;
mod soak;
mod stops;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

type Case = fn();

const ALL: [(&str, Case); 6] = [
    ("kills", kills::kills),
    ("resume", resume::resume),
    ("stops", stops::stops),
    ("poison", poison::poison),
    ("graphs", graphs::graphs),
    ("soak", soak::soak),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    for (name, case) in ALL {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted.as_str() == name) {
            println!("{name}");
            case();
        }
    }
}

/// So many, at the scale that is asked for.
fn scaled(count: usize) -> usize {
    let scale: f64 = std::env::var("DRPIPE_SCALE").map_or(1.0, |scale| scale.parse().unwrap());
    ((count as f64 * scale) as usize).max(1)
}

/// The program, in this directory.
fn drpipe(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drpipe"));
    command.current_dir(directory).env("TMPDIR", directory);
    command
}

fn write(directory: &Path, config: &Value) {
    std::fs::write(directory.join("pipeline.json"), config.to_string()).unwrap();
}

fn summary(directory: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(directory.join("run.json")).unwrap()).unwrap()
}

/// `received == done + failed + dropped` at every step.
fn is_balanced(summary: &Value) -> bool {
    let count = |step: &Value, key: &str| step[key].as_u64().unwrap();
    summary["steps"].as_array().unwrap().iter().all(|step| {
        let ended = ["done", "failed", "dropped"].iter().map(|key| count(step, key)).sum::<u64>();
        count(step, "received") == ended
    })
}

/// The six frames of the test data, copied to so many files in `directory`.
fn frames(directory: &Path, count: usize) -> bool {
    let data = std::env::var_os("DRPIPE_TEST_DATA").map(PathBuf::from);
    let keck = data.unwrap_or_else(|| "../shared/data".into()).join("keck");
    let Ok(originals) = std::fs::read_dir(&keck) else {
        println!("  skipped: no frames in {}; set DRPIPE_TEST_DATA", keck.display());
        return false;
    };
    let mut originals: Vec<PathBuf> = originals.map(|entry| entry.unwrap().path()).collect();
    originals.sort();
    std::fs::create_dir(directory).unwrap();
    for n in 0..count {
        let copy = directory.join(format!("{n:03}.fits"));
        std::fs::copy(&originals[n % originals.len()], copy).unwrap();
    }
    true
}
