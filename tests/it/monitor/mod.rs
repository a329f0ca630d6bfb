//! Runs that are seen and steered over HTTP.

mod browser;
mod hostile;
mod several;
mod shown;
mod steered;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use drpipe::monitor::{Client, Lines, NextLine};
use serde_json::{Value, json};

use crate::support::program::{self, drpipe};

/// What never comes is given up after this time.
const LIMIT: Duration = Duration::from_secs(120);

/// Numbers that a slow step holds up: with its two workers it takes a minute.
pub fn slow(directory: &Path) -> PathBuf {
    config(directory, 6000, json!({"class": "Sleep", "params": {"seconds": 0.02}}))
}

/// Numbers that the step `SLOW` takes, with two workers and a small queue.
pub fn config(directory: &Path, last: u64, slow: Value) -> PathBuf {
    let mut step = json!({"name": "SLOW", "nb_thread": 2, "queue_limit": 8});
    let members = slow.as_object().unwrap().clone();
    step.as_object_mut().unwrap().extend(members);
    let config = json!({
        "version": 1,
        "producer": {"name": "NUMBERS", "class": "Integers", "params": {"first": 1, "last": last}},
        "stagers": [{"name": "PASS", "class": "Pass", "queue_limit": 8}, step],
        "consumer": {"name": "END", "class": "Discard"},
    });
    let file = directory.join("pipeline.json");
    std::fs::write(&file, config.to_string()).unwrap();
    file
}

/// The program with a place of its own for the sockets of runs.
pub fn command(directory: &Path) -> Command {
    let sockets = directory.join("sockets");
    std::fs::create_dir_all(&sockets).unwrap();
    let mut command = drpipe(directory);
    command.env("DRPIPE_RUNTIME_DIR", sockets).env_remove("DRPIPE_MONITOR_TOKEN");
    command
}

/// A program that serves; it is ended with this.
pub struct Serving {
    pub child: Child,
    /// Where it says that it serves.
    pub address: String,
    pub directory: PathBuf,
    /// All that it said, once it has ended.
    said: mpsc::Receiver<String>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the program and waits until it says where it serves.
pub fn serve(mut command: Command, directory: &Path) -> Serving {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    let address = loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it serves nothing:\n{said}");
        said.push_str(&line);
        if let Some((_, rest)) = line.split_once("http://") {
            break rest.split('/').next().unwrap().to_owned();
        }
    };
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = lines.read_to_string(&mut said);
        let _ = sender.send(said);
    });
    Serving { child, address, directory: directory.to_owned(), said: receiver }
}

/// Starts a run that is served on the network too.
pub fn run(directory: &Path, more: &[&str]) -> Serving {
    let mut command = command(directory);
    command.args(["run", "--monitor", "localhost:0", "-q"]).args(more);
    if !more.contains(&"--summary") {
        command.args(["--summary", "summary.json"]);
    }
    serve(command, directory)
}

impl Serving {
    pub fn client(&self) -> Client {
        Client::address(&format!("http://{}/", self.address), None).unwrap()
    }

    /// The only run that is served.
    pub fn name(&self) -> String {
        let runs = get(&self.client(), "/api/runs");
        assert_eq!(runs.as_array().unwrap().len(), 1, "{runs}");
        runs[0]["run"].as_str().unwrap().to_owned()
    }

    pub fn path(&self, rest: &str) -> String {
        format!("/runs/{}/api/{rest}", self.name())
    }

    /// Waits for the end of the run: its summary.
    pub fn summary(&mut self) -> Value {
        let said = self.said.recv_timeout(LIMIT).expect("the run should end");
        let status = self.child.wait().unwrap();
        let summary = program::json(&self.directory.join("summary.json"));
        assert_eq!(summary["exit_code"], json!(status.code()), "{said}");
        summary
    }
}

pub fn get(client: &Client, path: &str) -> Value {
    let (status, body) = client.get(path).unwrap();
    assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

/// Posts, and gives the status and what was said.
pub fn post(client: &Client, path: &str, body: Value) -> (u16, String) {
    let (status, answer) = client.post(path, &body).unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    if status == 200 {
        assert_eq!(answer, json!({"ok": true}));
    }
    (status, answer["error"].as_str().unwrap_or_default().to_owned())
}

#[track_caller]
pub fn post_ok(client: &Client, path: &str, body: Value) {
    assert_eq!(post(client, path, body), (200, String::new()), "{path}");
}

/// The next line that `wanted` takes; all of them are given to it.
pub fn next_line(lines: &mut Lines, mut wanted: impl FnMut(&str) -> bool) -> String {
    loop {
        match lines.next(LIMIT).unwrap() {
            NextLine::Line(line) if wanted(&line) => return line,
            NextLine::Line(_) => {}
            other => panic!("{other:?} came before what was waited for"),
        }
    }
}

/// A page's stream: each event with its data, to the last.
pub struct Page {
    lines: Lines,
}

impl Page {
    pub fn open(client: &Client, path: &str) -> Self {
        let (status, lines) = client.lines(path).unwrap();
        assert_eq!(status, 200);
        Self { lines }
    }

    pub fn next(&mut self) -> Option<(String, Value)> {
        let mut event = String::new();
        loop {
            match self.lines.next(LIMIT).unwrap() {
                NextLine::Line(line) => match line.split_once(": ") {
                    Some(("event", name)) => event = name.to_owned(),
                    Some(("data", data)) => {
                        return Some((event, serde_json::from_str(data).unwrap()));
                    }
                    _ => {}
                },
                NextLine::End => return None,
                NextLine::Nothing => panic!("nothing comes"),
            }
        }
    }

    /// The first view, whether in a snapshot or not, that `wanted` takes.
    pub fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (event, data) = self.next().expect("the stream ended before");
            let view = if event == "snapshot" { data["view"].clone() } else { data };
            if event != "history" && wanted(&view) {
                return view;
            }
        }
    }
}

/// What is sent as it is, and what comes back.
pub fn raw(address: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no answer to {request:?}: {answer:?}")), answer)
}

/// The counts of all steps, as they are named in views and in summaries.
pub fn counts(steps: &Value) -> Vec<(String, Vec<u64>)> {
    let of = |step: &Value| {
        let names = ["received", "done", "failed", "dropped", "retried", "emitted"];
        (step["name"].as_str().unwrap().to_owned(), names.map(|n| program::count(step, n)).to_vec())
    };
    steps.as_array().unwrap().iter().map(of).collect()
}
