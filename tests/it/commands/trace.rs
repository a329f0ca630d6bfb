//! `--trace`: when each message waited and ran.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::processes::eventually;
use crate::support::program::{count, drpipe, finish, json as read_json, step};

/// A chain with a failure of every third message at its second step.
fn config(more: &Value) -> String {
    let mut faulty = json!({ "name": "FAULTY", "class": "Fault", "retries": 1,
        "params": { "fault": "fail", "numbers": 3 } });
    for (key, value) in more.as_object().unwrap() {
        faulty[key] = value.clone();
    }
    json!({
        "version": 1,
        "producer": { "name": "NUMBERS", "class": "Integers", "params": { "first": 1, "last": 60 } },
        "stagers": [
            { "name": "ADD", "class": "Add", "nb_thread": 2, "params": { "value": 0 } },
            faulty,
            { "name": "WAIT", "class": "Sleep", "nb_thread": 2, "params": { "seconds": 0.002 } },
        ],
        "consumer": { "name": "END", "class": "Discard" }
    })
    .to_string()
}

struct Traced {
    events: Vec<Value>,
    summary: Value,
}

fn traced(more: &Value, args: &[&str]) -> Traced {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("pipeline.json"), config(more)).unwrap();
    let mut command = drpipe(directory.path());
    command.args([
        "--trace",
        "trace.json",
        "--summary",
        "summary.json",
        "-q",
        "--log-level",
        "off",
    ]);
    command.args(args);
    let code = finish(&mut command).code;
    assert!(matches!(code, Some(0 | 1)), "{code:?}");
    let text = fs::read_to_string(directory.path().join("trace.json")).unwrap();
    let events: Vec<Value> = serde_json::from_str(&text).unwrap();
    Traced { events, summary: read_json(&directory.path().join("summary.json")) }
}

impl Traced {
    /// The step that each process of the file is.
    fn steps(&self) -> BTreeMap<u64, String> {
        let names = self.events.iter().filter(|event| event["name"] == "process_name");
        let name = |event: &Value| event["args"]["name"].as_str().unwrap().to_owned();
        names.map(|event| (event["pid"].as_u64().unwrap(), name(event))).collect()
    }

    /// The bars of a step.
    fn bars(&self, name: &str) -> Vec<&Value> {
        let steps = self.steps();
        let of_it =
            |event: &&Value| event["ph"] == "X" && steps[&event["pid"].as_u64().unwrap()] == name;
        self.events.iter().filter(of_it).collect()
    }

    /// The bars of a step that are attempts on messages.
    fn attempts(&self, name: &str) -> usize {
        self.bars(name).iter().filter(|bar| !bar["args"]["message"].is_null()).count()
    }

    /// What must hold of every trace.
    fn check(&self) {
        let last = self.events.last().unwrap();
        assert_eq!((&last["name"], &last["args"]["count"]), (&json!("omitted"), &json!(0)));
        let mut busy_until = BTreeMap::<(u64, u64), f64>::new();
        let mut bars: Vec<_> = self.events.iter().filter(|event| event["ph"] == "X").collect();
        bars.sort_by(|a, b| a["ts"].as_f64().unwrap().total_cmp(&b["ts"].as_f64().unwrap()));
        for bar in bars {
            let time = |key: &str| bar["args"][key].as_f64().unwrap();
            let (begun, took) = (bar["ts"].as_f64().unwrap(), bar["dur"].as_f64().unwrap());
            let ordered =
                time("queued_at_us") <= time("given_at_us") && time("given_at_us") <= begun;
            assert!(ordered && took >= 0.0, "{bar}");
            let worker = (bar["pid"].as_u64().unwrap(), bar["tid"].as_u64().unwrap());
            let until = busy_until.entry(worker).or_default();
            // Microseconds have three decimals here.
            assert!(*until <= begun + 0.01, "{bar} overlaps what ended at {until}");
            *until = begun + took;
        }
        for step in self.summary["steps"].as_array().unwrap() {
            let name = step["name"].as_str().unwrap();
            let bars = self.bars(name);
            let told: f64 = bars.iter().map(|bar| bar["dur"].as_f64().unwrap()).sum::<f64>() / 1e6;
            let busy = step["busy_time_s"].as_f64().unwrap();
            assert!((told - busy).abs() <= 1e-3 + 0.01 * busy, "{name}: {told} s of {busy} s");
            let outcomes =
                |outcome: &str| bars.iter().filter(|bar| bar["cat"] == outcome).count() as u64;
            assert_eq!(outcomes("done"), count(step, "done"), "{name}");
            assert_eq!(outcomes("failed"), count(step, "failed"), "{name}");
            assert_eq!(
                outcomes("retrying"),
                if name == "NUMBERS" { 0 } else { count(step, "retried") }
            );
            let keys = bars.iter().filter(|bar| !bar["args"]["message"].is_null()).map(|bar| {
                (bar["args"]["message"].as_u64().unwrap(), bar["args"]["attempt"].as_u64().unwrap())
            });
            let keys: Vec<_> = keys.collect();
            assert_eq!(
                keys.iter().collect::<BTreeSet<_>>().len(),
                keys.len(),
                "{name}: told twice"
            );
        }
    }
}

