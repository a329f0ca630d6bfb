//! `drpipe run --inline`: the steps in Python are at work in the interpreter that has the
//! terminal, and all else is as ever.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{Night, first_model, of, with};
use crate::support::program::{count, drpipe, finish, finished, step};
use crate::support::python::plain;

fn night(python: &std::path::Path, class: &str, last: u64) -> Night {
    let numbers = with(first_model("IN", "YieldingProducer"), &json!({"params": {"last": last}}));
    let square = json!({"name": "SQUARE", "class": "Square"});
    let steps = [numbers, of("here", "STEP", class), square, first_model("END", "Write")];
    Night::new(python, &json!(steps))
}

/// A module beside the configuration.
fn write_module(night: &Night) {
    let text = "\
import os
import sys

class Asks:
    def run(self, number):
        return int(input(f'{number} -> '))

class Here:
    def run(self, number):
        if number % 10 == 0:
            raise ValueError(number)
        if not os.path.exists(str(os.getpid())):
            open(str(os.getpid()), 'w').close()
            print('a process')
        return number
";
    std::fs::write(night.directory.path().join("here.py"), text).unwrap();
}

#[test]
fn a_step_has_the_terminal() {
    let Some(python) = plain("a_step_has_the_terminal") else { return };
    let night = night(&python, "Asks", 2);
    write_module(&night);
    let path = night.directory.path();
    std::fs::write(path.join("pipeline.json"), night.config.to_string()).unwrap();
    let mut child = drpipe(path)
        .args(["run", "--inline"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"7\n8\n9\n").unwrap();
    let finished = finished(child.wait_with_output().unwrap()).expect_code(0);
    assert!(finished.out.contains("0 -> 1 -> 2 -> "), "{}", finished.out);
    assert!(finished.out.contains("done in"), "the ledger is missing: {}", finished.out);
    assert_eq!(night.lines(), [json!(49), json!(64), json!(81)]);
}

#[test]
fn failures_ledger_and_exit_code_are_those_of_the_other_modes() {
    let test = "failures_ledger_and_exit_code_are_those_of_the_other_modes";
    let Some(python) = plain(test) else { return };
    let counts = |summary: &Value| -> Vec<Value> {
        let all = summary["steps"].as_array().unwrap().iter();
        let keys = ["name", "received", "done", "failed", "dropped", "retried", "emitted"];
        all.map(|step| keys.iter().map(|key| step[key].clone()).collect()).collect()
    };
    let mut seen = Vec::new();
    for mode in ["--inline", "--mode=sequential", "--mode=threads"] {
        let night = night(&python, "Here", 40);
        write_module(&night);
        let finished = night.run(&[mode]).expect_code(1);
        assert!(finished.err.contains("ValueError: 30"), "{mode}: {}", finished.err);
        assert!(finished.err.contains("here.py"), "{mode}: {}", finished.err);
        let summary = night.summary();
        assert_eq!(count(step(&summary, "STEP"), "failed"), 5);
        seen.push((counts(&summary), night.lines()));
    }
    assert!(seen[0] == seen[1] && seen[1] == seen[2], "{seen:?}");
}

#[test]
fn what_failed_is_tried_again_inline() {
    let Some(python) = plain("what_failed_is_tried_again_inline") else { return };
    let night = night(&python, "Here", 10);
    write_module(&night);
    night.run(&["--inline"]).expect_code(1);
    let again = ["quarantine", "retry", "quarantine", "--inline"];
    let finished = finish(drpipe(night.directory.path()).args(again)).expect_code(1);
    assert!(finished.err.contains("ValueError: 10"), "{}", finished.err);
}

/// Each step announces a file per message; the one in the middle fails at the second message.
#[test]
fn steps_that_share_the_interpreter_announce_for_their_own_calls() {
    let test = "steps_that_share_the_interpreter_announce_for_their_own_calls";
    let Some(python) = plain(test) else { return };
    let steps =
        [of("makes", "IN", "In"), of("makes", "STEP", "Makes"), of("makes", "END", "Makes")];
    for mode in ["--inline", "--mode=sequential"] {
        let night = Night::new(&python, &json!(steps));
        let text = "\
import drpipe

class In:
    def run(self):
        yield from ['a', 'b']

    def origin(self, value):
        return value + '.fits'

class Makes:
    def run(self, value):
        drpipe.product(f'{self.name}-{value}.txt')
        if value == 'b':
            raise ValueError(value)
        return value
";
        std::fs::write(night.directory.path().join("makes.py"), text).unwrap();
        night.run(&[mode, "--events", "events"]).expect_code(1);
        let events = std::fs::read_to_string(night.directory.path().join("events")).unwrap();
        let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let products = events.filter(|event| event["event"] == "product");
        let told: Vec<_> = products.map(|event| json!([event["path"], event["origin"]])).collect();
        assert_eq!(
            told,
            [json!(["STEP-a.txt", "a.fits"]), json!(["END-a.txt", "a.fits"])],
            "{mode}"
        );
        assert_eq!(night.summary()["products"], json!({".": 2}), "{mode}");
    }
}

#[test]
fn a_pipeline_without_python_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let config = json!({
        "version": 1,
        "producer": {"name": "IN", "class": "Integers", "params": {"last": 3}},
        "consumer": {"name": "END", "class": "Discard"},
    });
    std::fs::write(directory.path().join("pipeline.json"), config.to_string()).unwrap();
    let refused = finish(drpipe(directory.path()).args(["run", "--inline"])).expect_code(2);
    assert!(refused.err.contains("--inline is for steps in Python"), "{}", refused.err);
}

#[test]
fn an_interpreter_that_is_too_old_is_named() {
    let Some(python) = plain("an_interpreter_that_is_too_old_is_named") else { return };
    let night = night(&python, "Here", 1);
    write_module(&night);
    let path = night.directory.path();
    // The script is run as it would be by an older one.
    let text = "\
import runpy, sys
sys.version_info = (3, 8, 10, 'final', 0)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
";
    std::fs::write(path.join("older.py"), text).unwrap();
    let old = path.join("python3.8");
    let script =
        format!("#!/bin/sh\nexec {} {}/older.py \"$@\"\n", python.display(), path.display());
    std::fs::write(&old, script).unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&old, permissions).unwrap();
    let set = format!("python={}", old.display());
    let refused = night.run(&["--set", &set]).expect_code(2);
    assert!(refused.err.contains("Python 3.8.10"), "{}", refused.err);
    assert!(refused.err.contains("is too old"), "{}", refused.err);
    assert!(!refused.err.contains("Traceback"), "{}", refused.err);
}
