//! Input that nobody should trust, for the fuzz targets and for property tests
//! of the same: each function takes any bytes and must return.

#[cfg(feature = "monitor")]
mod events;

use std::collections::VecDeque;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::failure::Failure;
use crate::base::ids::{MessageId, RouteId, WorkerId};
use crate::codec::{self, CodecId};
use crate::driver::input_of;
use crate::event::{Cause, Verdict};
use crate::message::batch::{Batch, Output, PackedBatch};
use crate::message::{Payload, Priority};
use crate::plan::Plan;
use crate::protocol::control::FromCaller;
use crate::protocol::report::{Blame, Completion, Loss, Outcome, Production, Suspect};
use crate::protocol::wire::{FromWorker, Sharing, ToWorker, VERSION};
use crate::router::{Action, Batching, Input, Router, Stop, Timing};
use crate::stage::Next;
use crate::stage::data::Data as _;
use crate::stage::registry::{Kind, Registry};
use crate::stages::{FitsPath, Frame, Picture};

#[cfg(feature = "monitor")]
pub use events::events;

/// Made once: it takes longer than most inputs do.
static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let mut registry = Registry::new();
    crate::stages::register(&mut registry);
    registry
});

/// A configuration is refused with errors, or its plan keeps its promises.
pub fn configuration(text: &str) {
    match crate::config::load(text, "fuzz.json", &REGISTRY, &[]) {
        Ok(loaded) => keeps_its_promises(&loaded.plan),
        Err(error) => assert!(!error.diagnostics.is_empty()),
    }
}

fn keeps_its_promises(plan: &Plan) {
    let mut reached = vec![false; plan.steps.len()];
    for (index, step) in plan.steps.iter().enumerate() {
        assert_eq!(plan.index(&step.name), Some(index), "two steps have one name");
        assert!(step.workers() > 0 && step.processes() <= step.workers());
        let producer = step.kind == Kind::Producer;
        assert!(producer || index > 0 && reached[index], "{} is not reached", step.name);
        for route in step.routes.iter().filter(|route| !route.feedback) {
            assert!(route.to > index, "an edge goes backwards");
            reached[route.to] = true;
        }
    }
}

/// Frames of the protocol are refused, or mean the same when they are sent on.
pub fn frames(data: &[u8]) {
    let mut data = Data(data);
    let frames: Vec<Bytes> = (0..data.below(4)).map(|_| data.bytes()).collect();
    let head = Bytes::copy_from_slice(data.0);
    if let Ok(message) = FromWorker::decode(head.clone(), frames.clone(), None) {
        let (head, rest) = split(message.encode(Sharing::No));
        let message = FromWorker::decode(head.clone(), rest.clone(), None);
        let (again, frames) = split(message.map(|m| m.encode(Sharing::No)).unwrap_or_default());
        assert_eq!((head, rest), (again, frames));
    }
    // A frame of a caller is read or refused.
    let _ = FromCaller::decode(head.clone());
    if let Ok(message) = ToWorker::decode(head, frames, None) {
        let (head, rest) = split(message.encode(Sharing::No));
        let message = ToWorker::decode(head.clone(), rest.clone(), None);
        let (again, frames) = split(message.map(|m| m.encode(Sharing::No)).unwrap_or_default());
        assert_eq!((head, rest), (again, frames));
    }
}

fn split(mut frames: Vec<Bytes>) -> (Bytes, Vec<Bytes>) {
    let rest = frames.split_off(frames.len().min(1));
    (frames.pop().unwrap_or_default(), rest)
}

/// Bytes are no value of a type, or one that is the same when it is sent on.
pub fn values(data: &[u8]) {
    let mut data = Data(data);
    let kind = data.below(8);
    let codec = CodecId::ALL[data.below(CodecId::ALL.len() as u32) as usize];
    let buffers: Vec<Bytes> = (0..data.below(4)).map(|_| data.bytes()).collect();
    let payload = Payload { header: Bytes::copy_from_slice(data.0).into(), buffers };
    match kind {
        0 => value::<Frame>(codec, Frame::TYPE, payload),
        1 => value::<Picture>(codec, Picture::TYPE, payload),
        2 => value::<FitsPath>(codec, FitsPath::TYPE, payload),
        3 => value::<String>(codec, String::TYPE, payload),
        4 => value::<i64>(codec, i64::TYPE, payload),
        5 => value::<Vec<(Option<u8>, Vec<String>)>>(codec, "fuzz", payload),
        6 => value::<crate::memory::buffer::Buffer<f64>>(codec, "fuzz", payload),
        _ => value::<(crate::memory::buffer::Buffer<u16>, crate::memory::buffer::Buffer<f32>)>(
            codec, "fuzz", payload,
        ),
    }
}

