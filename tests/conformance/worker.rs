//! The Rust worker of the conformance suite: a producer and a stage that do what a transcript
//! tells them to. `python/tests/steps/scripted.py` has the same in Python.

#![allow(clippy::panic, reason = "a transcript may ask for a panic")]

use std::fs::File;
use std::io::{IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drpipe::pipeline::serve_worker;
use drpipe::prelude::*;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
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
    /// Sets the priority of what is sent from here on.
    SetPriority(Priority),
    /// Announces this file as a product.
    Announce(String),
    /// The same on a thread of its own.
    AnnounceOnAThread(String),
    /// Counts an execution of the action of this name, with this outcome.
    Count(String, String),
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
    /// Ends a producer's call with `Next::Barrier`.
    Barrier,
    Fail(String),
    /// Puts the message off.
    Defer(String),
    /// The same, for this many milliseconds at first.
    DeferFor(u64, String),
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
    /// The socket where the test accepts those that wait at a gate.
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

fn outcome_of(name: &str) -> Result<ActionOutcome> {
    Ok(match name {
        "done" => ActionOutcome::Done,
        "skipped" => ActionOutcome::Skipped,
        "failed" => ActionOutcome::Failed,
        "deferred" => ActionOutcome::Deferred,
        other => return Err(Failure::permanent(format!("there is no outcome {other}"))),
    })
}

impl Scripted {
    /// Does what a script says. Returns what a producer's call answers.
    fn perform(
        &self,
        actions: impl IntoIterator<Item = Action>,
        out: Option<&mut Emitter<'_, Sent>>,
    ) -> Result<Next> {
        let mut next = Next::More;
        let mut out = out;
        for action in actions {
            match action {
                Action::Send(text) => send(&mut out, None, Sent::Text(text))?,
                Action::SendLong(length) => send(&mut out, None, Sent::Text("x".repeat(length)))?,
                Action::SendTo(step, text) => send(&mut out, Some(&step), Sent::Text(text))?,
                Action::Pass(array) => send(&mut out, None, Sent::Array(array))?,
                Action::Make(size) => send(&mut out, None, Sent::Array(pattern(size).into()))?,
                Action::SetPriority(priority) => {
                    out.iter_mut().for_each(|out| out.set_priority(priority));
                }
                Action::Announce(path) => announce_product(path),
                Action::AnnounceOnAThread(path) => {
                    std::thread::scope(|scope| drop(scope.spawn(|| announce_product(path))));
                }
                Action::Count(name, outcome) => {
                    count_action(&name, outcome_of(&outcome)?, Duration::ZERO);
                }
                Action::Wait(name) => wait(&self.gate, &name)?,
                Action::UseUpDescriptors => use_up_descriptors()?,
                Action::Idle => next = Next::Idle(Duration::from_millis(100)),
                Action::Barrier => next = Next::Barrier,
                Action::Fail(text) => return Err(Failure::retryable(text)),
                Action::Defer(why) => return Err(Failure::deferred(why)),
                Action::DeferFor(wait, why) => {
                    return Err(Failure::deferred(why).with_wait(Duration::from_millis(wait)));
                }
                Action::FailForGood(text) => return Err(Failure::permanent(text)),
                Action::Panic(text) => panic!("{text}"),
            }
        }
        Ok(next)
    }
}

fn send(out: &mut Option<&mut Emitter<'_, Sent>>, to: Option<&str>, value: Sent) -> Result<()> {
    match (out, to) {
        (None, _) => Err(Failure::permanent("nothing can be sent here")),
        (Some(out), None) => out.send(value),
        (Some(out), Some(to)) => out.send_to(to, value),
    }
}

/// The bytes of an array that tests can tell from others.
fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index % 251) as u8).collect()
}

/// Sends the gate's name to the test, and waits until the test closes the connection.
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
        self.0.perform(actions, Some(out))
    }

    fn finish(&mut self, out: &mut Emitter<Sent>) -> Result<()> {
        self.0.perform(self.0.at_finish.clone(), Some(out)).map(drop)
    }
}

