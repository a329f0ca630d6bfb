//! A long run: memory and descriptors must not grow with the messages.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::processes::children;
use crate::{drpipe, is_balanced, scaled, summary, write};

/// At least ten minutes and ten million messages, with failures, retries and
/// worker processes.
pub fn soak() {
    let seconds = scaled(600);
    let directory = tempfile::tempdir().unwrap();
    let config = json!({
        "version": 1,
        "producer": {"name": "IN", "class": "Integers", "params": {"first": 1, "last": i64::MAX}},
        "stagers": [
            {"name": "THREADS", "class": "Pass", "nb_thread": 2},
            {"name": "PROCESSES", "class": "Pass", "nb_process": 2},
            {"name": "BOTH", "class": "Pass", "nb_thread": 1, "nb_process": 1},
        ],
        "consumer": {"name": "END", "class": "Discard"},
    });
    write(directory.path(), &config);
    let mut command = drpipe(directory.path());
    command.args(["--quiet", "--log-level", "off", "--summary", "run.json"]);
    let mut program = command.spawn().unwrap();
    let start = Instant::now();
    let mut samples: Vec<(f64, f64, f64)> = Vec::new();
    while start.elapsed() < Duration::from_secs(seconds as u64) {
        std::thread::sleep(Duration::from_secs(1));
        assert!(program.try_wait().unwrap().is_none(), "it ended by itself");
        let all: Vec<u32> = children(program.id()).into_iter().chain([program.id()]).collect();
        let memory: f64 = all.iter().map(|pid| resident(*pid)).sum();
        let descriptors: usize = all.iter().map(|pid| descriptors(*pid)).sum();
        samples.push((start.elapsed().as_secs_f64(), memory, descriptors as f64));
    }
    crate::processes::signal(program.id(), rustix::process::Signal::TERM);
    let status = program.wait().unwrap();
    let summary = summary(directory.path());
    let received = summary["steps"].as_array().unwrap().last().unwrap()["received"].as_u64();
    // The first tenth fills queues and caches.
    let steady = &samples[samples.len() / 10..];
    let memory: Vec<(f64, f64)> = steady.iter().map(|(time, memory, _)| (*time, *memory)).collect();
    let files: Vec<(f64, f64)> = steady.iter().map(|(time, _, files)| (*time, *files)).collect();
    println!(
        "  {:.1} million messages in {seconds} s, exit code {:?}, ledger {}",
        received.unwrap() as f64 / 1e6,
        status.code(),
        if is_balanced(&summary) { "balanced" } else { "NOT balanced" }
    );
    println!(
        "  memory of all processes {:.1} MiB, slope {:+.3} MiB/min; descriptors {}, slope {:+.3}/min",
        memory.last().unwrap().1,
        slope(&memory) * 60.0,
        files.last().unwrap().1,
        slope(&files) * 60.0
    );
}

/// Of the straight line through the points with the least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    covariance / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
}

/// Memory in use, in MiB.
fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kibibytes.unwrap_or(0.0) / 1024.0
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
