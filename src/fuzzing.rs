//! Input that nobody should trust, for the fuzz targets and for property tests
//! of the same: each function takes any bytes and must return.

use std::collections::VecDeque;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::failure::Failure;
use crate::codec::{self, CodecId};
use crate::driver::input_of;
use crate::event::{Cause, Verdict};
use crate::message::Payload;
use crate::message::batch::{Batch, Output, PackedBatch};
use crate::plan::Plan;
use crate::protocol::report::{Blame, Completion, Loss, Outcome, Production, Suspect};
use crate::protocol::wire::{FromWorker, Sharing, ToWorker, VERSION};
use crate::router::{Action, Batching, Input, Router, Stop};
use crate::stage::Next;
use crate::stage::data::Data as _;
use crate::stage::registry::{Kind, Registry};
use crate::stages::{FitsPath, Frame, Picture};

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
    let mut game = Game::new(data.below(PLANS.len() as u32) as usize);
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

static CHECKED: LazyLock<[Plan; 3]> = LazyLock::new(|| {
    PLANS.map(|text| match crate::config::load(text, "fuzz.json", &REGISTRY, &[]) {
        Ok(loaded) => loaded.plan,
        Err(error) => unreachable!("{error}"),
    })
});

struct Game {
    router: Router,
    /// What workers that keep to the protocol have not answered yet.
    pending: VecDeque<Action>,
    now: Duration,
}

impl Game {
    fn new(index: usize) -> Self {
        let router = Router::new(&CHECKED[index], Batching::Adaptive);
        let spawn = |worker| Action::Spawn { worker };
        let pending = (0..router.worker_count()).map(spawn).collect();
        Self { router, pending, now: Duration::ZERO }
    }

