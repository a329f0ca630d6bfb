//! The Rust worker of the conformance suite: a producer and a stage that do what a transcript
//! tells them to. `python/tests/steps/scripted.py` has the same in Python.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drpipe::pipeline::serve_worker;
use drpipe::prelude::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// One thing that a call does.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    /// Sends a text to the default next step.
    Send(String),
    /// Sends a text with this many bytes.
    SendLong(usize),
    /// Sends a text to the next step of this name.
    SendTo(String, String),
    /// Makes known that this file was made.
    Announce(String),
    /// Waits until the test opens the gate of this name.
    Wait(String),
    /// Sends an array on as it came.
    Pass(Buffer<u8>),
    /// Sends a new array with this many bytes.
    Make(usize),
    /// Opens files until the process has no descriptor left.
    UseUpDescriptors,
    /// Ends a producer's call with `Next::Idle`.
    Idle,
    Fail(String),
    FailForGood(String),
    Panic(String),
}

/// What a message tells a stage to do.
#[derive(Serialize, Deserialize)]
struct Script(Vec<Action>);

impl Data for Script {
    const TYPE: &'static str = "conformance/Script/1";
}

/// What the steps send.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Sent {
    Text(String),
    Array(Buffer<u8>),
}

impl Data for Sent {
    const TYPE: &'static str = "conformance/Sent/1";
}

/// The parameters of both classes.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Scripted {
    /// The socket on which the test waits for those that wait for it.
    gate: PathBuf,
    /// How many messages the producer says that it will emit.
    expected: Option<u64>,
    #[schemars(with = "Vec<serde_json::Value>")]
    at_init: Vec<Action>,
    /// What each call of the producer does.
    #[schemars(with = "Vec<Vec<serde_json::Value>>")]
    calls: Vec<Vec<Action>>,
    #[schemars(with = "Vec<serde_json::Value>")]
    at_finish: Vec<Action>,
}

impl Scripted {
    /// Does what a script says. Returns whether it says that there is nothing at the moment.
    fn perform(
        &self,
        actions: impl IntoIterator<Item = Action>,
        out: Option<&mut Emitter<'_, Sent>>,
    ) -> Result<bool> {
        let mut is_idle = false;
        let mut out = out;
        let mut send = |to: Option<&str>, value| match (&mut out, to) {
            (None, _) => Err(Failure::permanent("nothing can be sent here")),
            (Some(out), None) => out.send(value),
            (Some(out), Some(to)) => out.send_to(to, value),
        };
        for action in actions {
            match action {
                Action::Send(text) => send(None, Sent::Text(text))?,
                Action::SendLong(length) => send(None, Sent::Text("x".repeat(length)))?,
                Action::SendTo(step, text) => send(Some(&step), Sent::Text(text))?,
                Action::Pass(array) => send(None, Sent::Array(array))?,
                Action::Make(size) => send(None, Sent::Array(pattern(size).into()))?,
                Action::Announce(path) => announce_product(path),
                Action::Wait(name) => wait(&self.gate, &name)?,
                Action::UseUpDescriptors => use_up_descriptors()?,
                Action::Idle => is_idle = true,
                Action::Fail(text) => return Err(Failure::retryable(text)),
                Action::FailForGood(text) => return Err(Failure::permanent(text)),
                Action::Panic(text) => panic!("{text}"),
            }
        }
        Ok(is_idle)
    }
}

/// The bytes of an array that tests can tell from others.
fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index % 251) as u8).collect()
}

/// Says at the gate that it is there, and waits until the test closes the connection.
fn wait(gate: &Path, name: &str) -> Result<()> {
    let mut stream = UnixStream::connect(gate)?;
    writeln!(stream, "{name}")?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Opens files until the process may not open another one. libzmq needs its limit to stay above
/// what it has open.
fn use_up_descriptors() -> Result<()> {
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), ..limits })
        .map_err(std::io::Error::from)?;
    while let Ok(file) = File::open("/dev/null") {
        std::mem::forget(file);
    }
    Ok(())
}

#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
struct ScriptedProducer(Scripted);

impl Producer for ScriptedProducer {
    type Out = Sent;

    fn init(&mut self, _: &Context) -> Result<()> {
        self.0.perform(self.0.at_init.clone(), None).map(drop)
    }

    fn expected(&self) -> Option<u64> {
        self.0.expected
    }

    fn next(&mut self, out: &mut Emitter<Sent>) -> Result<Next> {
        if self.0.calls.is_empty() {
            return Ok(Next::Done);
        }
        let actions = self.0.calls.remove(0);
        let is_idle = self.0.perform(actions, Some(out))?;
        Ok(if is_idle { Next::Idle(Duration::from_millis(100)) } else { Next::More })
    }

    fn finish(&mut self, out: &mut Emitter<Sent>) -> Result<()> {
        self.0.perform(self.0.at_finish.clone(), Some(out)).map(drop)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
struct ScriptedStage(Scripted);

impl Stage for ScriptedStage {
    type In = Script;
    type Out = Sent;

    fn init(&mut self, _: &Context) -> Result<()> {
        self.0.perform(self.0.at_init.clone(), None).map(drop)
    }

    fn run(&mut self, script: Script, out: &mut Emitter<Sent>) -> Result<()> {
        self.0.perform(script.0, Some(out)).map(drop)
    }

    fn finish(&mut self, out: &mut Emitter<Sent>) -> Result<()> {
        self.0.perform(self.0.at_finish.clone(), Some(out)).map(drop)
    }
}

fn main() {
    let mut registry = Registry::new();
    registry.producer::<ScriptedProducer>("ScriptedProducer");
    registry.stage::<ScriptedStage>("ScriptedStage");
    serve_worker(&registry);
    eprintln!("this is the worker of the conformance suite: tests/it/conformance.rs starts it");
    std::process::exit(2);
}
