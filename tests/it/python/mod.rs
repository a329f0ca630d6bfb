//! Steps in Python, run as their users run them. Without an interpreter that has
//! what they need, these tests are skipped.

mod components;
mod faults;
mod inline;
mod starting;
mod styles;
mod values;
mod waiting;

use std::path::Path;

use serde_json::{Value, json};

use crate::support::program::{Finished, drpipe, finish, json as read_json, package};

/// The steps of a pipeline between a producer and a consumer in Python.
struct Night {
    directory: tempfile::TempDir,
    config: Value,
}

impl Night {
    /// `steps` are the producer, the stagers and the consumer.
    fn new(interpreter: &Path, steps: &Value) -> Self {
        let steps = steps.as_array().unwrap();
        let (first, rest) = steps.split_first().unwrap();
        let (last, stagers) = rest.split_last().unwrap();
        let config = json!({
            "version": 1,
            "python": interpreter,
            "pythonpath": package().join("tests/python"),
            "producer": first,
            "stagers": stagers,
            "consumer": last,
        });
        Self { directory: tempfile::tempdir().unwrap(), config }
    }

    fn run(&self, args: &[&str]) -> Finished {
        let path = self.directory.path();
        std::fs::write(path.join("pipeline.json"), self.config.to_string()).unwrap();
        finish(drpipe(path).args(["--summary", "run.json"]).args(args))
    }

    fn summary(&self) -> Value {
        read_json(&self.directory.path().join("run.json"))
    }

    /// The lines that `Write` has written, as JSON.
    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join("out.txt")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A step of a class of the first model.
fn first_model(name: &str, class: &str) -> Value {
    of("first_model", name, class)
}

fn of(module: &str, name: &str, class: &str) -> Value {
    json!({"name": name, "module": module, "class": class})
}

/// The step with further keys.
fn with(mut step: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        step[key] = value.clone();
    }
    step
}
