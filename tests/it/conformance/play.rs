//! Plays one transcript with one worker.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::process::{Language, Process};
use super::transcript::{
    Batch, Completion, Damage, Failure, Gate, GateIs, Output, Router, RouterSays, Step, Transcript,
    Worker,
};
use super::values::{self, Received};
use super::wire::{self, Buffer, Outgoing, Said, numbered};

/// The steps that outputs go to, by their number.
const NEXT_STEPS: [&str; 2] = ["NEXT", "OTHER"];

/// Returns what the worker has printed.
///
/// # Panics
/// If the worker does not keep to the transcript.
pub fn play(transcript: &Transcript, language: &Language) -> String {
    let process = Process::start(transcript, language);
    let mut play = Play {
        process,
        in_hand: VecDeque::new(),
        given: BTreeMap::new(),
        returned: Vec::new(),
        granted: 0,
        step: 0,
    };
    for (number, step) in transcript.steps.iter().enumerate() {
        play.step = number;
        play.take(step);
    }
    play.process.printed()
}

struct Play {
    process: Process,
    /// The numbers of the messages that the worker has not reported on.
    in_hand: VecDeque<u64>,
    /// Every message that the worker was given.
    given: BTreeMap<u64, Batch>,
    /// The messages that the worker has given back: it gets them again after its next report.
    returned: Vec<u64>,
    /// How many items the producer may still emit.
    granted: u32,
    step: usize,
}

impl Drop for Play {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let printed = self.process.printed();
            println!("at step {}; the worker printed:\n{printed}", self.step + 1);
        }
    }
}

