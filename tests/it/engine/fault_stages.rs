//! The stages that go wrong on request do it in the way that was asked for.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;

use rustix::process::Signal;
use serde_json::{Value, json};
use signal_hook::consts::{SIGABRT, SIGSEGV};

use crate::support::program::{
    Logged, assert_balanced, count, drpipe, finish, finished, json, step,
};

/// The numbers from 0 to 19 through a step with these parameters.
fn place(params: Value, retries: u32) -> tempfile::TempDir {
    let config = json!({ "version": 1,
        "producer": { "name": "NUMBERS", "class": "Integers", "params": { "last": 19 } },
        "stagers": [{ "name": "FAULT", "class": "Fault", "params": params, "nb_thread": 2,
                      "retries": retries, "backoff": 0.001 }],
        "consumer": { "name": "END", "class": "Discard" } });
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("pipeline.json"), config.to_string()).unwrap();
    directory
}

fn output(params: Value) -> Output {
    let directory = place(params, 0);
    drpipe(directory.path()).output().unwrap()
}

#[test]
fn what_ends_the_process_ends_the_program() {
    let ended = |fault: &str| output(json!({ "fault": fault, "numbers": 7, "code": 9 })).status;
    assert_eq!(ended("abort").signal(), Some(SIGABRT));
    assert_eq!(ended("segfault").signal(), Some(SIGSEGV));
    assert_eq!(ended("exit").code(), Some(9));
}

#[test]
fn what_hangs_is_stopped_by_the_second_signal() {
    for fault in ["hang", "ignore_sigterm"] {
        let directory = place(json!({ "fault": fault }), 0);
        let mut run = Logged::start(&mut drpipe(directory.path()));
        run.wait_for("every worker is ready");
        run.signal(Signal::TERM);
        run.wait_for("the run takes no more input");
        run.signal(Signal::TERM);
        run.expect_code(130);
    }
}

#[test]
fn attempts_are_counted_over_all_workers() {
    let directory = place(json!({ "fault": "panic", "numbers": 5, "attempts": 2 }), 2);
    finish(drpipe(directory.path()).args(["--summary", "summary.json"])).expect_code(0);
    let summary = json(&directory.path().join("summary.json"));
    assert_balanced(&summary);
    let chosen = (0..20).filter(|number| number % 5 == 0).count() as u64;
    assert_eq!(count(step(&summary, "FAULT"), "retried"), 2 * chosen);
}

#[test]
fn a_flood_arrives() {
    let directory = place(json!({ "fault": "flood", "numbers": 10, "count": 3000 }), 0);
    finish(drpipe(directory.path()).args(["--summary", "summary.json"])).expect_code(0);
    let summary = json(&directory.path().join("summary.json"));
    assert_balanced(&summary);
    assert_eq!(count(step(&summary, "END"), "done"), 18 + 2 * 3000);
}

#[test]
fn a_message_to_an_undeclared_step_fails_alone() {
    let ended = finished(output(json!({ "fault": "undeclared_step", "numbers": 10 })));
    let ended = ended.expect_code(1);
    assert!(ended.err.contains("is not among the next steps"), "{}", ended.err);
    assert!(ended.out.contains("quarantine: 2 failed inputs"), "{}", ended.out);
}

#[test]
fn an_unknown_parameter_of_the_producer_is_a_usage_error() {
    let directory = tempfile::tempdir().unwrap();
    let config = |params: Value| {
        let config = json!({ "version": 1,
            "producer": { "name": "P", "class": "FaultyProducer", "params": params },
            "consumer": { "name": "END", "class": "Discard" } });
        fs::write(directory.path().join("pipeline.json"), config.to_string()).unwrap();
        finish(&mut drpipe(directory.path()))
    };
    let wrong = config(json!({ "messages": 3, "fault": "fail", "evry": 2 })).expect_code(2);
    assert!(wrong.err.contains("did you mean \"every\"?"), "{}", wrong.err);
    let failing = config(json!({ "messages": 3, "fault": "fail", "nth": 2 })).expect_code(3);
    assert!(failing.out.contains("\"P\" failed: "), "{}", failing.out);
    config(json!({ "messages": 3, "fault": "panic", "nth": 4 })).expect_code(0);
}
