//! Steps in Python, by the interpreter that `DRPIPE_BENCH_PYTHON` names (default:
//! the `python3` of the PATH), which needs pyzmq, msgpack and numpy.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use drpipe::pipeline::{Mode, Pipeline, Verdict};
use serde_json::{Value, json};

use crate::processes::registry;
use crate::{Line, medians, python, rate};

/// The module with the steps.
const MODULE: &str = r#"
class Untouched:
    """Touches nothing."""
    def run(self, value):
        return value
"#;

/// What the module imports whose start is compared.
const IMPORTS: &str = "import numpy\nfrom astropy import stats\nfrom astropy.io import fits\n";
/// The same work as that of `started`, in a pool of forked processes.
const POOL: &str = r#"
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
def same(value):
    return value
count = int(sys.argv[1])
with ProcessPoolExecutor(count, multiprocessing.get_context("fork")) as pool:
    assert list(pool.map(same, range(count))) == list(range(count))
"#;

pub(crate) fn interpreter() -> PathBuf {
    std::env::var_os("DRPIPE_BENCH_PYTHON").map_or_else(|| "python3".into(), PathBuf::from)
}

pub(crate) fn imports(packages: &str) -> bool {
    let mut program = Command::new(interpreter());
    program.args(["-c", &format!("import {packages}")]).stderr(Stdio::null());
    program.status().is_ok_and(|status| status.success())
}

fn write(folder: &Path, module: &str, steps: [Value; 3]) -> PathBuf {
    let [producer, stage, consumer] = steps;
    let text = json!({
        "python": interpreter(), "pythonpath": folder,
        "producer": producer, "stagers": [stage], "consumer": consumer,
    });
    let file = folder.join("pipeline.json");
    std::fs::write(folder.join("same.py"), module).unwrap();
    std::fs::write(&file, text.to_string()).unwrap();
    file
}

/// Messages a second from a producer in Rust through Python to a consumer in Rust;
/// the start of the interpreters is not counted.
fn through(producer: &str, count: usize, workers: usize, limit: usize) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let file = write(
        folder.path(),
        MODULE,
        [
            json!({"name": "IN", "class": producer, "params": {"count": count}}),
            json!({"name": "SAME", "module": "same", "class": "Untouched", "nb_process": workers,
                   "queue_limit": limit}),
            json!({"name": "END", "class": "Discard", "queue_limit": limit}),
        ],
    );
    let pipeline = Pipeline::load(&file, &registry(), &[]).unwrap();
    let handle = pipeline.start(Mode::Threads).unwrap();
    let mut started = Instant::now();
    for told in handle.stream().watch().events() {
        let event = &told.event;
        if *event == drpipe::event::Event::Started {
            started = Instant::now();
        }
        if matches!(event, drpipe::event::Event::StepFinished { step, .. } if &**step == "END") {
            break;
        }
    }
    let elapsed = started.elapsed();
    assert_eq!(handle.wait().unwrap().verdict, Verdict::Done);
    rate(count, elapsed)
}

/// Seconds from the start of the program to its end, with one message for each worker.
fn started(imports: &str, workers: usize) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let file = write(
        folder.path(),
        &format!("{imports}{MODULE}"),
        [
            json!({"name": "IN", "class": "Numbers", "params": {"count": workers}}),
            json!({"name": "SAME", "module": "same", "class": "Untouched", "nb_process": workers}),
            json!({"name": "END", "class": "Discard"}),
        ],
    );
    let program = std::env::current_exe().unwrap();
    timed(Command::new(program).args(["run-of", &file.display().to_string()]))
}

/// What this program does with `run-of FILE`.
pub fn run(file: &Path) {
    let report = Pipeline::load(file, &registry(), &[]).unwrap().run(Mode::Threads).unwrap();
    assert_eq!(report.verdict, Verdict::Done);
}

fn timed(program: &mut Command) -> f64 {
    let start = Instant::now();
    assert!(program.status().unwrap().success());
    start.elapsed().as_secs_f64()
}

pub fn steps() -> Vec<Line> {
    if !imports("zmq, msgpack, numpy") {
        println!("SKIPPED: {} lacks pyzmq, msgpack or numpy", interpreter().display());
        return Vec::new();
    }
    let count = 300_000;
    let [tiny, default, frames, new, chunks, executor, bare, one] = medians([
        &|| through("Numbers", count, 2, 4096),
        &|| through("Numbers", count, 2, 100),
        &|| through("Frames", 3000, 2, 8),
        &|| through("NewFrames", 2000, 2, 8),
        &|| python::pool("imap_unordered-256", count),
        &|| python::pool("executor-map", 20_000),
        &|| timed(Command::new(interpreter()).args(["-c", "pass"])),
        &|| started("", 1),
    ]);
    vec![
        Line::new("8 bytes, 1 stager in Python x2, queue_limit 4096", tiny, "/s").at_least(150e3),
        Line::new("the same, queue_limit 100 (default)", default, "/s"),
        Line::new("multiprocessing.Pool, chunks of 256 by hand", chunks, "/s"),
        Line::new("ProcessPoolExecutor.map, chunksize 1", executor, "/s"),
        Line::new("16 MiB, Rust -> Python x2 -> Rust, untouched", frames, "/s").at_least(200.0),
        Line::new("the same, each made anew", new, "/s").at_least(340.0),
        Line::new(
            "one message, start to exit, beyond a bare interpreter",
            1e3 * (one - bare),
            "ms",
        )
        .at_most(150.0),
        Line::new("a bare interpreter, start to exit", 1e3 * bare, "ms"),
    ]
}

/// Whole programs whose module imports numpy and astropy, each against a pool that is started in
/// the same turn.
pub fn starts() -> Vec<Line> {
    if !imports("zmq, msgpack, numpy, astropy") {
        let interpreter = interpreter();
        println!("SKIPPED: {} lacks pyzmq, msgpack, numpy or astropy", interpreter.display());
        return Vec::new();
    }
    let pool = |workers: usize| {
        let script = format!("{IMPORTS}{POOL}");
        timed(Command::new(interpreter()).args(["-c", &script, &workers.to_string()]))
    };
    let mut lines = Vec::new();
    for (workers, bar) in [(1, 1.11), (2, 1.5), (4, 1.5)] {
        let mut turns: Vec<[f64; 2]> =
            (0..15).map(|_| [started(IMPORTS, workers), pool(workers)]).collect();
        turns.sort_by(|one, other| (one[0] / one[1]).total_cmp(&(other[0] / other[1])));
        let [ours, theirs] = turns[turns.len() / 2];
        let what = format!("numpy and astropy, {workers} workers, start to exit: drpipe");
        lines.push(Line::new(what, 1e3 * ours, "ms"));
        lines.push(Line::new("ProcessPoolExecutor with fork", 1e3 * theirs, "ms"));
        lines.push(Line::new("ratio", ours / theirs, "").at_most(bar));
    }
    lines
}
