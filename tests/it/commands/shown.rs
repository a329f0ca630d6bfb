//! What is shown of a run is true: the numbers add up at every moment, and so does what is
//! said about them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::live::{Place, long, step as seen};
use crate::support::program::{count, drpipe, finish, json as read_json, package, step};

/// A run of a producer of numbers, these stages, and an end that does nothing.
fn config(last: u64, stagers: Value) -> Value {
    json!({
        "version": 1,
        "producer": {"name": "NUMBERS", "class": "Integers", "params": {"first": 1, "last": last}},
        "stagers": stagers,
        "consumer": {"name": "END", "class": "Discard"},
    })
}

fn directory(config: &Value) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("night.json"), config.to_string()).unwrap();
    directory
}

fn run(directory: &Path, args: &[&str]) -> (String, Value) {
    let mut command = drpipe(directory);
    command.args(["run", "--config", "night.json", "--summary", "summary.json"]).args(args);
    let out = finish(&mut command).out;
    (out, read_json(&directory.join("summary.json")))
}

/// Messages that waited for room in the next queue were in no number.
#[test]
fn what_was_sent_was_received_or_is_held() {
    let mut config = long();
    config["stagers"][1]["queue_limit"] = json!(4);
    let place = Place::with(&config);
    let _run = place.start();
    let adds_up = |view: &Value| {
        let (numbers, pass, slow) = (seen(view, "NUMBERS"), seen(view, "PASS"), seen(view, "SLOW"));
        for (from, to) in [(numbers, pass), (pass, slow), (slow, seen(view, "END"))] {
            let edge = &from["next_steps"][0];
            let (sent, held) = (count(edge, "sent"), count(edge, "held"));
            assert_eq!(sent, count(to, "received") + held, "{from}\n{to}");
            assert_eq!(held, count(from, "held"));
            let ended = count(to, "done") + count(to, "failed") + count(to, "dropped");
            assert_eq!(count(to, "received"), ended + count(to, "queued") + count(to, "in_hand"));
        }
        let open = |step: &Value| count(step, "queued") + count(step, "in_hand");
        let under_way: u64 =
            ["PASS", "SLOW", "END"].map(|name| open(seen(view, name))).iter().sum();
        let held: u64 =
            ["NUMBERS", "PASS", "SLOW"].map(|name| count(seen(view, name), "held")).iter().sum();
        let finished = view["finished"].as_u64().unwrap();
        assert_eq!(finished + under_way + held, view["emitted"].as_u64().unwrap(), "{view}");
        count(pass, "held") > 0 && count(pass, "held_bytes") > 0
    };
    place.until("something is held", adds_up);
}

/// Who waits for room was said to have time, and the queue was named at the wrong step.
#[test]
fn who_is_held_back_and_by_whose_queue_is_told() {
    let mut config = long();
    config["stagers"][0]["queue_limit"] = json!(4);
    config["stagers"][1]["queue_limit"] = json!(4);
    let place = Place::with(&config);
    let _run = place.start();
    let view = place.until("two are held back", |view| {
        let held = |name| seen(view, name)["standing"] == "held_back";
        view["bottleneck"] == "SLOW" && held("NUMBERS") && held("PASS")
    });
    assert_eq!(seen(&view, "NUMBERS")["held_by"], json!(["PASS"]));
    assert_eq!(seen(&view, "PASS")["held_by"], json!(["SLOW"]));
    let says = view["says"].to_string();
    assert!(says.contains("SLOW is the bottleneck: its worker is busy"), "{says}");
    assert!(says.contains("Its full queue holds back NUMBERS and PASS."), "{says}");
}

/// Attempts that were cut short counted as no work at all.
#[test]
fn time_at_work_is_busy_time_whatever_came_of_it() {
    let slow = json!([{"name": "SLOW", "class": "Sleep", "params": {"seconds": 3600},
        "nb_process": 1, "timeout": 0.3}]);
    let place = directory(&config(3, slow));
    let (out, summary) = run(place.path(), &[]);
    let slow = step(&summary, "SLOW");
    assert_eq!(count(slow, "failed"), 3, "{out}");
    assert!(slow["busy_time_s"].as_f64().unwrap() >= 0.9, "{slow}");
    // None has ended by itself.
    assert_eq!((&slow["mean_s"], &slow["p99_s"]), (&json!(0.0), &json!(0.0)));
}