impl Play {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Router(router) => self.say(router),
            Step::Worker(worker) => self.expect(worker),
            Step::Gate(Gate { gate, is: GateIs::Reached }) => self.process.await_call(gate),
            Step::Gate(Gate { gate, is: GateIs::Opened }) => self.process.open_gate(gate),
            Step::Page { message } => assert_eq!(self.process.page().0, *message, "on the page"),
        }
    }

    fn say(&mut self, router: &Router) {
        match router.says {
            RouterSays::Dies => return self.process.die(),
            RouterSays::Grant => self.granted = router.count.unwrap(),
            _ => {}
        }
        for batch in &router.messages {
            let (first, last) = match batch {
                Batch::One { number, .. } | Batch::Unreadable { number, .. } => (*number, *number),
                Batch::Pack { pack, .. } => *pack,
            };
            for number in first..=last {
                let mut batch = batch.clone();
                if let Batch::Pack { pack, .. } = &mut batch {
                    *pack = (number, number);
                }
                self.in_hand.push_back(number);
                self.given.insert(number, batch);
            }
        }
        let seals = router.damage != Some(Damage::SegmentNotSealed);
        self.process.send(Outgoing::new(router), seals);
    }

    fn expect(&mut self, worker: &Worker) {
        match worker {
            Worker::Ready { version: expected } => match self.process.receive() {
                Said::Ready { version } => {
                    assert_eq!(version, *expected);
                    assert!(self.process.page().1 > 0, "a sign of life comes before READY");
                }
                other => panic!("expected READY, got {other:?}"),
            },
            Worker::InitFailed { failure } => match self.process.receive() {
                Said::InitFailed(found) => check_failure(Some(failure), Some(&found)),
                other => panic!("expected INIT_FAILED, got {other:?}"),
            },
            Worker::Notes { notes } => self.expect_notes(notes),
            Worker::Done { completions, silent, outputs } => {
                self.expect_done(completions, *silent, outputs);
            }
            Worker::Produced { .. } => self.expect_produced(worker),
            Worker::Finished { failure, outputs } => match self.process.receive() {
                Said::Finished { failure: found, outputs: sent } => {
                    check_failure(failure.as_ref(), found.as_ref());
                    self.check_outputs(outputs, &[], sent);
                }
                other => panic!("expected FINISHED, got {other:?}"),
            },
            Worker::Released { bytes } => match self.process.receive() {
                Said::Released(found) => assert_eq!(found, *bytes),
                other => panic!("expected RELEASED, got {other:?}"),
            },
            Worker::Ends { code, signal, may_say } => {
                assert_eq!(self.process.end(), (*code, *signal), "the end of the worker");
                for said in self.process.rest() {
                    let name = said.name();
                    assert!(may_say.iter().any(|may| may == name), "{said:?}");
                }
            }
        }
    }

    /// The next message, which must be of this kind.
    fn receive(&self, expected: &str) -> Said {
        let said = self.process.receive();
        assert_eq!(said.name(), expected, "{said:?}");
        said
    }

    /// Notes may come one by one or together.
    fn expect_notes(&self, expected: &[Value]) {
        let mut notes = Vec::new();
        while notes.len() < expected.len() {
            match self.process.receive() {
                Said::Notes(more) => notes.extend(more),
                other => panic!("expected NOTES with {expected:?}, got {other:?}"),
            }
        }
        assert_eq!(notes, expected);
    }

    /// A batch may be reported in parts.
    fn expect_done(&mut self, expected: &[Completion], silent: u32, outputs: &[Output]) {
        let wanted: u64 = expected.iter().map(|c| c.messages.1 - c.messages.0 + 1).sum();
        let (mut found, mut sent, mut silent_found) = (Vec::new(), Vec::new(), 0);
        while (found.len() as u64) < wanted {
            let (completions, outputs) = match self.process.receive() {
                Said::Done { completions, outputs } => (completions, outputs),
                Said::Returned { first, count } => {
                    self.take_back(first, count);
                    continue;
                }
                other => panic!("expected DONE, got {other:?}"),
            };
            sent.extend(outputs);
            for completion in completions {
                let wire::Completion { first, count, silent, outcome, .. } = completion;
                silent_found += silent;
                for number in first..first + u64::from(count) {
                    assert_eq!(self.in_hand.pop_front(), Some(number), "the oldest in hand");
                    found.push((number, outcome, None));
                }
                if let Some(last) = found.last_mut() {
                    last.2 = Some(completion);
                }
            }
            self.give_again();
        }
        assert!(self.returned.is_empty(), "messages were given back and not done");
        let expected = expected.iter().flat_map(|completion| {
            let (first, last) = completion.messages;
            (first..=last).map(move |number| (number, completion))
        });
        for ((number, expected), (found, outcome, completion)) in expected.zip(&found) {
            let failure = completion.as_ref().and_then(|last| last.failure.as_ref());
            let wait_ms = completion.as_ref().and_then(|last| last.wait_ms);
            assert_eq!((number, expected.wait_ms), (*found, wait_ms));
            assert!(expected.outcome.allows(outcome), "message {number}: {outcome} {failure:?}");
            check_failure(expected.failure.as_ref(), failure);
        }
        assert_eq!(found.len() as u64, wanted, "more was reported than was to be");
        assert_eq!(silent_found, silent, "the messages that emitted nothing");
        self.check_outputs(outputs, &[], sent);
    }

    /// Takes back messages that the worker has not begun, never the oldest in hand.
    fn take_back(&mut self, first: u64, count: u32) {
        let place = self.in_hand.iter().position(|number| *number == first);
        let place = place.filter(|place| *place > 0).expect("a message behind the oldest in hand");
        self.returned.extend(self.in_hand.drain(place..place + count as usize));
    }

    /// Gives the worker again what it has given back.
    fn give_again(&mut self) {
        let numbers = std::mem::take(&mut self.returned);
        if !numbers.is_empty() {
            let messages = numbers.iter().map(|number| self.given[number].clone()).collect();
            self.say(&Router {
                says: RouterSays::Work,
                count: None,
                messages,
                items: Vec::new(),
                damage: None,
            });
        }
    }

    /// A grant may be reported in parts; where its time is over before it is used up, the rest
    /// is granted again.
    fn expect_produced(&mut self, worker: &Worker) {
        let Worker::Produced { result, failure, wait_ms, calls, outputs, may_follow } = worker
        else {
            unreachable!()
        };
        let wanted = expected_outputs(outputs).len();
        let (mut calls_found, mut sent) = (0, Vec::new());
        let last = loop {
            let Said::Produced(produced) = self.receive("PRODUCED") else { unreachable!() };
            calls_found += produced.calls;
            self.granted = self.granted.saturating_sub(produced.outputs.len() as u32);
            sent.extend(produced.outputs);
            let last = wire::Produced { outputs: Vec::new(), ..produced };
            let is_complete = sent.len() >= wanted;
            match last.result {
                "MORE" if !is_complete || result != "MORE" => {
                    self.granted = self.granted.max(1);
                    let mut grant = Outgoing::default();
                    grant.head.push(16);
                    grant.head.extend(self.granted.to_le_bytes());
                    self.process.send(grant, true);
                    if is_complete && result == "AT_WORK" {
                        break None;
                    }
                }
                "AT_WORK" if is_complete && result == "AT_WORK" => break None,
                "AT_WORK" => {}
                _ => break Some(last),
            }
        };
        if let Some(last) = last {
            assert_eq!(last.result, result, "{last:?}");
            assert_eq!(last.wait_ms, *wait_ms);
            check_failure(failure.as_ref(), last.failure.as_ref());
        }
        assert_eq!(calls_found, *calls, "the calls");
        self.check_outputs(outputs, may_follow, sent);
    }

    fn check_outputs(&self, expected: &[Output], may_follow: &[Output], sent: Vec<wire::Output>) {
        let mut expected = expected_outputs(expected);
        let found: Vec<Value> = sent.into_iter().map(|output| self.describe(output)).collect();
        for more in expected_outputs(may_follow) {
            if found.len() > expected.len() {
                expected.push(more);
            }
        }
        assert_eq!(found, expected, "the outputs");
    }

    /// An output as the transcripts have it.
    fn describe(&self, output: wire::Output) -> Value {
        let wire::Output { route, is_high, item, origin, header, buffers } = output;
        let to = NEXT_STEPS[route as usize];
        let (bytes, travels) = match values::decode(&header) {
            Received::Text(text) if text.len() > 100 => {
                return json!({"to": to, "long": text.len()});
            }
            Received::Text(text) => {
                return match (item, origin) {
                    (item, origin) if is_high => json!([to, text, origin, item, "high"]),
                    (0, Some(origin)) => json!([to, text, origin]),
                    (0, None) => json!([to, text]),
                    (item, origin) => json!([to, text, origin, item]),
                };
            }
            Received::InHeader(bytes) => (bytes, "HEADER"),
            Received::Buffer(number) => match buffers.into_iter().nth(number).unwrap() {
                Buffer::Frame(bytes) => (bytes, "FRAME"),
                Buffer::Segment { bytes, inode } if self.process.has_sent(inode) => {
                    (bytes, "SAME_SEGMENT")
                }
                Buffer::Segment { bytes, .. } => (bytes, "SEGMENT"),
            },
        };
        assert!(bytes == values::pattern(bytes.len()), "the bytes of an array");
        let mut described = json!({"to": to, "array": bytes.len(), "travels": travels});
        if let Some(origin) = origin {
            described["origin"] = json!(origin);
        }
        described
    }
}

fn expected_outputs(outputs: &[Output]) -> Vec<Value> {
    let each = outputs.iter().map(|output| match output {
        Output::One(output) => vec![output.clone()],
        Output::Each { numbers: (first, last), output } => {
            (*first..=*last).map(|number| numbered(output, number)).collect()
        }
    });
    each.flatten().collect()
}

fn check_failure(expected: Option<&Failure>, found: Option<&wire::Failure>) {
    let (Some(Failure { retryable, says }), Some(found)) = (expected, found) else {
        assert!(expected.is_none() && found.is_none(), "expected {expected:?}, got {found:?}");
        return;
    };
    let is_said = |says: &String| found.texts.iter().any(|text| text.contains(says));
    assert!(retryable.is_none_or(|retryable| retryable == found.retryable), "{found:?}");
    assert!(says.as_ref().is_none_or(is_said), "{found:?}");
}