/// Says in `finish` what it was told of its items.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
struct ScriptedTold(Scripted, #[serde(skip)] Vec<String>);

impl Producer for ScriptedTold {
    type Out = Sent;
    const ACKNOWLEDGES: bool = true;

    fn next(&mut self, out: &mut Emitter<Sent>) -> Result<Next> {
        if self.0.calls.is_empty() {
            return Ok(Next::Done);
        }
        let actions = self.0.calls.remove(0);
        self.0.perform(actions, Some(out))
    }

    fn acknowledge(&mut self, items: &[Acknowledgement]) {
        self.1.extend(items.iter().map(told_of));
    }

    fn finish(&mut self, out: &mut Emitter<Sent>) -> Result<()> {
        self.1.drain(..).try_for_each(|text| out.send(Sent::Text(text)))
    }
}

fn told_of(item: &Acknowledgement) -> String {
    let origin = item.origin.as_deref().map_or(String::new(), |origin| format!(" {origin}"));
    let name = format!("{}{origin}", item.number);
    match &item.outcome {
        Acknowledged::Done { results, .. } => {
            let read = |index| results.get::<String>(index).unwrap_or_else(|e| e.to_string());
            let texts: Vec<String> = (0..results.len()).map(read).collect();
            format!("{name} is done: {}", texts.join(", "))
        }
        Acknowledged::Failed { step, failure, .. } => {
            format!("{name} has failed in {step}: {failure}")
        }
        other => format!("{name} is {}", format!("{other:?}").to_lowercase()),
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

/// An attached worker of `tests/it/attach`: squares numbers.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Attached {
    /// How long it computes for each number, in microseconds.
    busy_us: u64,
    /// The number at which it stands still for ever, after it has made a file `stuck`.
    stuck_at: i64,
}

impl Stage for Attached {
    type In = i64;
    type Out = i64;

    fn run(&mut self, number: i64, out: &mut Emitter<i64>) -> Result<()> {
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_micros(self.busy_us) {
            std::hint::spin_loop();
        }
        if number == self.stuck_at {
            File::create("stuck")?;
            loop {
                std::thread::park();
            }
        }
        out.send(number * number)
    }
}

/// The environment variable with the bytes, in hexadecimal, that a worker sends instead of READY.
const SAYS: &str = "CONFORMANCE_SAYS";

/// Sends a wrong first message, and ends with the router's next one.
fn say(head: &str) -> Result<()> {
    let post: serde_json::Value = serde_json::from_reader(receive_file()?)?;
    let _page = receive_file()?;
    let number = |key: &str| post["place"][key].as_u64().unwrap_or_default() as u32;
    let place = [number("worker").to_le_bytes(), number("incarnation").to_le_bytes()].concat();
    let socket = zmq::Context::new().socket(zmq::DEALER)?;
    socket.set_identity(&[b"W", &place[..]].concat())?;
    socket.connect(&format!("ipc://{}/router", post["directory"].as_str().unwrap_or_default()))?;
    let digits = (0..head.len()).step_by(2).map(|at| u8::from_str_radix(&head[at..at + 2], 16));
    socket.send(digits.collect::<Result<Vec<u8>, _>>()?, 0)?;
    socket.recv_bytes(0)?;
    Ok(())
}

/// The next file that comes over the lifeline.
fn receive_file() -> Result<File> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    recvmsg(std::io::stdin(), &mut bytes, &mut control, RecvFlags::empty())?;
    let files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let file = files.flatten().next().ok_or(Failure::permanent("no file came"))?;
    let mut file = File::from(file);
    file.rewind()?;
    Ok(file)
}

/// A worker of the transcripts; with a configuration as its argument a run of it.
fn main() -> Result<()> {
    if let (Ok(head), Ok(_)) = (std::env::var(SAYS), std::env::var("DRPIPE_WORKER")) {
        return say(&head);
    }
    let mut registry = Registry::new();
    drpipe::stages::register(&mut registry);
    registry.producer::<ScriptedProducer>("ScriptedProducer");
    registry.producer::<ScriptedTold>("ScriptedTold");
    registry.stage::<ScriptedStage>("ScriptedStage");
    registry.stage::<Attached>("Caller");
    serve_worker(&registry);
    let file = std::env::args_os().nth(1).ok_or(Failure::permanent("which configuration?"))?;
    let report = Pipeline::load(file.as_ref(), &registry, &[])?.run(Mode::Threads)?;
    println!("{:?}", report.verdict);
    Ok(())
}