#[test]
fn every_message_is_in_the_trace_once_at_each_step() {
    let run = traced(&json!({}), &[]);
    run.check();
    assert_eq!(run.attempts("ADD"), 60);
    // 20 of 60 fail twice.
    assert_eq!(run.attempts("FAULTY"), 80);
    assert_eq!(run.attempts("WAIT"), 40);
    let second = run.bars("FAULTY").into_iter().filter(|bar| bar["args"]["attempt"] == 2);
    for bar in second {
        assert_eq!((&bar["cat"], &bar["args"]["cause"]), (&json!("failed"), &json!("failed")));
        assert!(bar["args"]["waited_us"].as_f64().unwrap() >= 99_000.0, "the wait counts: {bar}");
    }
    let threads = run.events.iter().filter(|event| event["name"] == "thread_name");
    assert!(threads.clone().count() >= 5);
    assert!(run.events.iter().any(|event| event["ph"] == "C" && event["name"] == "queue"));
}

#[test]
fn processes_and_one_thread_are_traced_too() {
    let processes = traced(&json!({ "nb_process": 2, "nb_thread": 0 }), &[]);
    processes.check();
    assert_eq!(processes.attempts("FAULTY"), 80);
    let sequential = traced(&json!({}), &["--mode", "sequential"]);
    sequential.check();
    // All on one thread: no two bars of the whole run at once.
    let mut bars: Vec<(f64, f64)> = sequential
        .events
        .iter()
        .filter(|event| event["ph"] == "X")
        .map(|event| (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap()))
        .collect();
    bars.sort_by(|a, b| a.0.total_cmp(&b.0));
    for pair in bars.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0 + 0.01, "{pair:?}");
    }
}

#[test]
fn a_lost_worker_and_what_it_had_are_in_the_trace() {
    let more = json!({ "nb_process": 1, "nb_thread": 0,
        "params": { "fault": "abort", "numbers": 30, "attempts": 1 } });
    let run = traced(&more, &[]);
    let lost = run.bars("FAULTY").into_iter().filter(|bar| bar["args"]["cause"] == "lost");
    let lost: Vec<_> = lost.collect();
    assert!(
        !lost.is_empty()
            && lost.iter().all(|bar| bar["cat"] == "retrying" || bar["cat"] == "failed")
    );
    let done = run.bars("FAULTY").into_iter().filter(|bar| bar["cat"] == "done").count() as u64;
    assert_eq!(done, count(step(&run.summary, "FAULTY"), "done"));
}

#[test]
fn the_trace_of_a_killed_run_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("pipeline.json"), config(&json!({}))).unwrap();
    let mut command = drpipe(directory.path());
    command.args(["--trace", "trace.json", "-q", "--Sleep.seconds=0.2"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let file = directory.path().join("trace.json");
    let bars = |file: &Path| fs::read_to_string(file).unwrap_or_default().matches("\"X\"").count();
    eventually("spans in the file", || (bars(&file) > 20).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let whole = &text[..text.rfind(",\n").unwrap()];
    let events: Vec<Value> = serde_json::from_str(&format!("{whole}]")).unwrap();
    assert!(events.iter().filter(|event| event["ph"] == "X").count() > 20);
}

#[test]
fn a_trace_that_cannot_be_written_is_refused_before_the_run() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("pipeline.json"), config(&json!({}))).unwrap();
    let run =
        finish(drpipe(directory.path()).args(["--trace", "missing/trace.json"])).expect_code(2);
    assert!(
        run.err.contains("missing/trace.json") && run.err.contains("--trace FILE"),
        "{}",
        run.err
    );
}

/// The run waited for such a reader for ever, and two signals did not end it.
#[test]
fn a_reader_that_never_comes_is_not_waited_for_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("pipeline.json"), config(&json!({}))).unwrap();
    let pipe = directory.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let mut command = drpipe(directory.path());
    let run = finish(command.arg("--trace").arg(&pipe)).expect_code(1);
    assert!(run.err.contains("the trace is incomplete"), "{}", run.err);
}

#[test]
fn two_options_with_one_file_are_refused_before_it_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&json!({}));
    fs::write(directory.path().join("pipeline.json"), &config).unwrap();
    for args in [
        ["--trace", "pipeline.json", "--report", "a.html"],
        ["--report", "./a", "--events", "a"],
        ["--journal", "a", "--trace", "a"],
    ] {
        let run = finish(drpipe(directory.path()).args(args)).expect_code(2);
        assert!(run.err.contains(" uses this file too; name another one"), "{}", run.err);
        assert_eq!(fs::read_to_string(directory.path().join("pipeline.json")).unwrap(), config);
        assert!(!directory.path().join("a").exists());
    }
    let both = ["-q", "--trace", "/dev/null", "--report", "/dev/null"];
    finish(drpipe(directory.path()).args(both)).expect_code(1);
}