fn value<T: Serialize + DeserializeOwned>(codec: CodecId, name: &str, payload: Payload) {
    let sent = |value: &T| {
        let mut header = Vec::new();
        let buffers = codec::encode_onto(value, codec, name, &mut header).ok();
        (header, buffers)
    };
    if let Ok(value) = codec::decode::<T>(payload, codec, name) {
        let (header, buffers) = sent(&value);
        let buffers = buffers.unwrap_or_default();
        let payload = Payload { header: header.clone().into(), buffers: buffers.clone() };
        let again = codec::decode::<T>(payload, codec, name).map(|value| sent(&value));
        assert_eq!(again, Ok((header, Some(buffers))));
    }
}

/// Workers report what they like, in any order, and die; then those that live
/// keep to the protocol. The run must end, and its ledger must balance.
pub fn reports(data: &[u8]) {
    let mut data = Data(data);
    let mut game = Game::new(data.below(CHECKED.len() as u32) as usize);
    while !data.0.is_empty() && !game.router.is_over() {
        game.step(&mut data);
    }
    game.end();
}

/// A line, a branch that joins again, and a loop.
const PLANS: [&str; 3] = [
    r#"{ "producer": { "name": "IN", "class": "Integers", "params": { "last": 9 } },
         "stagers": [ { "name": "A", "class": "Square", "nb_thread": 3, "queue_limit": 2, "retries": 1 } ],
         "consumer": { "name": "OUT", "class": "Discard", "on_error": "skip" } }"#,
    r#"{ "producer": { "name": "IN", "class": "Integers", "params": { "last": 9 }, "next_steps": ["A"] },
         "stagers": [
           { "name": "A", "class": "EvenOdd", "params": { "even": "B", "odd": "C" }, "next_steps": ["B", "C"] },
           { "name": "B", "class": "Square", "nb_thread": 2, "queue_bytes": 64, "next_steps": ["OUT"] },
           { "name": "C", "class": "Square", "on_error": "stop", "next_steps": ["OUT"] } ],
         "consumer": { "name": "OUT", "class": "Discard" } }"#,
    r#"{ "producer": { "name": "IN", "class": "Integers", "params": { "last": 9 }, "next_steps": ["A"] },
         "stagers": [
           { "name": "A", "class": "Square", "queue_limit": 1, "next_steps": ["B"] },
           { "name": "B", "class": "EvenOdd", "params": { "even": "OUT", "odd": "A" },
             "next_steps": ["OUT", "A"], "feedback": ["A"] } ],
         "consumer": { "name": "OUT", "class": "Discard" } }"#,
];

/// The plans, and the first one with a producer that is told what became of its items.
static CHECKED: LazyLock<Vec<Plan>> = LazyLock::new(|| {
    let plan = |text: &&str| match crate::config::load(text, "fuzz.json", &REGISTRY, &[]) {
        Ok(loaded) => loaded.plan,
        Err(error) => unreachable!("{error}"),
    };
    let mut plans: Vec<Plan> = PLANS.iter().chain(&PLANS[..1]).map(plan).collect();
    if let Some(told) = plans.last_mut() {
        told.steps[0].acknowledges = true;
        told.steps[0].options.window.value = 4;
    }
    plans
});

struct Game {
    router: Router,
    /// The latest worker in each slot.
    workers: Vec<WorkerId>,
    /// What workers that keep to the protocol have not answered yet.
    pending: VecDeque<Action>,
    now: Duration,
    /// The number of the producer's latest item; none if it is told of no items.
    latest_item: Option<u64>,
}

impl Game {
    fn new(index: usize) -> Self {
        let router = Router::new(&CHECKED[index], Batching::Adaptive, Timing::default());
        let spawn = |worker| Action::Spawn { worker };
        let workers = router.initial_workers();
        let pending = workers.iter().copied().map(spawn).collect();
        let latest_item = CHECKED[index].steps[0].acknowledges.then_some(0);
        Self { router, workers, pending, now: Duration::ZERO, latest_item }
    }

