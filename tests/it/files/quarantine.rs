//! `drpipe quarantine`: what failed can be looked at and tried again.

mod hostile;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::program::{
    Finished, Logged, assert_balanced, count, drpipe, files, finish, json, step,
};

/// Of the numbers from 1 to 30 those fail that `FAIL.every` divides.
const CONFIG: &str = r#"{ "version": 1,
  "producer": { "name": "NUMBERS", "class": "Integers", "params": { "first": 1, "last": 30 } },
  "stagers": [ { "name": "BEFORE", "class": "Pass" },
               { "name": "FAIL", "class": "Fail", "params": { "every": 10, "how": "permanent" } },
               { "name": "SLEEP", "class": "Sleep", "params": { "seconds": 0 } },
               { "name": "TEXT", "class": "FormatNumber" } ],
  "consumer": { "name": "SAVE", "class": "WriteLines", "params": { "file": "out.txt" } } }"#;

struct Place(tempfile::TempDir);

impl Place {
    fn with(config: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.path("pipeline.json"), config).unwrap();
        place
    }

    /// Where three inputs have failed at FAIL.
    fn after_failures() -> Self {
        let place = Self::with(CONFIG);
        place.run(&[]).expect_code(1);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Finished {
        finish(drpipe(self.0.path()).args(args))
    }

    fn retry(&self, args: &[&str]) -> Finished {
        self.run(&[&["quarantine", "retry", "quarantine"], args].concat())
    }

    /// What `list --json` says.
    fn entries(&self) -> Vec<Value> {
        let listed = self.run(&["quarantine", "list", "quarantine", "--json"]).expect_code(0);
        serde_json::from_str(&listed.out).unwrap()
    }

    fn entry(&self, index: usize) -> PathBuf {
        self.path(self.entries()[index]["path"].as_str().unwrap())
    }

    fn lines(&self) -> BTreeSet<i64> {
        let text = fs::read_to_string(self.path("out.txt")).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    fn number_in(&self, entry: &Value) -> i64 {
        let header = self.path(entry["path"].as_str().unwrap()).join("header.bin");
        i64::from_le_bytes(fs::read(header).unwrap().try_into().unwrap())
    }

    fn edit_reason(&self, index: usize, edit: impl FnOnce(&mut serde_json::Map<String, Value>)) {
        let file = self.entry(index).join("reason.json");
        let mut reason = json(&file);
        edit(reason.as_object_mut().unwrap());
        fs::write(file, reason.to_string()).unwrap();
    }
}

#[test]
fn a_retry_processes_what_failed_and_takes_it_out_of_quarantine() {
    for mode in ["threads", "sequential"] {
        let place = Place::after_failures();
        let mut lines = place.lines();
        let retry = place.retry(&["--set", "FAIL.every=100", "--mode", mode]).expect_code(0);
        assert!(retry.err.contains("tried again and removed: 3 entries"), "{}", retry.err);
        assert_eq!(place.lines(), BTreeSet::from([10, 20, 30]));
        lines.append(&mut place.lines());
        assert_eq!(lines, (1..=30).collect());
        assert!(files(&place.path("quarantine")).is_empty());
    }
}

#[test]
fn one_input_that_failed_in_two_runs_is_tried_again_once() {
    let place = Place::after_failures();
    place.run(&[]).expect_code(1);
    assert_eq!(place.entries().len(), 6);
    let retry = place.retry(&["--set", "FAIL.every=1000"]).expect_code(0);
    assert!(retry.err.contains("3 older entries of the same inputs"), "{}", retry.err);
    let mut lines: Vec<String> =
        fs::read_to_string(place.path("out.txt")).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["10", "20", "30"]);
    assert_eq!(place.entries().len(), 0);
}

#[test]
fn a_retry_refuses_a_caller() {
    let place = Place::after_failures();
    let before = files(&place.path("quarantine"));
    let retry = place.retry(&["--attach"]).expect_code(2);
    assert!(retry.err.contains("quarantine retry cannot have a caller"), "{}", retry.err);
    assert_eq!(files(&place.path("quarantine")), before);
}

