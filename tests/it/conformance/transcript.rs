//! The transcripts of tests/conformance, as they stand in the files.

use std::fs;

use drpipe::stage::Priority;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::support::program::package;

/// A conversation between a router and one worker.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    /// Unique; docs/WIRE.md refers to it.
    pub name: String,
    pub about: String,
    #[serde(default)]
    pub role: Role,
    /// Another class than the scripted one of the role.
    pub class: Option<String>,
    #[serde(default)]
    pub params: Map<String, Value>,
    pub memory_limit: Option<u64>,
    pub steps: Vec<Step>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    #[default]
    Stage,
    Producer,
}

/// What happens next.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
pub enum Step {
    Router(Router),
    Worker(Worker),
    Gate(Gate),
    /// The worker's page says this.
    Page {
        message: u64,
    },
}

/// What the router says, perhaps damaged.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Router {
    #[serde(rename = "router")]
    pub says: RouterSays,
    pub count: Option<u32>,
    #[serde(default)]
    pub messages: Vec<Batch>,
    #[serde(default)]
    pub items: Vec<Item>,
    pub damage: Option<Damage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum RouterSays {
    #[serde(rename = "GRANT")]
    Grant,
    #[serde(rename = "WORK")]
    Work,
    #[serde(rename = "FINISH")]
    Finish,
    #[serde(rename = "ACKNOWLEDGED")]
    Acknowledged,
    #[serde(rename = "STOP")]
    Stop,
    /// The program has died: its end of the lifeline closes.
    #[serde(rename = "dies")]
    Dies,
}

/// What became of an item.
#[derive(Debug, Deserialize)]
pub struct Item {
    pub number: u64,
    pub origin: Option<String>,
    #[serde(flatten)]
    pub end: ItemEnd,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "outcome", rename_all = "UPPERCASE")]
pub enum ItemEnd {
    Done { results: Vec<Value> },
    Failed { step: String, says: String },
    Dropped,
}

/// One message of WORK, or a pack of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Batch {
    Unreadable {
        number: u64,
        #[expect(dead_code, reason = "it says what the message is")]
        is: Unreadable,
    },
    One {
        number: u64,
        /// The number of its item; 0 for none.
        #[serde(default)]
        item: u64,
        #[serde(default)]
        priority: Priority,
        origin: Option<String>,
        does: Value,
    },
    /// The first and the last number. `#` in a text stands for the message's number.
    Pack {
        pack: (u64, u64),
        #[serde(default)]
        priority: Priority,
        does: Value,
    },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unreadable {
    Unreadable,
}

/// How a message of the router is spoiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Damage {
    Empty,
    #[serde(rename = "unknown tag")]
    UnknownTag,
    #[serde(rename = "unknown batch tag")]
    UnknownBatchTag,
    #[serde(rename = "unknown priority")]
    UnknownPriority,
    #[serde(rename = "cut short")]
    CutShort,
    #[serde(rename = "byte left over")]
    ByteLeftOver,
    #[serde(rename = "frame left over")]
    FrameLeftOver,
    #[serde(rename = "frame missing")]
    FrameMissing,
    #[serde(rename = "one batch too few")]
    OneBatchTooFew,
    #[serde(rename = "one message too few")]
    OneMessageTooFew,
    #[serde(rename = "no message")]
    NoMessage,
    #[serde(rename = "segment not sent")]
    SegmentNotSent,
    #[serde(rename = "segment not sealed")]
    SegmentNotSealed,
    #[serde(rename = "segment too long")]
    SegmentTooLong,
}

/// What the worker must say. Reports that may be split are put together first.
#[derive(Debug, Deserialize)]
#[serde(tag = "worker", deny_unknown_fields)]
pub enum Worker {
    #[serde(rename = "READY")]
    Ready { version: u16 },
    #[serde(rename = "INIT_FAILED")]
    InitFailed { failure: Failure },
    #[serde(rename = "NOTES")]
    Notes { notes: Vec<Value> },
    #[serde(rename = "DONE")]
    Done { completions: Vec<Completion>, silent: u32, outputs: Vec<Output> },
    #[serde(rename = "PRODUCED")]
    Produced {
        result: String,
        failure: Option<Failure>,
        wait_ms: Option<u64>,
        calls: u32,
        outputs: Vec<Output>,
        /// These may come as well.
        #[serde(default)]
        may_follow: Vec<Output>,
    },
    #[serde(rename = "RELEASED")]
    Released { bytes: u64 },
    #[serde(rename = "FINISHED")]
    Finished { failure: Option<Failure>, outputs: Vec<Output> },
    /// Its process ends.
    #[serde(rename = "ends")]
    Ends {
        code: Option<i32>,
        signal: Option<i32>,
        #[serde(default)]
        may_say: Vec<String>,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// If it is absent, either will do.
    pub retryable: Option<bool>,
    /// Stands in one of the failure's texts.
    pub says: Option<String>,
}

/// What became of the messages from the first number to the last.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Completion {
    pub messages: (u64, u64),
    pub outcome: OneOf,
    pub wait_ms: Option<u64>,
    pub failure: Option<Failure>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOf {
    Only(String),
    Any(Vec<String>),
}

impl OneOf {
    pub fn allows(&self, found: &str) -> bool {
        match self {
            Self::Only(only) => only == found,
            Self::Any(any) => any.iter().any(|one| one == found),
        }
    }
}

/// An output, or the same for each number from the first to the last.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Output {
    Each { numbers: (u64, u64), output: Value },
    One(Value),
}

/// Where a call of the worker waits for the test.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    pub gate: String,
    pub is: GateIs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateIs {
    Reached,
    Opened,
}

impl TryFrom<Value> for Step {
    type Error = serde_json::Error;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct PageSays {
            page: Says,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Says {
            message: u64,
        }
        Ok(if value.get("router").is_some() {
            Self::Router(Router::deserialize(value)?)
        } else if value.get("worker").is_some() {
            Self::Worker(Worker::deserialize(value)?)
        } else if value.get("page").is_some() {
            Self::Page { message: PageSays::deserialize(value)?.page.message }
        } else {
            Self::Gate(Gate::deserialize(value)?)
        })
    }
}

/// All transcripts, by file and in the order of the file.
pub fn all() -> Vec<Transcript> {
    let folder = package().join("tests/conformance");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| -> Vec<Transcript> {
        let text = fs::read_to_string(path).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    files.iter().flat_map(read).collect()
}