    fn step(&mut self, data: &mut Data<'_>) {
        let WorkerId { slot, epoch } = self.workers[data.below(self.workers.len() as u32) as usize];
        // Some reports are stale.
        let worker = WorkerId { slot, epoch: epoch - u32::from(data.below(16) == 0) };
        match data.below(9) {
            0 => self.poll(),
            1 => self.answer(data.below(2)),
            2 => self.hand_in(Input::Broken { worker, reason: "nonsense".into() }),
            3 => {
                let suspect = match data.below(3) {
                    0 => Suspect::None,
                    1 => Suspect::Oldest,
                    _ => Suspect::Message(MessageId(u64::from(data.below(20)))),
                };
                self.lose(worker, suspect);
            }
            4 if data.below(16) == 0 => self.hand_in(Input::Stop(Stop::Drain)),
            4 if data.below(16) == 1 => self.hand_in(Input::Stop(Stop::Now)),
            5 => {
                let length = data.below(200) as usize;
                let (head, rest) = data.0.split_at(length.min(data.0.len()));
                data.0 = rest;
                let report = FromWorker::decode(Bytes::copy_from_slice(head), Vec::new(), None);
                self.hand_in(match report {
                    Ok(report) => input_of(worker, report),
                    Err(error) => Input::Broken { worker, reason: error.to_string() },
                });
            }
            _ => {
                let report = report(data);
                self.hand_in(input_of(worker, report));
            }
        }
    }

    fn hand_in(&mut self, input: Input) {
        self.router.handle(input, self.now);
    }

    fn lose(&mut self, worker: WorkerId, suspect: Suspect) {
        self.pending.retain(|action| worker_of(action) != Some(worker));
        let (reason, cause, blame) = ("it died".into(), Cause::Lost, Blame::Death);
        let loss = Loss { reason, cause, suspect, blame };
        self.hand_in(Input::Lost { worker, loss });
    }

    fn poll(&mut self) {
        self.now += Duration::from_millis(1);
        for action in self.router.poll(self.now) {
            if let Action::Spawn { worker } | Action::Stop { worker } = action {
                self.pending.retain(|action| worker_of(action) != Some(worker));
            }
            if let Action::Spawn { worker } = action {
                self.workers[worker.slot.index()] = worker;
            }
            if worker_of(&action).is_some() {
                self.pending.push_back(action);
            }
        }
    }

    /// Answers the oldest pending action of the workers; each message gives `outputs`.
    fn answer(&mut self, outputs: u32) {
        let Some(action) = self.pending.pop_front() else { return };
        let input = match action {
            Action::Spawn { worker } => Input::Ready { worker },
            Action::Grant { worker, .. } => {
                let busy = Duration::from_micros(1);
                let outputs: Vec<Output> = (0..outputs).map(|_| self.new_item()).collect();
                let result = Some(Ok(if outputs.is_empty() { Next::Done } else { Next::More }));
                Input::Produced {
                    worker,
                    production: Production { result, calls: 1, busy },
                    outputs,
                }
            }
            Action::Work { worker, batches } => {
                let completions = batches.iter().map(done).collect();
                let outputs = batches.iter().flat_map(|batch| {
                    let made = output(0, batch.priority(), batch.item());
                    std::iter::repeat_n(made, batch.count() * outputs as usize)
                });
                Input::Done { worker, completions, outputs: outputs.collect() }
            }
            Action::Finish { worker } => {
                Input::Finished { worker, result: Ok(()), outputs: Vec::new() }
            }
            _ => return,
        };
        self.hand_in(input);
    }

    /// What a producer emits that keeps to the protocol.
    fn new_item(&mut self) -> Output {
        self.latest_item.iter_mut().for_each(|latest| *latest += 1);
        output(0, Priority::Normal, self.latest_item.unwrap_or(0))
    }

    /// From here on all workers keep to the protocol, and nothing is produced.
    fn end(mut self) {
        for _ in 0..100_000 {
            if self.router.is_over() {
                break;
            }
            self.poll();
            if self.pending.is_empty() && !self.router.is_over() {
                let wake = self.router.next_wake();
                let stuck = || format!("{:?}", self.router.snapshot(self.now));
                self.now = wake.unwrap_or_else(|| unreachable!("it waits for nobody: {}", stuck()));
            }
            while !self.pending.is_empty() {
                self.answer(0);
            }
        }
        assert!(
            self.router.is_over(),
            "the run does not end: {:?}",
            self.router.snapshot(self.now)
        );
        if let Verdict::Stopped(reason) = self.router.verdict() {
            assert!(!reason.contains("internal error"), "{reason}");
        }
    }
}