#[test]
fn a_retry_keeps_no_journal() {
    let place = Place::after_failures();
    for option in ["--resume", "--journal=x.journal"] {
        let refused = place.retry(&[option]).expect_code(2);
        assert!(refused.err.contains("cannot keep a journal"), "{}", refused.err);
    }
    assert_eq!(place.entries().len(), 3);
}

#[test]
fn a_retry_begins_at_the_step_that_failed() {
    let place = Place::after_failures();
    place.retry(&["--set", "FAIL.every=2", "--summary", "summary.json"]).expect_code(1);
    let summary = json(&place.path("summary.json"));
    assert_balanced(&summary);
    let names: Vec<&str> =
        summary["steps"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    // Neither the producer nor the steps before it, which would only finish again.
    assert_eq!(names, ["RETRY", "FAIL", "SLEEP", "TEXT", "SAVE"]);
    assert_eq!(count(step(&summary, "RETRY"), "emitted"), 3);
    assert_eq!(count(step(&summary, "FAIL"), "failed"), 1);
}

#[test]
fn what_fails_again_is_kept_with_its_history() {
    let place = Place::after_failures();
    let first = place.entries();
    place.retry(&["--set", "FAIL.every=1"]).expect_code(1);
    let second = place.entries();
    place.retry(&["--set", "FAIL.every=1"]).expect_code(1);
    let third = place.entries();
    assert_eq!(third.len(), 3);
    let past = |entry: &Value| {
        let path = Path::new(entry["path"].as_str().unwrap());
        json!([entry["run"], path.file_name().unwrap().to_str().unwrap(), entry["reason"]])
    };
    for (entry, (second, first)) in third.iter().zip(second.iter().zip(&first)) {
        assert_eq!(first.get("retried_from"), None);
        let history = entry["retried_from"].as_array().unwrap().iter();
        let history: Vec<Value> =
            history.map(|past| json!([past["run"], past["entry"], past["reason"]])).collect();
        assert_eq!(history, [past(first), past(second)]);
    }
    let numbers: Vec<i64> = third.iter().map(|entry| place.number_in(entry)).collect();
    assert_eq!(numbers, [10, 20, 30]);
    let shown = place.run(&["quarantine", "show", "quarantine"]).expect_code(0);
    let before = format!("{}/000001-FAIL at ", first[0]["run"].as_str().unwrap());
    assert!(shown.out.contains(&before), "{}", shown.out);
}

#[test]
fn arrays_and_origins_are_as_they_were() {
    let config = r#"{ "version": 1,
      "producer": { "name": "FRAMES", "class": "SynthFrames",
                    "params": { "count": 4, "width": 128, "height": 96 } },
      "stagers": [ { "name": "FAIL", "class": "Fail", "params": { "every": 100 } } ],
      "consumer": { "name": "SAVE", "class": "WriteFits", "params": { "directory": "fits" } } }"#;
    let expected = Place::with(config);
    expected.run(&[]).expect_code(0);
    let place = Place::with(config);
    place.run(&["--set", "FAIL.every=2"]).expect_code(1);
    let kept = place.entries();
    place.retry(&["--set", "FAIL.every=1"]).expect_code(1);
    let again = place.entries();
    assert_eq!(again.len(), 2);
    for (kept, again) in kept.iter().zip(&again) {
        for key in ["origin", "bytes", "buffer_bytes", "input_type"] {
            assert_eq!(kept[key], again[key], "{key}");
        }
        assert!(kept["origin"].is_string() && kept["buffer_bytes"][0].as_u64() > Some(0));
    }
    place.retry(&[]).expect_code(0);
    assert!(files(&place.path("fits")) == files(&expected.path("fits")));
}