    fn step(&mut self, data: &mut Data<'_>) {
        let worker = data.below(self.router.worker_count() as u32) as usize;
        match data.below(9) {
            0 => self.settle(),
            1 => self.answer(data.below(2)),
            2 => self.hand_in(Input::Broken { worker, reason: "nonsense".into() }),
            3 => {
                let suspect = match data.below(3) {
                    0 => Suspect::None,
                    1 => Suspect::Oldest,
                    _ => Suspect::Message(u64::from(data.below(20))),
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

    fn lose(&mut self, worker: usize, suspect: Suspect) {
        self.pending.retain(|action| worker_of(action) != Some(worker));
        let (reason, cause, blame) = ("it died".into(), Cause::Lost, Blame::Death);
        let loss = Loss { reason, cause, suspect, blame };
        self.hand_in(Input::Lost { worker, loss });
    }

    fn settle(&mut self) {
        self.now += Duration::from_millis(1);
        for action in self.router.settle(self.now) {
            if let Action::Spawn { worker } | Action::Stop { worker } = action {
                self.pending.retain(|action| worker_of(action) != Some(worker));
            }
            if worker_of(&action).is_some() {
                self.pending.push_back(action);
            }
        }
    }

    /// A worker does what it was told to first; each message gives `outputs`.
    fn answer(&mut self, outputs: u32) {
        let Some(action) = self.pending.pop_front() else { return };
        let outputs = |count| (0..count * outputs).map(|_| one(0)).collect();
        let input = match action {
            Action::Spawn { worker } => Input::Ready { worker },
            Action::Grant { worker, .. } => {
                let busy = Duration::from_micros(1);
                let outputs: Vec<Output> = outputs(1);
                let result = Some(Ok(if outputs.is_empty() { Next::Done } else { Next::More }));
                Input::Produced {
                    worker,
                    production: Production { result, calls: 1, busy },
                    outputs,
                }
            }
            Action::Work { worker, batches } => {
                let count = batches.iter().map(|batch| batch.count() as u32).sum();
                let completions = batches.iter().map(done).collect();
                Input::Done { worker, completions, outputs: outputs(count) }
            }
            Action::Finish { worker } => {
                Input::Finished { worker, result: Ok(()), outputs: Vec::new() }
            }
            _ => return,
        };
        self.hand_in(input);
    }

    /// From here on all workers keep to the protocol, and nothing is produced.
    fn end(mut self) {
        for _ in 0..100_000 {
            if self.router.is_over() {
                break;
            }
            self.settle();
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

fn worker_of(action: &Action) -> Option<usize> {
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
    let payload = Payload { header: vec![7; 12].into(), buffers: Vec::new() };
    Output::One { route, origin: None, payload }
}

/// A report that is well formed and means anything.
fn report(data: &mut Data<'_>) -> FromWorker {
    let failure = Failure::retryable("it failed");
    let outputs = |data: &mut Data<'_>| {
        let count = data.below(4);
        let output = |data: &mut Data<'_>| match data.below(2) {
            0 => one(data.below(3)),
            _ => many(data.below(3), data.below(5)).unwrap_or_else(|| one(0)),
        };
        (0..count).map(|_| output(data)).collect()
    };
    match data.below(8) {
        0 => FromWorker::Ready { version: VERSION },
        1 => FromWorker::Ready { version: data.below(4) as u16 },
        2 => FromWorker::InitFailed(failure),
        3 => FromWorker::Finished {
            result: if data.below(2) == 0 { Ok(()) } else { Err(failure) },
            outputs: outputs(data),
        },
        4 | 5 => {
            let result = match data.below(5) {
                0 => Some(Ok(Next::More)),
                1 => Some(Ok(Next::Idle(Duration::from_nanos(data.long())))),
                2 => Some(Ok(Next::Done)),
                3 => Some(Err(failure)),
                _ => None,
            };
            let busy = Duration::from_nanos(data.long());
            let production = Production { result, calls: data.number(), busy };
            FromWorker::Produced { production, outputs: outputs(data) }
        }
        _ => {
            let completion = |data: &mut Data<'_>| Completion {
                first: data.long(),
                count: data.number(),
                outcome: match data.below(3) {
                    0 => Outcome::Done,
                    1 => Outcome::Failed(failure.clone()),
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

fn many(route: u32, count: u32) -> Option<Output> {
    let bytes = [2, 0, 7, 8].repeat(count as usize);
    Some(Output::Many { route, pack: PackedBatch::checked(count, bytes.into())? })
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..400)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn a_run_ends_and_balances_whatever_workers_report(data in any_bytes()) {
            reports(&data);
        }

        #[test]
        fn frames_are_refused_or_mean_the_same_when_sent_on(data in any_bytes()) {
            frames(&data);
        }

        #[test]
        fn bytes_are_refused_or_a_value_that_is_the_same_when_sent_on(data in any_bytes()) {
            values(&data);
        }
    }

    /// A run of the first plan whose workers are all ready and have been told
    /// what to do; the first consumer's worker is the last.
    fn begun() -> Game {
        let mut game = Game::new(0);
        while game.pending.iter().any(|action| matches!(action, Action::Spawn { .. })) {
            game.answer(0);
        }
        game.settle();
        game
    }

    /// One of the step A.
    const WORKER: usize = 1;

    #[test]
    fn a_worker_that_was_dismissed_cannot_make_itself_ready_again() {
        let mut game = begun();
        game.hand_in(Input::Broken { worker: WORKER, reason: "nonsense".into() });
        game.hand_in(Input::Ready { worker: WORKER });
        game.settle();
        let waits = |action: &Action| matches!(action, Action::Spawn { worker: WORKER });
        assert!(game.pending.iter().any(waits), "its successor is not started");
        game.answer(3);
        game.settle();
        let given = |action: &Action| matches!(action, Action::Work { worker: WORKER, .. });
        assert!(!game.pending.iter().any(given), "work went to one that is not ready");
        game.end();
    }

    #[test]
    fn what_a_worker_emits_without_an_input_is_not_taken() {
        let mut game = begun();
        let (completions, outputs) = (Vec::new(), vec![one(0)]);
        game.hand_in(Input::Done { worker: WORKER, completions, outputs });
        game.settle();
        assert_eq!(game.router.snapshot(game.now).steps[1].counts.emitted, 0);
        game.end();
    }

    #[test]
    fn what_a_worker_reports_after_its_end_changes_nothing() {
        let mut game = begun();
        game.hand_in(Input::InitFailed { worker: WORKER, failure: Failure::permanent("no") });
        while !game.router.is_over() {
            let outputs = vec![one(0)];
            let result = Ok(());
            game.hand_in(Input::Finished { worker: WORKER, result, outputs: outputs.clone() });
            game.hand_in(Input::Done { worker: WORKER, completions: Vec::new(), outputs });
            game.settle();
            game.answer(0);
        }
        game.end();
    }

    #[test]
    fn an_output_of_finish_for_a_step_that_is_not_there_is_a_fault() {
        let mut game = begun();
        let mut told = false;
        for _ in 0..1000 {
            if matches!(game.pending.front(), Some(Action::Finish { worker: WORKER })) {
                let (worker, result) = (WORKER, Ok(()));
                game.hand_in(Input::Finished { worker, result, outputs: vec![one(9)] });
                told = true;
                game.pending.pop_front();
            }
            game.answer(0);
            game.settle();
        }
        assert!(told);
        game.end();
    }

    #[test]
    fn the_examples_keep_their_promises() {
        configuration(include_str!("../pipeline.json"));
        PLANS.iter().for_each(|text| configuration(text));
    }
}
