//! Steps in Rust that send one another what they would send to another language:
//! the same results, on threads and in processes.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::program::{Finished, drpipe, files, finish};

fn config(workers: &str, pixels: u32) -> Value {
    let stager = |name: &str, class: &str| json!({"name": name, "class": class, workers: 2});
    json!({
        "version": 1,
        "producer": {
            "name": "FRAMES", "class": "SynthFrames",
            "params": {"count": 6, "width": pixels, "height": 48, "seed": 5}
        },
        "stagers": [
            stager("CLEAN", "NoiseRemoval"),
            stager("PASS", "Pass"),
            {"name": "WRITE", "class": "WriteFits", "params": {"directory": "fits"}, workers: 2},
            stager("EQUALIZE", "HistogramEqualization"),
        ],
        "consumer": {"name": "SAVE", "class": "SavePng", "params": {"directory": "png"}, workers: 2},
    })
}

fn run(config: &Value, args: &[&str]) -> (Finished, BTreeMap<PathBuf, Vec<u8>>) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("pipeline.json"), config.to_string()).unwrap();
    let finished = finish(drpipe(directory.path()).args(args));
    let products = ["fits", "png"].map(|folder| files(&directory.path().join(folder)));
    (finished, products.into_iter().flatten().collect())
}

#[test]
fn frames_come_out_the_same_in_either_codec() {
    // Frames within the header, as buffers, and in shared memory.
    for pixels in [16, 128, 2048] {
        let (finished, expected) = run(&config("nb_thread", pixels), &[]);
        finished.expect_code(0);
        assert_eq!(expected.len(), 12);
        let modes: [(&str, &[&str]); 3] = [
            ("nb_thread", &["--messagepack"]),
            ("nb_thread", &["--messagepack", "--mode", "sequential"]),
            ("nb_process", &["--messagepack"]),
        ];
        for (workers, args) in modes {
            let (finished, products) = run(&config(workers, pixels), args);
            finished.expect_code(0);
            assert!(products == expected, "{workers} {args:?} with {pixels} pixels");
        }
    }
}

/// Of the numbers from 1 to 9 those fail that three divides.
fn failing() -> Value {
    json!({
        "version": 1,
        "producer": {"name": "NUMBERS", "class": "Integers", "params": {"first": 1, "last": 9}},
        "stagers": [
            {"name": "FAIL", "class": "Fail", "params": {"every": 3, "how": "permanent"}},
            {"name": "TEXT", "class": "FormatNumber"},
        ],
        "consumer": {"name": "SAVE", "class": "WriteLines", "params": {"file": "out.txt"}},
    })
}

#[test]
fn a_failed_input_keeps_its_codec() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("pipeline.json"), failing().to_string()).unwrap();
    let run = |args: &[&str]| finish(drpipe(directory.path()).args(args));
    run(&["--messagepack"]).expect_code(1);
    let shown = run(&["quarantine", "show", "quarantine"]).expect_code(0).out;
    assert_eq!(shown.matches("messagepack").count(), 3, "{shown}");
    assert!(shown.contains("value         6"), "{shown}");

    let refused = run(&["quarantine", "retry", "quarantine"]).expect_code(2).err;
    let why = "it was kept in MessagePack, but the step \"FAIL\" (Fail) takes bincode now";
    assert!(refused.contains(why), "{refused}");
    let mended = ["quarantine", "retry", "quarantine", "--set", "FAIL.every=100"];
    run(&[&mended[..], &["--messagepack"]].concat()).expect_code(0);
    let text = fs::read_to_string(directory.path().join("out.txt")).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), ["3", "6", "9"]);
}

#[test]
fn mocks_and_faults_work_in_either_codec() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = failing();
    config["stagers"][0] = json!({
        "name": "FAIL", "class": "Fault", "retries": 1, "nb_process": 2,
        "params": {"fault": "abort", "numbers": 4, "attempts": 1, "directory": "attempts"}
    });
    fs::create_dir(directory.path().join("attempts")).unwrap();
    fs::write(directory.path().join("pipeline.json"), config.to_string()).unwrap();
    let run = |args: &[&str]| finish(drpipe(directory.path()).args(args));
    run(&["--messagepack"]).expect_code(0);
    let text = fs::read_to_string(directory.path().join("out.txt")).unwrap();
    assert_eq!(text.lines().count(), 9, "{text}");
    run(&["check", "--messagepack", "--mock", "fail=0.1,panic=0.05"]).expect_code(0);
}