#[test]
fn the_history_of_what_descends_from_an_input_is_known_by_its_origin() {
    let config = r#"{ "version": 1,
      "producer": { "name": "FRAMES", "class": "SynthFrames",
                    "params": { "count": 3, "width": 16, "height": 16 } },
      "stagers": [ { "name": "FIRST", "class": "Fail" },
                   { "name": "CLEAN", "class": "NoiseRemoval" },
                   { "name": "SECOND", "class": "Fail" } ],
      "consumer": { "name": "END", "class": "Discard" } }"#;
    let place = Place::with(config);
    place.run(&[]).expect_code(1);
    let first = place.entries();
    place.retry(&["--set", "FIRST.every=1000"]).expect_code(1);
    let second = place.entries();
    assert_eq!((first.len(), second.len()), (3, 3));
    for entry in &second {
        assert_eq!(
            (&entry["step"], &entry["retried_from"][0]["step"]),
            (&json!("SECOND"), &json!("FIRST"))
        );
        let before = first.iter().find(|before| before["origin"] == entry["origin"]).unwrap();
        let name = Path::new(before["path"].as_str().unwrap()).file_name().unwrap();
        assert_eq!(entry["retried_from"][0]["entry"], name.to_str().unwrap());
    }
}

#[test]
fn one_entry_or_one_run_is_retried_by_its_path() {
    let place = Place::after_failures();
    let retry = |path: &Path| {
        let path = path.to_str().unwrap();
        place.run(&["quarantine", "retry", path, "--set", "FAIL.every=100"]).expect_code(0);
    };
    retry(&place.entry(1));
    assert_eq!(place.lines(), BTreeSet::from([20]));
    assert_eq!(place.entries().len(), 2);
    retry(place.entry(0).parent().unwrap());
    assert_eq!(place.lines(), BTreeSet::from([10, 30]));
    assert!(place.entries().is_empty());
    let nothing = place.retry(&[]).expect_code(0);
    assert!(nothing.err.contains("there is no failed input in quarantine"), "{}", nothing.err);
}

#[test]
fn a_stopped_retry_leaves_every_entry() {
    let place = Place::after_failures();
    let before = files(&place.path("quarantine"));
    let stop = ["--set", "FAIL.every=2", "--set", "FAIL.on_error=stop", "--quarantine", "new"];
    let retry = place.retry(&stop).expect_code(3);
    assert!(retry.err.contains("left as they are, because the run did not"), "{}", retry.err);
    assert_eq!(files(&place.path("quarantine")), before);
}

#[test]
fn an_interrupted_retry_leaves_every_entry() {
    let place = Place::after_failures();
    let before = files(&place.path("quarantine"));
    let args = ["--set", "FAIL.every=100", "--set", "SLEEP.seconds=100000"];
    let mut retry = drpipe(place.0.path());
    let mut run = Logged::start(retry.args(["quarantine", "retry", "quarantine"]).args(args));
    run.wait_for("every worker is ready");
    run.signal(Signal::TERM);
    run.signal(Signal::INT);
    run.expect_code(130);
    assert_eq!(files(&place.path("quarantine")), before);
}

#[test]
fn a_retry_whose_finish_fails_leaves_every_entry() {
    let place = Place::after_failures();
    let before = files(&place.path("quarantine"));
    // The file cannot be given its name where a directory has it.
    fs::remove_file(place.path("out.txt")).unwrap();
    fs::create_dir(place.path("out.txt")).unwrap();
    let retry = place.retry(&["--set", "FAIL.every=100"]);
    assert_ne!(retry.code, Some(0));
    assert!(retry.err.contains("left as they are"), "{}", retry.err);
    assert_eq!(files(&place.path("quarantine")), before);
}

type Damage = fn(&Path);

