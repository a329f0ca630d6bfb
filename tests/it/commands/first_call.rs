//! The first call: `drpipe night.json raw/*.fits`, and what it leaves to be read.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::program::{
    assert_balanced, count, drpipe, files, finish, json as read, make_frames, step,
};

/// A directory with a night: two frames in `raw`, one in `other`, and the configuration.
fn night() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let make = |place: &str, number: u64, seed: u64| {
        let params = json!({ "count": number, "width": 32, "height": 32, "seed": seed });
        make_frames(directory.path(), &params, place);
    };
    make("raw", 2, 1);
    make("other", 1, 2);
    let config = json!({
        "version": 1,
        "producer": { "name": "FILES", "class": "FitsFiles", "params": { "directory": "raw" } },
        "stagers": [{ "name": "READ", "class": "ReadFits" },
            { "name": "EQUALIZE", "class": "HistogramEqualization" }],
        "consumer": { "name": "SAVE", "class": "SavePng", "params": { "directory": "png" } }
    });
    fs::write(directory.path().join("night.json"), config.to_string()).unwrap();
    directory
}

/// How many frames a run with these arguments takes in.
#[track_caller]
fn taken(directory: &Path, args: &[&str]) -> u64 {
    finish(drpipe(directory).args(args).args(["--summary", "s.json"])).expect_code(0);
    let summary = read(&directory.join("s.json"));
    assert_balanced(&summary);
    count(step(&summary, "FILES"), "emitted")
}

#[test]
fn a_configuration_and_frames_need_no_options() {
    let night = night();
    let directory = night.path();
    assert_eq!(taken(directory, &["night.json"]), 2);
    assert_eq!(taken(directory, &["run", "night.json"]), 2);
    // They take the place of the directory that the configuration names.
    assert_eq!(taken(directory, &["night.json", "other/synth_0000.fits"]), 1);
    assert_eq!(taken(directory, &["night.json", "raw/synth_0001.fits", "other"]), 2);
    assert_eq!(taken(directory, &["--config", "night.json", "other"]), 1);
    // The command line's own settings beat them.
    assert_eq!(taken(directory, &["night.json", "other", "--set", "FILES.files=[\"raw\"]"]), 2);
    assert_eq!(taken(directory, &["night.json", "--set", "producer.directory=other"]), 1);
}

#[test]
fn check_and_graph_take_the_configuration_without_an_option() {
    let night = night();
    for command in ["check", "graph"] {
        let shown = finish(drpipe(night.path()).args([command, "night.json"])).expect_code(0);
        assert!(shown.out.contains("EQUALIZE"), "{}", shown.out);
        let both = ["night.json", "--config", "night.json"];
        finish(drpipe(night.path()).arg(command).args(both)).expect_code(2);
    }
}

#[test]
fn frames_for_a_producer_that_takes_no_files_are_refused() {
    let night = night();
    let refused = finish(drpipe(night.path()).args(["make.json", "a.fits", "b.fits"]));
    let refused = refused.expect_code(2);
    let said =
        "frames a.fits and 1 more: error: unknown parameter \"files\" of class \"SynthFrames\"";
    assert!(refused.err.contains(said), "{}", refused.err);
}

#[test]
fn a_misspelt_command_is_told_from_a_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let run = finish(drpipe(directory.path()).arg("chekc")).expect_code(2);
    assert!(run.err.contains("cannot read chekc"), "{}", run.err);
    assert!(run.err.contains("did you mean the command \"check\"?"), "{}", run.err);
}

#[test]
fn a_frame_in_the_place_of_the_configuration_is_told_so() {
    let night = night();
    let run = finish(drpipe(night.path()).arg("raw/synth_0000.fits")).expect_code(2);
    let said =
        "raw/synth_0000.fits is a FITS file; name the configuration first: drpipe CONFIG FRAMES";
    assert!(run.err.contains(said), "{}", run.err);
}

#[test]
fn a_failure_is_one_line_of_why_and_the_end_says_what_to_do_next() {
    let night = night();
    fs::write(night.path().join("raw/dark.fits"), "").unwrap();
    let run = finish(drpipe(night.path()).arg("night.json")).expect_code(1);
    let failures: Vec<&str> = run.err.lines().filter(|line| line.contains("dark.fits")).collect();
    assert_eq!(failures.len(), 1, "{}", run.err);
    assert_eq!(failures[0].matches("dark.fits").count(), 1, "{}", failures[0]);
    assert!(failures[0].contains("READ failed: ") && failures[0].contains("is empty"));
    let ledger = run.out.lines().take_while(|line| !line.starts_with("quarantine: "));
    assert!(ledger.map(|line| line.chars().count()).max() <= Some(80), "{}", run.out);
    let last: Vec<&str> = run.out.lines().rev().take(4).collect();
    assert!(last[3].starts_with("products: 2 files in png"), "{}", run.out);
    assert!(last[2].starts_with("quarantine: 1 failed input in quarantine/"), "{}", run.out);
    // The commands work as they are printed.
    for (line, code) in [(last[1], 0), (last[0], 1)] {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[..2], ["drpipe", "quarantine"]);
        finish(drpipe(night.path()).args(&words[1..])).expect_code(code);
    }
}

#[test]
fn the_summary_counts_products_by_directory() {
    let night = night();
    finish(drpipe(night.path()).args(["night.json", "--summary", "s.json"])).expect_code(0);
    let png = fs::canonicalize(night.path().join("png")).unwrap();
    assert_eq!(files(&png).len(), 2);
    let products: Value = json!({ png.to_str().unwrap(): 2 });
    assert_eq!(read(&night.path().join("s.json"))["products"], products);
}

#[test]
fn check_says_where_workers_run_within_which_limits_and_what_feeds_back() {
    let directory = tempfile::tempdir().unwrap();
    let config = json!({
        "version": 1,
        "producer": { "name": "N", "class": "Integers", "params": { "last": 3 },
            "next_steps": ["A"] },
        "stagers": [
            { "name": "A", "class": "Square", "nb_thread": { "min": 1, "max": 3 },
              "next_steps": ["B"] },
            { "name": "B", "class": "Square", "nb_process": 2, "timeout": 1.5,
              "next_steps": ["C"] },
            { "name": "C", "class": "Square", "nb_thread": 2, "nb_process": 1,
              "next_steps": ["E", "A"], "feedback": ["A"] }],
        "consumer": { "name": "E", "class": "Discard" }
    });
    fs::write(directory.path().join("c.json"), config.to_string()).unwrap();
    let shown = finish(drpipe(directory.path()).args(["check", "c.json"])).expect_code(0).out;
    for line in [
        "  A (Square, 1 to 3 workers) -> B",
        "  B (Square, 2 workers in processes, timeout 1.5 s) -> C",
        "  C (Square, 2 workers on threads and 1 in processes) -> E, A (feedback)",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in\n{shown}");
    }
}
