//! What crosses steps and languages, and how it arrives.

use serde_json::json;

use super::{Night, first_model, of, with};
use crate::support::odd_directory;
use crate::support::program::{drpipe, finish, json as read_json};
use crate::support::python::{interpreter, plain};

#[test]
fn plain_values_keep_their_types_between_steps_in_python() {
    let Some(python) = plain("plain_values_keep_their_types_between_steps_in_python") else {
        return;
    };
    let steps =
        [first_model("IN", "Types"), first_model("D", "Describe"), first_model("END", "Write")];
    let night = Night::new(&python, &json!(steps));
    night.run(&[]).expect_code(0);
    let mut lines: Vec<String> =
        night.lines().iter().map(|line| format!("{} {}", line["type"], line["value"])).collect();
    lines.sort();
    let mut expected = vec![
        "\"bool\" true".to_owned(),
        "\"int\" 7".to_owned(),
        format!("\"int\" {}", i64::MIN),
        format!("\"int\" {}", u64::MAX),
        "\"float\" 2.5".to_owned(),
        "\"str\" \"text\"".to_owned(),
        "\"bytes\" \"b'bytes'\"".to_owned(),
        "\"list\" [1,\"two\",[3.0]]".to_owned(),
        "\"dict\" {\"a\":1,\"b\":{\"c\":null}}".to_owned(),
        "\"dict\" {\"3\":\"number as key\"}".to_owned(),
        "\"tuple\" [\"a tuple\",[1,2]]".to_owned(),
    ];
    expected.sort();
    assert_eq!(lines, expected);
}

#[test]
fn values_cross_from_python_to_rust_and_back() {
    let Some(python) = plain("values_cross_from_python_to_rust_and_back") else { return };
    let square = json!({"name": "SQUARE", "class": "Square", "nb_thread": 2});
    let pass = json!({"name": "PASS", "class": "Pass", "nb_process": 2});
    let steps = [
        first_model("IN", "SendingProducer"),
        pass,
        square,
        first_model("D", "Describe"),
        json!({"name": "ANY", "class": "Pass"}),
        first_model("END", "Write"),
    ];
    for args in [&["--mode", "sequential"][..], &[]] {
        let night = Night::new(&python, &json!(steps));
        night.run(args).expect_code(0);
        let mut values: Vec<u64> =
            night.lines().iter().map(|line| line["value"].as_u64().unwrap()).collect();
        values.sort_unstable();
        assert_eq!(values, (0..=100).map(|n| n * n).collect::<Vec<u64>>());
        assert!(night.lines().iter().all(|line| line["type"] == "int"));
    }
}

#[test]
fn what_a_rust_step_cannot_take_is_said_in_words() {
    let Some(python) = plain("what_a_rust_step_cannot_take_is_said_in_words") else { return };
    let steps = [
        first_model("IN", "Types"),
        json!({"name": "SQUARE", "class": "Square"}),
        first_model("END", "Write"),
    ];
    let night = Night::new(&python, &json!(steps));
    let finished = night.run(&[]).expect_code(1);
    for part in ["the text \"text\"", "drpipe/Integer/1", "a map with keys a, b"] {
        assert!(finished.err.contains(part), "{part} in {}", finished.err);
    }
}

#[test]
fn what_cannot_be_sent_is_named_with_its_place() {
    let Some(python) = plain("what_cannot_be_sent_is_named_with_its_place") else { return };
    let steps = [
        with(first_model("IN", "YieldingProducer"), &json!({"params": {"last": 2}})),
        with(of("faulty", "BAD", "Unsendable"), &json!({"retries": 3})),
        first_model("END", "Write"),
    ];
    let night = Night::new(&python, &json!(steps));
    let finished = night.run(&[]).expect_code(1);
    let place = "_thread.lock cannot be sent (in key 'value', item 1)";
    assert!(finished.err.contains(place), "{}", finished.err);
    assert!(!finished.err.contains("tried again"), "another attempt would meet the same");
}

#[test]
fn arrays_cross_unchanged_and_large_ones_are_read_where_they_are() {
    let test = "arrays_cross_unchanged_and_large_ones_are_read_where_they_are";
    let Some(python) = interpreter(test, &["msgpack", "numpy"]) else { return };
    let steps = [
        of("arrays", "IN", "Arrays"),
        with(of("arrays", "SAME", "Same"), &json!({"nb_process": 2})),
        json!({"name": "PASS", "class": "Pass", "nb_thread": 2}),
        of("arrays", "SUM", "Summary"),
        first_model("END", "Write"),
    ];
    let night = Night::new(&python, &json!(steps));
    night.run(&[]).expect_code(0);
    let lines = night.lines();
    assert_eq!(lines.len(), 21);
    for (dtype, bits) in [("float32", 24), ("float64", 53), ("uint16", 16), ("int64", 63)] {
        for size in [10_u64, 10_000, 200_000] {
            // Unsigned 16-bit numbers begin anew after 65536.
            let value = |n: u64| if bits == 16 { n % 65_536 } else { n };
            let sum: u64 = (0..size).map(value).sum();
            let near = |line: &serde_json::Value| {
                let found = line[2].as_f64().unwrap_or(0.0);
                (found - sum as f64).abs() <= 1e-6 * sum as f64
            };
            let there =
                lines.iter().any(|line| line[0] == dtype && line[1] == json!([size]) && near(line));
            assert!(there, "{dtype} {size} {sum} in {lines:?}");
        }
    }
    assert!(lines.contains(&json!(["int64", [2, 3], 15.0])));
    assert!(lines.contains(&json!([">f8", [4], 6.0])), "the byte order is kept");
}

/// The module stands beside the configuration, and its file's name in the traceback.
#[test]
fn a_pipeline_in_a_directory_whose_name_is_not_utf_8_runs() {
    use std::os::unix::ffi::OsStrExt;
    let test = "a_pipeline_in_a_directory_whose_name_is_not_utf_8_runs";
    let Some(python) = plain(test) else { return };
    let place = tempfile::tempdir().unwrap();
    let Some(directory) = odd_directory(test, place.path()) else { return };
    let text = "class Picky:\n    def run(self, number):\n        return 6 // number\n";
    std::fs::write(directory.join("here.py"), text).unwrap();
    let config = json!({
        "version": 1,
        "python": python,
        "producer": {"name": "IN", "class": "Integers", "params": {"last": 2}},
        "stagers": [of("here", "PICKY", "Picky")],
        "consumer": {"name": "END", "class": "Discard"},
    });
    std::fs::write(directory.join("pipeline.json"), config.to_string()).unwrap();
    let mut command = drpipe(&directory);
    let quarantine = std::ffi::OsStr::from_bytes(b"q\xe9");
    command.args(["--summary", "run.json", "--quarantine"]).arg(quarantine);
    finish(&mut command).expect_code(1);
    let summary = read_json(&directory.join("run.json"));
    assert!(summary["quarantine"].as_str().unwrap().starts_with(r"q\xE9/"), "{summary:#}");
    assert_eq!(summary["quarantined"], 1);
}