#[test]
fn corrupt_entries_are_listed_and_skipped() {
    let damages: [(&str, Damage); 6] = [
        ("reason.json: ", |entry| fs::remove_file(entry.join("reason.json")).unwrap()),
        ("reason.json: ", |entry| fs::write(entry.join("reason.json"), "{\"run\": ").unwrap()),
        ("reason.json: missing field", |entry| fs::write(entry.join("reason.json"), "{}").unwrap()),
        ("header.bin: ", |entry| fs::remove_file(entry.join("header.bin")).unwrap()),
        ("7 bytes", |entry| fs::write(entry.join("header.bin"), "1234567").unwrap()),
        ("1 buffers", |entry| fs::write(entry.join("buffer-0.bin"), "").unwrap()),
    ];
    for (message, damage) in damages {
        let place = Place::after_failures();
        let entry = place.entry(1);
        damage(&entry);
        let corrupt = place.entries()[1]["corrupt"].as_str().unwrap().to_owned();
        assert!(corrupt.contains(message), "{corrupt}");
        let listed = place.run(&["quarantine", "list", "quarantine"]).expect_code(0);
        assert!(listed.out.lines().nth(2).unwrap().contains("corrupt"), "{}", listed.out);
        place.run(&["quarantine", "show", "quarantine"]).expect_code(0);
        let retry = place.retry(&["--set", "FAIL.every=100"]).expect_code(1);
        assert!(retry.err.contains("is skipped: "), "{}", retry.err);
        assert_eq!(place.lines(), BTreeSet::from([10, 30]));
        assert_eq!((place.entries().len(), entry.is_dir()), (1, true));
        place.retry(&[]).expect_code(1);
    }
}

#[test]
fn an_entry_without_a_step_for_it_is_refused_before_anything_runs() {
    let place = Place::after_failures();
    let before = files(&place.path("quarantine"));
    fs::write(place.path("pipeline.json"), CONFIG.replace("\"FAIL\"", "\"FAIL1\"")).unwrap();
    let retry = place.retry(&[]).expect_code(2);
    assert!(retry.err.contains("the step \"FAIL\""), "{}", retry.err);
    assert!(retry.err.contains("did you mean \"FAIL1\"?"), "{}", retry.err);
    assert!(retry.err.contains("and 2 more"), "{}", retry.err);
    fs::write(
        place.path("pipeline.json"),
        CONFIG.replace("NUMBERS", "FAIL").replacen(
            r#"{ "name": "FAIL", "class": "Fail""#,
            r#"{ "name": "OTHER", "class": "Fail""#,
            1,
        ),
    )
    .unwrap();
    assert!(place.retry(&[]).expect_code(2).err.contains("is a producer now"));
    assert_eq!(files(&place.path("quarantine")), before);
}

#[test]
fn an_entry_of_another_type_is_refused_and_one_of_unknown_type_noted() {
    let square = r#"{ "version": 1,
      "producer": { "name": "NUMBERS", "class": "Integers",
                    "params": { "first": 9223372036854775806, "last": 9223372036854775807 } },
      "stagers": [ { "name": "STEP", "class": "Square" } ],
      "consumer": { "name": "END", "class": "Discard" } }"#;
    let place = Place::with(square);
    place.run(&[]).expect_code(1);
    assert_eq!(place.entries()[0]["input_type"], "drpipe/Integer/1");
    fs::write(place.path("lines.txt"), "").unwrap();
    let text = r#"{ "version": 1,
      "producer": { "name": "LINES", "class": "Lines", "params": { "file": "lines.txt" } },
      "stagers": [ { "name": "STEP", "class": "Uppercase" } ],
      "consumer": { "name": "END", "class": "Discard" } }"#;
    fs::write(place.path("text.json"), text).unwrap();
    let wrong = place.retry(&["--config", "text.json"]).expect_code(2).err;
    for part in ["a drpipe/Integer/1", "\"STEP\" (Uppercase) takes a drpipe/Text/1"] {
        assert!(wrong.contains(part), "{wrong}");
    }
    let pass = square.replace("Square", "Pass");
    fs::write(place.path("pipeline.json"), pass).unwrap();
    for index in 0..2 {
        place.edit_reason(index, |reason| {
            reason.remove("input_type").unwrap();
            reason.remove("buffers").unwrap();
        });
    }
    let noted = place.retry(&["--config", "text.json"]).expect_code(1);
    assert!(noted.err.contains("the type of 2 of the 2 inputs is not known"), "{}", noted.err);
    let any = place.retry(&[]).expect_code(0);
    assert!(!any.err.contains("not known"), "a step that takes every type: {}", any.err);
}

