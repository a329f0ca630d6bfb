//! The `drpipe` program and the examples, run as their users run them.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use serde_json::Value;

/// The folder of the package.
pub fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program, in a directory of its own.
pub fn drpipe(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drpipe"));
    command.current_dir(directory);
    command
}

/// An example of the package, which the test run has built too.
pub fn example(name: &str, directory: &Path) -> Command {
    let programs = Path::new(env!("CARGO_BIN_EXE_drpipe")).parent().unwrap();
    let program = programs.join("examples").join(name);
    assert!(program.exists(), "build the examples first: cargo build --examples");
    let mut command = Command::new(program);
    command.current_dir(directory);
    command
}

/// What a finished program left.
pub struct Finished {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

pub fn finish(command: &mut Command) -> Finished {
    finished(command.output().unwrap())
}

pub fn finished(output: Output) -> Finished {
    Finished {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Finished {
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
}

pub fn json(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// The step of this name in a run's summary.
pub fn step<'a>(summary: &'a Value, name: &str) -> &'a Value {
    let steps = summary["steps"].as_array().unwrap();
    steps.iter().find(|step| step["name"] == name).unwrap()
}

pub fn count(step: &Value, key: &str) -> u64 {
    step[key].as_u64().unwrap_or_else(|| panic!("{key} of {step}"))
}

/// `received == done + failed + dropped` at every step of a summary.
#[track_caller]
pub fn assert_balanced(summary: &Value) {
    for step in summary["steps"].as_array().unwrap() {
        let ended = count(step, "done") + count(step, "failed") + count(step, "dropped");
        assert_eq!(count(step, "received"), ended, "{step}");
    }
}

/// All files below a directory by their path within it, with their contents.
pub fn files(directory: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let entries = walkdir::WalkDir::new(directory).into_iter().map(Result::unwrap);
    entries
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let path = entry.path().strip_prefix(directory).unwrap().to_owned();
            (path, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// Reads lines until one contains `what`.
pub fn wait_for(lines: &mut impl BufRead, what: &str) {
    let mut line = String::new();
    while !line.contains(what) {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended before it said {what:?}");
    }
}

pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}
