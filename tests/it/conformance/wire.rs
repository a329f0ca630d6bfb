//! The frames of docs/WIRE.md, written from that document and not from the library.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use drpipe::stage::Priority;
use serde_json::{Value, json};

use super::transcript::{Batch, Damage, Item, ItemEnd, Router, RouterSays};
use super::values;

const NO_TEXT: u32 = u32::MAX;
const IN_FRAME: u32 = 1 << 31;
const INLINE_UP_TO: usize = 4096;
const SHARED_FROM: usize = 256 << 10;

/// A message of the router.
#[derive(Default)]
pub struct Outgoing {
    pub head: Vec<u8>,
    pub frames: Vec<Vec<u8>>,
    /// The contents of segments.
    pub segments: Vec<Vec<u8>>,
}

impl Outgoing {
    pub fn new(router: &Router) -> Self {
        let mut out = Self::default();
        match router.says {
            RouterSays::Grant => {
                out.head.push(16);
                out.u32(router.count.unwrap());
            }
            RouterSays::Work => out.work(router),
            RouterSays::Finish => out.head.push(18),
            RouterSays::Acknowledged => out.acknowledged(&router.items),
            RouterSays::Stop => out.head.push(19),
            RouterSays::Dies => unreachable!("it says nothing more"),
        }
        out.spoil(router.damage);
        out
    }

    fn spoil(&mut self, damage: Option<Damage>) {
        match damage {
            Some(Damage::Empty) => self.head.clear(),
            Some(Damage::UnknownTag) => self.head[0] = 99,
            // The first batch follows the tag of the message and the number of batches.
            Some(Damage::UnknownBatchTag) => self.head[5] = 99,
            Some(Damage::UnknownPriority) => self.head[6] = 99,
            Some(Damage::CutShort) => drop(self.head.pop()),
            Some(Damage::ByteLeftOver) => self.head.push(0),
            Some(Damage::FrameLeftOver) => self.frames.push(b"odd".to_vec()),
            Some(Damage::FrameMissing) => drop(self.frames.pop().expect("there is a frame")),
            Some(Damage::SegmentNotSent) => self.segments.clear(),
            Some(Damage::SegmentTooLong) => self.segments.iter_mut().for_each(|s| s.push(0)),
            // These are in the counts, or in how a segment is made.
            Some(
                Damage::OneBatchTooFew
                | Damage::OneMessageTooFew
                | Damage::NoMessage
                | Damage::SegmentNotSealed,
            )
            | None => {}
        }
    }

    fn work(&mut self, router: &Router) {
        let more = u32::from(router.damage == Some(Damage::OneBatchTooFew));
        self.head.push(17);
        self.u32(router.messages.len() as u32 + more);
        for batch in &router.messages {
            match batch {
                Batch::Unreadable { number, .. } => {
                    self.batch(0, Priority::Normal, *number);
                    self.one(0, None, &[1, 2], &[]);
                }
                Batch::One { number, item, priority, origin, does } => {
                    let (header, arrays) = values::encode(&numbered(does, *number));
                    self.batch(0, *priority, *number);
                    self.one(*item, origin.as_deref(), &header, &arrays);
                }
                Batch::Pack { pack: (first, last), priority, does } => {
                    self.batch(1, *priority, *first);
                    self.pack(*first, *last, does, router.damage);
                }
            }
        }
    }

    fn acknowledged(&mut self, items: &[Item]) {
        self.head.push(20);
        self.u32(items.len() as u32);
        for item in items {
            self.head.extend(item.number.to_le_bytes());
            self.origin(item.origin.as_deref());
            match &item.end {
                ItemEnd::Done { results } => {
                    self.head.push(0);
                    self.u32(results.len() as u32);
                    for result in results {
                        let (header, _) = values::encode(result);
                        self.bytes(&header);
                        self.u32(0);
                    }
                }
                ItemEnd::Failed { step, says } => {
                    self.head.push(1);
                    self.origin(Some(step));
                    // The cause, and whether another attempt could succeed.
                    self.head.extend([0, 1]);
                    self.u32(1);
                    self.origin(Some(says));
                    self.u32(1);
                    self.u32(NO_TEXT);
                }
                ItemEnd::Dropped => self.head.push(2),
            }
        }
    }

    fn origin(&mut self, origin: Option<&str>) {
        match origin {
            Some(origin) => {
                self.u32(origin.len() as u32);
                self.head.extend(origin.bytes());
            }
            None => self.u32(NO_TEXT),
        }
    }

    /// How each batch begins.
    fn batch(&mut self, kind: u8, priority: Priority, number: u64) {
        self.head.extend([kind, u8::from(priority == Priority::High)]);
        self.head.extend(number.to_le_bytes());
    }

