//! `--events`: what a run tells while it goes on, a line of JSON for each event.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::program::{count, drpipe, finish, finished, json, package, step};

/// Numbers from 1 to `last`, of which every tenth, or so, fails.
fn numbers(last: u32, every: u32, policy: &str) -> String {
    format!(
        r#"{{ "version": 1,
  "producer": {{ "name": "NUMBERS", "class": "Integers", "params": {{ "first": 1, "last": {last} }} }},
  "stagers": [ {{ "name": "FAIL", "class": "Fail", "on_error": "{policy}",
                 "params": {{ "every": {every}, "how": "permanent" }} }} ],
  "consumer": {{ "name": "END", "class": "Discard" }} }}"#
    )
}

fn failing() -> String {
    numbers(30, 10, "quarantine")
}

fn prepared(config: String) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("pipeline.json"), config).unwrap();
    directory
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

#[test]
fn every_line_is_an_event_and_the_last_is_the_summary() {
    let directory = prepared(failing());
    let args = ["--events", "events.jsonl", "--summary", "summary.json"];
    finish(drpipe(directory.path()).args(args)).expect_code(1);
    let events = lines(&fs::read_to_string(directory.path().join("events.jsonl")).unwrap());
    let (first, last) = (&events[0], events.last().unwrap());
    assert_eq!(first["event"], "opened");
    assert_eq!(first["format"], 1);
    assert_eq!(first["steps"], serde_json::json!(["NUMBERS", "FAIL", "END"]));
    for (number, event) in (1_u64..).zip(&events) {
        assert_eq!(event["number"], number, "{event}");
    }

    let mut summary = json(&directory.path().join("summary.json"));
    summary["event"] = "ended".into();
    let mut ended = last.clone();
    assert_eq!(ended.as_object_mut().unwrap().remove("number"), Some(events.len().into()));
    assert!(ended.as_object_mut().unwrap().remove("at_s").unwrap().is_f64());
    assert_eq!(ended, summary);
    assert_eq!(of_kind(&events, "ended").len(), 1);

    let failed = of_kind(&events, "failed");
    assert_eq!(failed.len() as u64, count(step(&summary, "FAIL"), "failed"));
    assert_eq!(
        (&failed[0]["cause"], &failed[0]["policy"]),
        (&"failed".into(), &"quarantine".into())
    );
    assert!(failed[0]["failure"]["chain"][0].is_string());
    for finished in of_kind(&events, "step_finished") {
        let counted = step(&summary, finished["step"].as_str().unwrap());
        for key in ["received", "done", "failed", "emitted"] {
            assert_eq!(finished[key], counted[key], "{finished}");
        }
    }
    assert_eq!(of_kind(&events, "step_finished").len(), 3);
    let progress = of_kind(&events, "progress");
    assert!(progress[0]["elapsed_s"].is_f64() && progress[0]["steps"][1]["p99_s"].is_f64());
}

#[test]
fn every_event_and_member_is_in_the_document() {
    let document = fs::read_to_string(package().join("docs/EVENTS.md")).unwrap();
    let directory = prepared(failing());
    let mut command = drpipe(directory.path());
    let run = finish(command.args(["--quiet", "--events", "/dev/stdout"])).expect_code(1);
    for event in lines(&run.out) {
        let kind = event["event"].as_str().unwrap();
        assert!(document.contains(&format!("| `{kind}` |")), "{kind}");
        let steps = event["steps"].as_array().and_then(|steps| steps[0].as_object());
        for name in event.as_object().into_iter().chain(steps).flat_map(serde_json::Map::keys) {
            let is_there = name == "event" || document.contains(&format!("`{name}`"));
            assert!(is_there, "{name} of {kind}");
        }
    }
}

/// Starts a run whose events go into a pipe that is read from the standard output
/// of the returned child.
fn piped(directory: &Path) -> Command {
    let mut command = drpipe(directory);
    command.args(["--quiet", "--log-level", "off", "--events", "/dev/fd/1"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_reader_that_goes_away_changes_nothing() {
    let directory = prepared(numbers(200_000, 100_000, "skip"));
    let mut child = piped(directory.path()).args(["--summary", "summary.json"]).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("opened"), "{first}");
    finished(child.wait_with_output().unwrap()).expect_code(1);
    let summary = json(&directory.path().join("summary.json"));
    assert_eq!(count(step(&summary, "FAIL"), "received"), 200_000);
}

#[test]
fn a_reader_that_reads_nothing_does_not_hold_up_the_run() {
    // More lines than the pipe holds and more than are kept.
    let directory = prepared(numbers(20_000, 1, "skip"));
    let mut child = piped(directory.path()).args(["--summary", "summary.json"]).spawn().unwrap();
    let events = child.stdout.take().unwrap();
    let run = finished(child.wait_with_output().unwrap()).expect_code(1);
    let summary = json(&directory.path().join("summary.json"));
    assert_eq!(count(step(&summary, "FAIL"), "dropped"), 20_000);
    assert_eq!(run.err, "");
    drop(events);
}

#[test]
fn a_slow_reader_is_told_the_end_and_what_it_missed() {
    let directory = prepared(numbers(100_000, 1, "skip"));
    let mut child = piped(directory.path()).args(["--summary", "summary.json"]).spawn().unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    events.read_to_string(&mut text).unwrap();
    let mut read = lines(&text);
    finished(child.wait_with_output().unwrap());
    let last = read.pop().unwrap();
    assert_eq!(last["event"], "ended");
    let omitted: u64 = of_kind(&read, "omitted").iter().map(|event| count(event, "count")).sum();
    let failed = of_kind(&read, "failed").len() as u64;
    let others = [of_kind(&read, "started"), of_kind(&read, "step_finished")].concat().len() as u64;
    // What came too fast to be taken is counted with the progress events among it.
    let told = failed + others + omitted;
    assert!((100_000 + 4..=count(&last, "number")).contains(&told), "{told}");
}

#[test]
fn a_run_that_cannot_be_started_says_so_on_the_last_line() {
    let directory = prepared(failing());
    let args = ["--events", "events.jsonl", "--journal", "missing/journal"];
    finish(drpipe(directory.path()).args(args)).expect_code(2);
    let events = lines(&fs::read_to_string(directory.path().join("events.jsonl")).unwrap());
    let last = events.last().unwrap();
    assert_eq!((last["event"].as_str(), last["exit_code"].as_u64()), (Some("error"), Some(2)));
    assert!(last["reason"].as_str().unwrap().contains("missing/journal"));
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_the_run() {
    let directory = prepared(failing());
    for file in ["missing/events.jsonl", ".", "/dev/fd/1000"] {
        let run = finish(drpipe(directory.path()).args(["--events", file])).expect_code(2);
        assert!(run.err.contains(&format!("--events {file}: ")), "{}", run.err);
    }
}