fn worker_of(action: &Action) -> Option<WorkerId> {
    match action {
        Action::Grant { worker, .. }
        | Action::Work { worker, .. }
        | Action::Finish { worker }
        | Action::Spawn { worker } => Some(*worker),
        _ => None,
    }
}

fn done(batch: &Batch) -> Completion {
    let count = batch.count() as u32;
    let busy = Duration::from_micros(u64::from(count));
    Completion { first: batch.first(), count, outcome: Outcome::Done, silent: 0, busy }
}

fn one(route: u32) -> Output {
    output(route, Priority::Normal, 0)
}

fn output(route: u32, priority: Priority, item: u64) -> Output {
    let route = RouteId(route);
    let payload = Payload { header: vec![7; 12].into(), buffers: Vec::new() };
    Output::One { route, priority, item, origin: None, payload }
}

/// A report that is well formed and means anything.
fn report(data: &mut Data<'_>) -> FromWorker {
    let failure = Failure::retryable("it failed");
    let outputs = |data: &mut Data<'_>| {
        let count = data.below(4);
        let output = |data: &mut Data<'_>| match data.below(2) {
            0 => output(data.below(3), priority(data), u64::from(data.below(5))),
            _ => {
                let (route, priority, count) = (data.below(3), priority(data), data.below(5));
                many(route, priority, count).unwrap_or_else(|| one(0))
            }
        };
        (0..count).map(|_| output(data)).collect()
    };
    match data.below(12) {
        0 => FromWorker::Ready { version: VERSION },
        1 => FromWorker::Ready { version: data.below(4) as u16 },
        2 => FromWorker::InitFailed(failure),
        3 => FromWorker::Finished {
            result: if data.below(2) == 0 { Ok(()) } else { Err(failure) },
            outputs: outputs(data),
        },
        4 | 5 => {
            let result = match data.below(6) {
                0 => Some(Ok(Next::More)),
                1 => Some(Ok(Next::Idle(Duration::from_nanos(data.long())))),
                2 => Some(Ok(Next::Done)),
                3 => Some(Err(failure)),
                4 => None,
                _ => Some(Ok(Next::Barrier)),
            };
            let busy = Duration::from_nanos(data.long());
            let production = Production { result, calls: data.number(), busy };
            FromWorker::Produced { production, outputs: outputs(data) }
        }
        6 => FromWorker::Returned { first: MessageId(data.long()), count: data.number() },
        7 => FromWorker::Released { bytes: data.long() },
        8 => FromWorker::Cancel { number: data.long(), running: data.below(2) == 0 },
        9 => FromWorker::Aside(data.bytes()),
        _ => {
            let completion = |data: &mut Data<'_>| Completion {
                first: MessageId(data.long()),
                count: data.number(),
                outcome: match data.below(4) {
                    0 => Outcome::Done,
                    1 => Outcome::Failed(failure.clone()),
                    2 => Outcome::Deferred {
                        wait: Duration::from_nanos(data.long()),
                        why: failure.clone(),
                    },
                    _ => Outcome::Panicked(failure.clone()),
                },
                silent: data.number(),
                busy: Duration::from_nanos(data.long()),
            };
            let completions = (0..data.below(3)).map(|_| completion(data)).collect();
            FromWorker::Done { completions, outputs: outputs(data) }
        }
    }
}

fn priority(data: &mut Data<'_>) -> Priority {
    Priority::ALL[data.below(2) as usize]
}

fn many(route: u32, priority: Priority, count: u32) -> Option<Output> {
    let bytes = [2, 0, 7, 8].repeat(count as usize);
    let route = RouteId(route);
    Some(Output::Many { route, priority, pack: PackedBatch::checked(count, bytes.into())? })
}

/// What is left of the bytes; zeros once there is nothing.
struct Data<'a>(&'a [u8]);

impl Data<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, limit: u32) -> u32 {
        u32::from(self.byte()) % limit.max(1)
    }

    /// Mostly small, sometimes as large as can be.
    fn number(&mut self) -> u32 {
        match self.byte() {
            byte @ 0..=239 => u32::from(byte % 16),
            byte => u32::MAX - u32::from(byte - 240),
        }
    }

    fn long(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..=239 => u64::from(byte % 32),
            byte => u64::MAX - u64::from(byte - 240),
        }
    }

    fn bytes(&mut self) -> Bytes {
        let length = (self.below(64) as usize).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Bytes::copy_from_slice(bytes)
    }
}

#[cfg(test)]
mod tests;