    fn one(&mut self, item: u64, origin: Option<&str>, header: &[u8], arrays: &[usize]) {
        self.u32(0);
        self.head.extend(item.to_le_bytes());
        self.origin(origin);
        self.bytes(header);
        self.u32(arrays.len() as u32);
        for size in arrays {
            if *size >= SHARED_FROM {
                self.head.push(1);
                self.head.extend((*size as u64).to_le_bytes());
                self.segments.push(values::pattern(*size));
            } else {
                self.head.push(0);
                self.frames.push(values::pattern(*size));
            }
        }
    }

    fn pack(&mut self, first: u64, last: u64, does: &Value, damage: Option<Damage>) {
        let mut messages = Vec::new();
        for number in first..=last {
            let (header, arrays) = values::encode(&numbered(does, number));
            assert!(arrays.is_empty(), "a pack has no arrays");
            messages.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
            messages.extend(header);
        }
        let mut count = (last - first + 1) as u32;
        match damage {
            Some(Damage::OneMessageTooFew) => count += 1,
            Some(Damage::NoMessage) => (count, messages) = (0, Vec::new()),
            _ => {}
        }
        self.u32(count);
        self.bytes(&messages);
    }

    fn u32(&mut self, number: u32) {
        self.head.extend(number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if bytes.len() > INLINE_UP_TO {
            self.u32(IN_FRAME);
            self.frames.push(bytes.to_vec());
        } else {
            self.u32(bytes.len() as u32);
            self.head.extend(bytes);
        }
    }
}

/// With the message's number in the place of each `#`.
pub fn numbered(value: &Value, number: u64) -> Value {
    match value {
        Value::String(text) => json!(text.replace('#', &number.to_string())),
        Value::Array(items) => items.iter().map(|item| numbered(item, number)).collect(),
        Value::Object(members) => {
            let members = members.iter();
            Value::Object(
                members.map(|(key, item)| (key.clone(), numbered(item, number))).collect(),
            )
        }
        other => other.clone(),
    }
}

/// A message of the worker.
#[derive(Debug)]
pub enum Said {
    Ready {
        version: u16,
    },
    InitFailed(Failure),
    Done {
        completions: Vec<Completion>,
        outputs: Vec<Output>,
    },
    Produced(Produced),
    Finished {
        failure: Option<Failure>,
        outputs: Vec<Output>,
    },
    /// `["EXPECTED", count]`, `["PRODUCT", path, origin]` or `["WARNING", text]`.
    Notes(Vec<Value>),
    Returned {
        first: u64,
        count: u32,
    },
    Released(u64),
}

impl Said {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ready { .. } => "READY",
            Self::InitFailed(_) => "INIT_FAILED",
            Self::Done { .. } => "DONE",
            Self::Produced(_) => "PRODUCED",
            Self::Finished { .. } => "FINISHED",
            Self::Notes(_) => "NOTES",
            Self::Returned { .. } => "RETURNED",
            Self::Released(_) => "RELEASED",
        }
    }
}

#[derive(Debug)]
pub struct Failure {
    pub retryable: bool,
    pub texts: Vec<String>,
}

#[derive(Debug)]
pub struct Completion {
    pub first: u64,
    pub count: u32,
    pub silent: u32,
    pub outcome: &'static str,
    /// The first wait of a message that is deferred.
    pub wait_ms: Option<u64>,
    pub failure: Option<Failure>,
}

#[derive(Debug)]
pub struct Produced {
    pub calls: u32,
    pub result: &'static str,
    pub wait_ms: Option<u64>,
    pub failure: Option<Failure>,
    pub outputs: Vec<Output>,
}

#[derive(Debug)]
pub struct Output {
    pub route: u32,
    pub is_high: bool,
    pub item: u64,
    pub origin: Option<String>,
    pub header: Vec<u8>,
    pub buffers: Vec<Buffer>,
}

#[derive(Debug)]
pub enum Buffer {
    Frame(Vec<u8>),
    Segment { bytes: Vec<u8>, inode: u64 },
}

/// What is left of a message of the worker. `segment` receives the next one from the lifeline.
pub struct Incoming<'a> {
    head: &'a [u8],
    frames: std::vec::IntoIter<Vec<u8>>,
    segment: &'a dyn Fn() -> File,
}

impl<'a> Incoming<'a> {
    pub fn parse(head: &'a [u8], frames: Vec<Vec<u8>>, segment: &'a dyn Fn() -> File) -> Said {
        let mut input = Self { head, frames: frames.into_iter(), segment };
        let said = match input.u8() {
            1 => Said::Ready { version: u16::from_le_bytes(input.take()) },
            2 => Said::InitFailed(input.failure()),
            3 => {
                let completions = input.list(Self::completion);
                Said::Done { completions, outputs: input.outputs() }
            }
            4 => Said::Produced(input.produced()),
            5 => {
                let has_failed = input.flag();
                let failure = has_failed.then(|| input.failure());
                Said::Finished { failure, outputs: input.outputs() }
            }
            6 => Said::Notes(input.list(Self::note)),
            7 => Said::Returned { first: input.u64(), count: input.u32() },
            8 => Said::Released(input.u64()),
            other => panic!("a worker has no message {other}"),
        };
        let left = (input.head.len(), input.frames.count());
        assert_eq!(left, (0, 0), "bytes and frames are left over");
        said
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.head.split_first_chunk().expect("a message is cut short");
        self.head = rest;
        *taken
    }

    fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.take())
    }

    fn flag(&mut self) -> bool {
        match self.u8() {
            0 => false,
            1 => true,
            other => panic!("neither 0 nor 1: {other}"),
        }
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn slice(&mut self, length: usize) -> Vec<u8> {
        let (taken, rest) = self.head.split_at(length);
        self.head = rest;
        taken.to_vec()
    }

    fn list<T>(&mut self, item: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.u32()).map(|_| item(self)).collect()
    }

    fn text_of(&mut self, length: u32) -> String {
        String::from_utf8(self.slice(length as usize)).unwrap()
    }

    fn text(&mut self) -> String {
        let length = self.u32();
        self.text_of(length)
    }

    fn origin(&mut self) -> Option<String> {
        match self.u32() {
            NO_TEXT => None,
            length => Some(self.text_of(length)),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        match self.u32() {
            IN_FRAME => self.frames.next().expect("a frame"),
            length => {
                assert!(length as usize <= INLINE_UP_TO, "{length} bytes in a head");
                self.slice(length as usize)
            }
        }
    }

    fn failure(&mut self) -> Failure {
        Failure { retryable: self.flag(), texts: self.list(Self::text) }
    }

    fn completion(&mut self) -> Completion {
        let (first, count, silent) = (self.u64(), self.u32(), self.u32());
        let _busy = self.u64();
        let outcome = ["DONE", "FAILED", "PANICKED", "DEFERRED"][usize::from(self.u8())];
        let wait_ms = (outcome == "DEFERRED").then(|| self.u64() / 1_000_000);
        let failure = (outcome != "DONE").then(|| self.failure());
        assert!(count == 1 || outcome == "DONE", "several messages have failed as one");
        Completion { first, count, silent, outcome, wait_ms, failure }
    }

    fn produced(&mut self) -> Produced {
        let calls = self.u32();
        let _busy = self.u64();
        let result =
            ["MORE", "IDLE", "NO_MORE", "FAILED", "AT_WORK", "BARRIER"][usize::from(self.u8())];
        let wait_ms = (result == "IDLE").then(|| self.u64() / 1_000_000);
        let failure = (result == "FAILED").then(|| self.failure());
        Produced { calls, result, wait_ms, failure, outputs: self.outputs() }
    }

    fn note(&mut self) -> Value {
        match self.u8() {
            0 => json!(["EXPECTED", self.u64()]),
            1 => json!(["PRODUCT", self.text(), self.origin()]),
            2 => json!(["WARNING", self.text()]),
            3 => json!(["ACTIONS", self.list(Self::action)]),
            other => panic!("there is no note {other}"),
        }
    }

    /// The name of an action, and its counts.
    fn action(&mut self) -> Value {
        let (name, counts) = (self.text(), [(); 4].map(|()| self.u32()));
        assert_eq!(self.u64(), 0, "the time of all executions");
        let [done, skipped, failed, deferred] = counts;
        json!([name, done, skipped, failed, deferred])
    }

    fn outputs(&mut self) -> Vec<Output> {
        self.list(Self::output).into_iter().flatten().collect()
    }

    fn output(&mut self) -> Vec<Output> {
        let (kind, is_high, route) = (self.u8(), self.flag(), self.u32());
        if kind == 0 {
            let (item, origin, header) = (self.u64(), self.origin(), self.bytes());
            let buffers = self.list(Self::buffer);
            return vec![Output { route, is_high, item, origin, header, buffers }];
        }
        assert_eq!(kind, 1, "the tag of an output");
        let count = self.u32() as usize;
        let pack = self.bytes();
        let (mut rest, mut outputs) = (&pack[..], Vec::new());
        while let Some((length, after)) = rest.split_first_chunk() {
            let (header, after) = after.split_at(usize::from(u16::from_le_bytes(*length)));
            let (header, buffers) = (header.to_vec(), Vec::new());
            outputs.push(Output { route, is_high, item: 0, origin: None, header, buffers });
            rest = after;
        }
        assert!(outputs.len() == count && count > 0, "a pack says that it has {count} messages");
        outputs
    }

    fn buffer(&mut self) -> Buffer {
        if !self.flag() {
            return Buffer::Frame(self.frames.next().expect("a frame"));
        }
        let length = self.u64();
        let file = (self.segment)();
        let data = file.metadata().unwrap();
        assert_eq!(data.len(), length, "the length of a segment");
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        Buffer::Segment { bytes, inode: data.ino() }
    }
}
