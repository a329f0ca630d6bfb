//! A run of the program that others find and steer.

use std::fs::{DirBuilder, write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::processes::eventually;
use super::program::{Finished, drpipe, finish};

/// A place with a configuration and with sockets of its own: other runs of this machine
/// are not seen there.
pub struct Place {
    directory: tempfile::TempDir,
}

/// A run in a place. It is ended with the test.
pub struct Live {
    child: Child,
}

impl Drop for Live {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Place {
    pub fn with(config: &Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path().join("pipeline.json"), config.to_string()).unwrap();
        DirBuilder::new().mode(0o700).create(directory.path().join("sockets")).unwrap();
        Self { directory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    pub fn sockets(&self) -> PathBuf {
        self.path("sockets")
    }

    /// The program, which sees the runs of this place only.
    pub fn drpipe(&self) -> Command {
        let mut command = drpipe(self.root());
        command.env("DRPIPE_RUNTIME_DIR", self.sockets()).env_remove("DRPIPE_MONITOR_TOKEN");
        command
    }

    pub fn ctl(&self, args: &[&str]) -> Finished {
        finish(self.drpipe().arg("ctl").args(args))
    }

    /// Starts a run and waits until it works.
    pub fn start(&self) -> Live {
        let live = self.start_with(&["--summary", "run.json"]);
        self.until("it runs", |view| view["state"] == "running");
        live
    }

    pub fn start_with(&self, args: &[&str]) -> Live {
        let mut command = self.drpipe();
        command.args(["--quiet", "--log-level", "off"]).args(args);
        Live { child: command.stdout(Stdio::null()).spawn().unwrap() }
    }

    /// Where the only run stands, once it is as `wanted`.
    pub fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || {
            let said = self.ctl(&["status", "--json"]);
            let view = (said.code == Some(0)).then(|| serde_json::from_str(&said.out).unwrap());
            view.filter(&wanted)
        })
    }
}

impl Live {
    /// Waits for its end.
    pub fn end(mut self) -> Option<i32> {
        eventually("the run ends", || self.child.try_wait().unwrap()).code()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// The step of this name in a view.
pub fn step<'a>(view: &'a Value, name: &str) -> &'a Value {
    let steps = view["steps"].as_array().unwrap();
    steps.iter().find(|step| step["name"] == name).unwrap()
}

/// A run that goes on for hours: numbers, two steps of which the second takes a
/// hundredth of a second for each, and an end.
pub fn long() -> Value {
    json!({
        "version": 1,
        "producer": {"name": "NUMBERS", "class": "Integers", "params": {"last": 1_000_000_000}},
        "stagers": [
            {"name": "PASS", "class": "Pass", "nb_thread": 2, "queue_limit": 100},
            {"name": "SLOW", "class": "Sleep", "params": {"seconds": 0.01}, "nb_thread": 1, "queue_limit": 100},
        ],
        "consumer": {"name": "END", "class": "Discard", "queue_limit": 8},
    })
}
