//! Runs with worker processes, for the tests of them. `DRPIPE_SEEDS=n` repeats what is random n
//! times.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::support::program::{Finished, drpipe, finish, step};

/// Numbers from 0 to `last` through `stagers` into the lines of a file.
pub(super) fn numbers(last: u64, stagers: &Value) -> Value {
    let mut all = stagers.as_array().unwrap().clone();
    all.push(json!({"name": "FORMAT", "class": "FormatNumber"}));
    json!({
        "version": 1,
        "producer": {"name": "NUMBERS", "class": "Integers", "params": {"last": last}},
        "stagers": all,
        "consumer": {"name": "END", "class": "WriteLines", "params": {"file": "out.txt"}},
    })
}

pub(super) fn write(directory: &Path, config: &Value) {
    fs::write(directory.join("pipeline.json"), config.to_string()).unwrap();
}

pub(super) fn run(config: &Value, args: &[&str]) -> (Finished, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), config);
    let mut program = drpipe(directory.path());
    (finish(program.args(["--summary", "run.json"]).args(args)), directory)
}

pub(super) fn start(directory: &Path, config: &Value) -> Child {
    write(directory, config);
    let mut program = drpipe(directory);
    program.args(["--summary", "run.json", "--quiet", "--log-level", "debug"]);
    program.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

/// The numbers in the file, in order of size.
pub(super) fn lines(directory: &Path) -> Vec<u64> {
    let text = fs::read_to_string(directory.join("out.txt")).unwrap();
    let mut numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

pub(super) fn seeds() -> u64 {
    std::env::var("DRPIPE_SEEDS").map_or(2, |seeds| seeds.parse().unwrap())
}

/// Reads what the program says, so that it never waits for a reader.
pub(super) fn drain(program: &mut Child) {
    let mut err = program.stderr.take().unwrap();
    std::thread::spawn(move || std::io::copy(&mut err, &mut std::io::sink()));
}

/// One of the program's log lines, once it is there; up to it all are read.
pub(super) fn says(program: &mut Child, text: &str) -> Option<()> {
    use std::io::Read;
    let err = program.stderr.as_mut().unwrap();
    let mut seen = String::new();
    let mut byte = [0];
    while !seen.contains(text) {
        let read = err.read(&mut byte).unwrap();
        assert!(read > 0, "it ended: {seen}");
        seen.push(char::from(byte[0]));
    }
    Some(())
}

pub(super) fn step_of(summary: &Value) -> &Value {
    step(summary, "S")
}
