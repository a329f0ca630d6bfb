//! A view as tests of what shows it use it.

use serde_json::{Value, json};

use super::View;

/// A run of three steps: NUMBERS, CLEAN (the bottleneck), SAVE (paused), with two
/// failures of CLEAN, of which the older is tried again.
pub(crate) fn view() -> View {
    let failure = |number: u64, requeued: bool| {
        json!({
            "number": number, "at_s": 30.0 + number as f64, "step": "CLEAN", "worker": 1,
            "origin": format!("night7/frame{number}.fits"), "attempt": 2, "cause": "failed",
            "reason": ["cannot fit the sky", "no star was found"], "policy": "quarantine",
            "entry": format!("{number:06}-CLEAN"), "requeued": requeued,
        })
    };
    let line = |number: u64, level: &str, step: Value, text: &str| json!({"number": number, "at_s": number, "level": level, "step": step, "text": text});
    serde_json::from_value(json!({
        "number": 812, "run": "20260101T000000Z-4711", "pipeline": "night",
        "directory": "/data/night7", "finished": 329, "version": "0.1.0",
        "started": "2026-01-01T00:00:00Z", "host": "tel2", "pid": 4711, "state": "running",
        "paused": false, "verdict": null, "reason": null, "exit_code": null, "elapsed_s": 62.0,
        "eta_s": 93.2, "emitted": 400, "expected": 1000, "bottleneck": "CLEAN",
        "steps": [
            step("NUMBERS", "producer", "held_back", 400, 1),
            step("CLEAN", "stage", "bottleneck", 331, 2),
            step("SAVE", "consumer", "paused", 320, 1),
        ],
        "failure_count": 2, "failures": [failure(1, true), failure(2, false)],
        "lines": [line(3, "info", json!("CLEAN"), "set to 2 workers"),
                  line(5, "warning", Value::Null, "the disk is\nnearly full"),
                  line(7, "error", json!("CLEAN"), "worker 1 was lost: signal 11")],
        "products": [],
    }))
    .unwrap()
}

fn step(name: &str, kind: &str, standing: &str, done: u64, workers: usize) -> Value {
    let worker = |number: usize| {
        let busy = number == 0;
        json!({
            "worker": number, "state": if busy { "busy" } else { "idle" }, "for_s": 3.2,
            "in_hand": u64::from(busy) * 3, "message": null, "busy_time_s": 50.0,
            "origin": if busy { json!("night7/frame331.fits") } else { Value::Null },
        })
    };
    json!({
        "name": name, "class": "Pass", "kind": kind, "on_error": "quarantine",
        "standing": standing, "paused": standing == "paused",
        "received": if kind == "producer" { 0 } else { done + 40 }, "done": done,
        "failed": u64::from(name == "CLEAN"), "dropped": 0, "retried": 1, "filtered": 0,
        "emitted": done, "progressed": done, "rate": 5.31, "utilisation": 0.97,
        "held_by": if standing == "held_back" { json!(["CLEAN"]) } else { json!([]) },
        "held": if name == "CLEAN" { 9 } else { 0 }, "held_bytes": 0,
        "queued": if name == "CLEAN" { 37 } else { 0 },
        "queue_limit": if kind == "producer" { Value::Null } else { json!(64) },
        "queued_bytes": 0, "queue_bytes": null, "high_water": 64, "busy": 1, "workers": workers,
        "median_s": 0.35, "mean_s": 0.36, "p99_s": 0.81, "busy_time_s": 100.0,
        "next_steps": [], "each_worker": (0..workers).map(worker).collect::<Vec<_>>(),
    })
}
