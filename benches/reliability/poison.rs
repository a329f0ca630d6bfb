//! Stages that end, block or bloat their process.

use std::time::Instant;

use serde_json::{Value, json};

use crate::{drpipe, is_balanced, scaled, summary, write};

/// One message in so many aborts, hangs or leaks; the rest must be processed
/// and the bad ones kept with the reason.
pub fn poison() {
    let count = scaled(1000);
    let abort = json!({"fault": "abort", "numbers": 10});
    let hang = json!({"fault": "hang", "numbers": 50});
    let leak = json!({"fault": "leak", "numbers": 50, "bytes": 1_u64 << 30});
    case("aborts on every 10th", count, &abort, count / 10, "signal 6");
    case("hangs on every 50th, timeout 1 s", count, &hang, count / 50, "time limit of 1 s");
    case(
        "leaks 1 GiB on every 50th, memory_limit 200 MiB",
        count,
        &leak,
        count / 50,
        "its limit is",
    );
}

fn case(what: &str, count: usize, params: &Value, bad: usize, reason: &str) {
    let directory = tempfile::tempdir().unwrap();
    let config = json!({
        "version": 1,
        "producer": {"name": "IN", "class": "Integers", "params": {"first": 1, "last": count}},
        "stagers": [{"name": "FAULTY", "class": "Fault", "params": params, "nb_process": 2,
                     "timeout": 1, "memory_limit": "200 MiB"}],
        "consumer": {"name": "END", "class": "Discard"},
    });
    write(directory.path(), &config);
    let mut command = drpipe(directory.path());
    command.args(["--quiet", "--log-level", "off", "--summary", "run.json"]);
    let start = Instant::now();
    let status = command.status().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let summary = summary(directory.path());
    let received = summary["steps"].as_array().unwrap().last().unwrap()["received"].as_u64();
    let kept = walkdir::WalkDir::new(directory.path().join("quarantine")).into_iter().flatten();
    let reasons = kept.filter(|entry| entry.file_name() == "reason.json");
    let texts: Vec<String> =
        reasons.map(|entry| std::fs::read_to_string(entry.path()).unwrap()).collect();
    println!(
        "  {what}: {} of {} good ones arrived, {} of {bad} bad ones in quarantine ({} with the \
         reason), exit code {:?}, ledger {}, {seconds:.1} s",
        received.unwrap(),
        count - bad,
        texts.len(),
        texts.iter().filter(|text| text.contains(reason)).count(),
        status.code(),
        if is_balanced(&summary) { "balanced" } else { "NOT balanced" }
    );
}