#[test]
fn a_step_may_have_the_name_of_the_retry() {
    let place = Place::with(&CONFIG.replace("\"SLEEP\"", "\"RETRY\""));
    place.run(&[]).expect_code(1);
    place.retry(&["--set", "FAIL.every=100", "--summary", "summary.json"]).expect_code(0);
    let summary = json(&place.path("summary.json"));
    assert_eq!(count(step(&summary, "RETRY2"), "emitted"), 3);
    assert_eq!(count(step(&summary, "RETRY"), "received"), 3);
}

#[test]
fn a_retry_keeps_what_fails_again_also_under_the_policy_skip() {
    let place = Place::after_failures();
    place.retry(&["--set", "FAIL.every=1", "--set", "FAIL.on_error=skip"]).expect_code(1);
    assert_eq!(place.entries().len(), 3);
}

#[test]
fn entries_are_listed_with_the_newest_run_last() {
    let place = Place::after_failures();
    let run = |index: usize| place.entry(index).parent().unwrap().to_owned();
    fs::rename(run(0), place.path("quarantine/20250102T000000Z-9-10")).unwrap();
    place.run(&[]).expect_code(1);
    let newest = run(3);
    fs::rename(newest, place.path("quarantine/20250102T000000Z-9-9")).unwrap();
    fs::create_dir(place.path("quarantine/unrelated")).unwrap();
    let listed = place.run(&["quarantine", "list", "quarantine"]).expect_code(0).out;
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 7);
    let headings = ["entry", "step", "cause", "attempts", "time", "origin", "reason"];
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), headings);
    assert!(lines[1].starts_with("quarantine/20250102T000000Z-9-9/000001-FAIL"), "{listed}");
    assert!(lines[6].starts_with("quarantine/20250102T000000Z-9-10/000003-FAIL"), "{listed}");
    for line in &lines[1..] {
        assert!(line.contains("  FAIL  failed "), "{listed}");
        assert!(line.ends_with("of this worker fails as requested"), "{listed}");
        assert_eq!(line.find("FAIL  failed"), lines[0].find("step"), "{listed}");
    }
}

#[test]
fn all_that_is_known_of_an_entry_is_shown() {
    let place = Place::after_failures();
    place.edit_reason(0, |reason| {
        reason.insert("host".into(), json!("dome"));
        reason["reason"] = json!(["first\u{1b}[2J", "second"]);
    });
    let entry = place.entry(0);
    let shown = place.run(&["quarantine", "show", entry.to_str().unwrap()]).expect_code(0).out;
    for part in ["step          FAIL\n", "host          dome\n", "second\n", "8 bytes\n"] {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
    assert!(!shown.contains('\u{1b}'));
    let show = ["quarantine", "show", entry.to_str().unwrap(), "--json"];
    let shown: Value = serde_json::from_str(&place.run(&show).expect_code(0).out).unwrap();
    assert_eq!((&shown[0]["host"], &shown[0]["header_bytes"]), (&json!("dome"), &json!(8)));
}

#[test]
fn a_quarantine_that_is_not_there_is_a_usage_error() {
    let place = Place::with(CONFIG);
    for command in ["list", "show", "retry"] {
        let run = place.run(&["quarantine", command, "nowhere"]).expect_code(2);
        assert!(run.err.contains("cannot read nowhere"), "{}", run.err);
    }
    let help = place.run(&["quarantine", "--help"]).expect_code(0);
    assert!(help.out.contains("drpipe quarantine retry quarantine --config"), "{}", help.out);
}

#[test]
fn the_list_says_why_an_input_failed() {
    let place = Place::after_failures();
    place.edit_reason(0, |reason| {
        let chain = ["raw/x.fits", "no finite pixel", "Traceback (most recent call last):\n  x"];
        reason.insert("reason".into(), json!(chain));
    });
    let listed = place.run(&["quarantine", "list", "quarantine"]).expect_code(0);
    let first = listed.out.lines().find(|line| line.contains("000001-FAIL")).unwrap();
    assert!(first.ends_with("  no finite pixel"), "{first}");
}
