//! Classes of the first model: whose class runs, and what configuration it gets.

use std::path::Path;

use serde_json::{Value, json};

use super::{Night, first_model, of, with};
use crate::support::program::{Finished, drpipe, finish, package};
use crate::support::python::{interpreter, plain};

#[test]
fn a_class_of_a_module_runs_though_a_built_in_one_has_its_name() {
    let test = "a_class_of_a_module_runs_though_a_built_in_one_has_its_name";
    let Some(python) = interpreter(test, &["msgpack", "traitlets"]) else { return };
    let steps = json!([
        {"name": "IN", "class": "Integers", "params": {"first": 1, "last": 2}},
        with(of("components", "SQUARE", "Square"), &json!({"params": {"offset": 5}})),
        {"name": "OWN", "module": "drpipe", "class": "Square"},
        first_model("END", "Write"),
    ]);
    let night = Night::new(&python, &steps);
    night.run(&["--set", "SQUARE.offset=6"]).expect_code(0);
    let squares = [1007 * 1007, 1008 * 1008].map(|number| json!(number));
    assert_eq!(night.lines(), squares);
}

/// Runs a pipeline in ctapipe's spelling and gives the line that came out.
fn first_models(python: &Path, args: &[&str]) -> (Value, String) {
    let directory = tempfile::tempdir().unwrap();
    let config = json!({
        "version": 1,
        "Flow": {
            "mode": "multiprocess", "zmq_ports": [5555, 5556], "gui": false,
            "python": python, "pythonpath": package().join("tests/python"),
            "producer_conf": {"name": "IN", "module": "numbers", "class": "Integers"},
            "stagers_conf": [
                {"name": "CALIBRATE", "module": "components", "class": "Calibration",
                 "queue_limit": 0},
            ],
            "consumer_conf": {"name": "END", "module": "first_model", "class": "Write"},
        },
        "Integers": {"last": 0},
        "Calibration": {"scale": 3, "Cleaner": {"cut": 99}},
        "Cleaner": {"bands": ["u"]},
        "OtherReader": {"filename": "none.gz"},
    });
    std::fs::write(directory.path().join("pipeline.json"), config.to_string()).unwrap();
    let finished = finish(drpipe(directory.path()).arg("-q").args(args)).expect_code(0);
    let text = std::fs::read_to_string(directory.path().join("out.txt")).unwrap();
    (serde_json::from_str(text.trim()).unwrap(), finished.err)
}

#[test]
fn a_component_and_its_helpers_find_their_configuration() {
    let test = "a_component_and_its_helpers_find_their_configuration";
    let Some(python) = interpreter(test, &["msgpack", "traitlets"]) else { return };
    let (line, err) = first_models(&python, &[]);
    assert_eq!(
        line,
        json!({"value": 0, "scale": [3, 3], "cut": 99, "bands": ["u"], "other": "none.gz"})
    );
    let said: Vec<&str> = err.lines().filter(|line| line.contains("warning: ")).collect();
    assert_eq!(said.len(), 2, "{err}");
    assert!(said[0].contains("\"zmq_ports\" has no effect here"), "{err}");
    assert!(said[1].contains("no known class takes the section \"OtherReader\""));
    let settings = ["--Cleaner.bands=g", "--Cleaner.bands=r", "--Calibration.Cleaner.cut=5"];
    let (line, _) = first_models(&python, &settings);
    assert_eq!((&line["cut"], &line["bands"]), (&json!(5), &json!(["g", "r"])));
    let (line, _) = first_models(&python, &["--CALIBRATE.scale=8"]);
    assert_eq!(line["scale"], json!([8, 8]));
}

/// Checks a pipeline with one step in Python, in a directory with these files.
fn checked(python: &Path, files: &[(&str, &str)]) -> Finished {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let config = json!({
        "python": python,
        "producer": {"name": "IN", "class": "Integers", "params": {"last": 1}},
        "stagers": [{"name": "SAME", "module": "lab", "class": "Same"}],
        "consumer": {"name": "END", "class": "Discard"},
    });
    std::fs::write(directory.path().join("pipeline.json"), config.to_string()).unwrap();
    finish(drpipe(directory.path()).arg("check"))
}

#[test]
fn a_file_that_hides_a_module_of_python_is_named_by_the_check() {
    let test = "a_file_that_hides_a_module_of_python_is_named_by_the_check";
    let Some(python) = plain(test) else { return };
    let lab = ("lab.py", "class Same:\n    def run(self, value):\n        return value\n");
    checked(&python, &[lab, ("wave.py", "")]).expect_code(0);
    let err = checked(&python, &[lab, ("logging.py", "")]).expect_code(2).err;
    assert!(err.contains("logging.py hides a module of Python itself: rename it"), "{err}");
    // What does not fail before the run.
    let lazy =
        ("lab.py", "import random\nclass Same:\n    def run(self, value):\n        return value\n");
    let err = checked(&python, &[lazy, ("random.py", "")]).expect_code(0).err;
    assert!(
        err.contains("warning: ") && err.contains("random.py hides a module of Python itself"),
        "{err}"
    );
    // What fails when the step's own module needs it.
    let lab = ("lab.py", "import statistics\nstatistics.mean([1])\nclass Same:\n    run = print\n");
    let err = checked(&python, &[lab, ("statistics.py", "")]).expect_code(2).err;
    assert!(err.contains("statistics.py hides a module of Python itself"), "{err}");
}

/// The second example of the first model's documentation: its reader, its stage and its
/// writer, under the paths of their package.
#[test]
fn the_first_models_second_example_runs_as_it_is() {
    let test = "the_first_models_second_example_runs_as_it_is";
    let Some(python) = interpreter(test, &["msgpack", "traitlets"]) else { return };
    let directory = tempfile::tempdir().unwrap();
    let config = json!({
        "version": 1,
        "Pipeline": {
            "python": python, "pythonpath": package().join("tests/python/first_example"),
            "producer_conf": {"name": "HESSIO_READER",
                "module": "ctapipe.pipeline.algorithms.hessio_reader", "class": "HessioReader"},
            "consumer_conf": {"name": "WRITER",
                "module": "ctapipe.pipeline.algorithms.string_writer", "class": "StringWriter"},
            "stagers_conf": [{"name": "LIST_TEL", "class": "ListTelda",
                "module": "ctapipe.pipeline.algorithms.list_teldata", "nb_thread": 2}],
        },
        "HessioReader": {"filename": "gamma_test.simtel.gz"},
        "StringWriter": {"filename": directory.path().join("test.txt")},
    });
    std::fs::write(directory.path().join("pipeline.json"), config.to_string()).unwrap();
    finish(drpipe(directory.path()).arg("-q")).expect_code(0);
    let text = std::fs::read_to_string(directory.path().join("test.txt")).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_by_key(|line| line.len());
    let expected: Vec<String> =
        (1..=10).map(|n| format!("{:?}", (1..=n).collect::<Vec<_>>())).collect();
    assert_eq!(lines, expected);
}
