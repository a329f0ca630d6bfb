//! The `drpipe` program and the examples, run as their users run them.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

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

/// Writes synthetic frames with these parameters to a directory, by a pipeline `make.json`.
pub fn make_frames(directory: &Path, params: &Value, to: &str) {
    let config = json!({
        "version": 1,
        "producer": { "name": "MAKE", "class": "SynthFrames", "params": params },
        "consumer": { "name": "WRITE", "class": "WriteFits", "params": { "directory": to } }
    });
    std::fs::write(directory.join("make.json"), config.to_string()).unwrap();
    finish(drpipe(directory).args(["--config", "make.json", "-q"])).expect_code(0);
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

/// A run whose log a test reads while it goes on. It is killed with the test.
pub struct Logged {
    child: Child,
    log: BufReader<ChildStderr>,
    read: String,
}

impl Drop for Logged {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Logged {
    /// Starts the program with every line of its log.
    pub fn start(command: &mut Command) -> Self {
        command.args(["--log-level", "debug"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log, read: String::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads the log up to the next line that contains `part`.
    #[track_caller]
    pub fn wait_for(&mut self, part: &str) {
        loop {
            let line_start = self.read.len();
            let length = self.log.read_line(&mut self.read).unwrap();
            assert!(length > 0, "the log ended without {part:?}:\n{}", self.read);
            if self.read[line_start..].contains(part) {
                return;
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills the program and waits for its end.
    pub fn kill(self) {
        drop(self);
    }

    /// Reads the rest of the log and waits for the end.
    #[track_caller]
    pub fn expect_code(mut self, code: i32) {
        self.log.read_to_string(&mut self.read).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(code), "{}", self.read);
    }
}