/// What is cut short at the end of a run is no call that has ended.
#[test]
fn what_a_second_signal_cuts_short_is_in_no_mean() {
    let slow = json!([{"name": "SLOW", "class": "Sleep", "params": {"seconds": 3600}}]);
    let place = Place::with(&config(3, slow));
    let run = place.start();
    place.until("it works", |view| seen(view, "SLOW")["busy"] == 1);
    place.ctl(&["stop"]).expect_code(0);
    assert_eq!(run.end(), Some(130));
    let summary = read_json(&place.path("run.json"));
    let slow = step(&summary, "SLOW");
    assert!(slow["busy_time_s"].as_f64().unwrap() > 0.0, "{slow}");
    assert_eq!(slow["mean_s"], json!(0.0));
}

/// Something was always called a bottleneck.
#[test]
fn where_nothing_limits_the_pace_no_bottleneck_is_named() {
    let slow =
        json!([{"name": "SLOW", "class": "Sleep", "params": {"seconds": 0.5}, "nb_thread": 16}]);
    let place = directory(&config(4, slow));
    let (out, summary) = run(place.path(), &["--report", "page.html"]);
    assert_eq!(summary["bottleneck"], Value::Null);
    assert!(!out.contains("bottleneck"), "{out}");
    let page = fs::read_to_string(place.path().join("page.html")).unwrap();
    assert!(!page.contains("bottleneck"), "{page}");
}

#[test]
fn the_bottleneck_is_told_in_the_same_words_everywhere() {
    let slow = json!([{"name": "SLOW", "class": "Sleep", "params": {"seconds": 0.1}}]);
    let place = directory(&config(20, slow));
    let (out, summary) = run(place.path(), &["--report", "page.html"]);
    assert_eq!(summary["bottleneck"], "SLOW");
    let busy = step(&summary, "SLOW")["busy_percent"].as_f64().unwrap();
    let sentence = format!("SLOW was the bottleneck: its worker was busy {busy:.0} % of the time");
    assert!(out.contains(&sentence), "{sentence}\n{out}");
    let page = fs::read_to_string(place.path().join("page.html")).unwrap();
    assert!(page.contains(&sentence), "{sentence}");
    assert!(
        page.contains("<h1>night <span")
            && page.contains(&format!("Run {}", summary["run"].as_str().unwrap()))
    );
}

#[test]
fn the_pipeline_stands_beside_the_runs_id() {
    let mut config = long();
    config["name"] = json!("flat fields");
    let place = Place::with(&config);
    let _run = place.start();
    let directory = place.root().canonicalize().unwrap().display().to_string();
    for args in [&[][..], &["status"]] {
        let text = place.ctl(args).expect_code(0).out;
        assert!(text.contains(&format!("flat fields in {directory}")), "{text}");
    }
    let runs: Value =
        serde_json::from_str(&place.ctl(&["list", "--json"]).expect_code(0).out).unwrap();
    assert_eq!(
        (&runs[0]["pipeline"], &runs[0]["directory"]),
        (&json!("flat fields"), &json!(directory))
    );
}

#[test]
fn what_is_written_about_keys_is_what_the_program_says() {
    let readme = fs::read_to_string(package().join("README.md")).unwrap();
    let sample = readme.lines().find(|line| line.contains("unknown key \"nb_thred\"")).unwrap();
    let place = tempfile::tempdir().unwrap();
    let config = r#"{"version": 1,
        "producer": {"name": "N", "class": "Integers", "params": {"last": 1}},
        "stagers": [{"name": "P", "class": "Pass", "nb_thred": 2}],
        "consumer": {"name": "END", "class": "Discard"}}"#;
    fs::write(place.path().join("pipeline.json"), config).unwrap();
    let said =
        finish(drpipe(place.path()).args(["check", "-c", "pipeline.json"])).expect_code(2).err;
    let after = |text: &str| {
        text.split("stagers[0].nb_thred").nth(1).unwrap().lines().next().unwrap().to_owned()
    };
    assert_eq!(after(sample), after(&said), "README.md shows another message");
}
