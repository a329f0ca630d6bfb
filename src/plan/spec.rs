//! One step before the graph is checked, from a file or from a builder.

use std::time::Duration;

use serde_json::Value;

use super::{OnError, Python};
use crate::stage::data::ANY;
use crate::stage::registry::{Build, Kind, Traits};

/// The most messages in a step's queue, if the configuration says nothing.
pub(crate) const QUEUE_LIMIT: usize = 100;
/// The most bytes in a step's queue, if the configuration says nothing.
pub(crate) const QUEUE_BYTES: u64 = 256 << 20;
/// How often a message whose worker died is tried again, if the configuration says nothing.
pub(crate) const LOST_RETRIES: u32 = 1;
/// The wait before the first retry, if the configuration says nothing.
pub(crate) const BACKOFF: Duration = Duration::from_millis(100);
/// The longest name of a step, in characters: it becomes part of file names.
pub(crate) const NAME_LENGTH: usize = 64;
/// The most workers of a run: each has a socket, and a context holds 1023.
pub(crate) const RUN_WORKERS: usize = 1000;
/// The most workers of one step.
pub(crate) const WORKERS: usize = 1000;

/// Where something was said.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SourceSpan {
    /// In the file, at this byte.
    File(usize),
    /// By the command line's setting of this number.
    Setting(usize),
    /// By the step of this name, of a pipeline without a file.
    Step(String),
    /// By a pipeline without a file, as a whole.
    Pipeline,
}

/// The place of a step in the pipeline, whatever its class is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Producer,
    Stager,
    /// The end: a consumer, or a stage whose output ends there.
    Consumer,
}

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Role::Producer => "producer",
            Role::Stager => "stager",
            Role::Consumer => "consumer",
        }
    }

    /// What a class is that may stand anywhere.
    pub(crate) fn usual_kind(self) -> Kind {
        match self {
            Role::Producer => Kind::Producer,
            Role::Stager => Kind::Stage,
            Role::Consumer => Kind::Consumer,
        }
    }
}

/// How many workers of one kind a step has: as many as it needs, between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Workers {
    pub(crate) min: usize,
    pub(crate) max: usize,
}

impl Workers {
    pub(crate) fn exactly(count: usize) -> Self {
        Self { min: count, max: count }
    }
}

/// The name of a next step, and where it was given.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) origin: SourceSpan,
}

/// What is known of a step by itself.
#[derive(Clone)]
pub(crate) struct StepSpec {
    pub(crate) name: String,
    pub(crate) class: String,
    pub(crate) role: Role,
    pub(crate) kind: Kind,
    /// None where it takes nothing, or where the class is in error.
    pub(crate) input: Option<&'static str>,
    /// None where it emits nothing, or where the class is in error.
    pub(crate) output: Option<&'static str>,
    /// Whether it may have one worker only.
    pub(crate) single: bool,
    /// Whether it gives out in `finish` what it has kept of its messages.
    pub(crate) gathers: bool,
    pub(crate) threads: Workers,
    pub(crate) processes: Workers,
    /// For one message, in a process.
    pub(crate) timeout: Option<Duration>,
    /// Of one process, in bytes.
    pub(crate) memory_limit: Option<u64>,
    pub(crate) queue_limit: Option<usize>,
    pub(crate) queue_bytes: Option<u64>,
    /// Empty in every step: list order is the chain.
    pub(crate) next_steps: Vec<Link>,
    /// Those of `next_steps` that close a loop.
    pub(crate) feedback: Vec<Link>,
    pub(crate) on_error: OnError,
    pub(crate) retries: u32,
    /// Of a message whose worker died, before `retries` count.
    pub(crate) lost_retries: u32,
    pub(crate) backoff: Duration,
    /// For the hash of the configuration; null where they are not known.
    pub(crate) params: Value,
    pub(crate) build: Build,
    /// Where its class is found if that is written in Python.
    pub(crate) python: Option<Python>,
    /// Where its name was given.
    pub(crate) origin: SourceSpan,
    /// Where its workers were given.
    pub(crate) workers_origin: SourceSpan,
    /// Where its parameters were given.
    pub(crate) param_origins: Vec<(String, SourceSpan)>,
}

impl StepSpec {
    /// A step of a pipeline without a file, with the defaults for the rest.
    pub(crate) fn new(name: &str, class: &str, role: Role, traits: Traits, build: Build) -> Self {
        let origin = SourceSpan::Step(name.to_owned());
        Self {
            name: name.to_owned(),
            class: class.to_owned(),
            role,
            kind: traits.kind,
            input: traits.input,
            output: traits.output,
            single: traits.single,
            gathers: traits.gathers,
            threads: Workers::exactly(1),
            processes: Workers::exactly(0),
            timeout: None,
            memory_limit: None,
            queue_limit: Some(QUEUE_LIMIT),
            queue_bytes: Some(QUEUE_BYTES),
            next_steps: Vec::new(),
            feedback: Vec::new(),
            on_error: OnError::default(),
            retries: 0,
            lost_retries: LOST_RETRIES,
            backoff: BACKOFF,
            params: Value::Null,
            build,
            python: None,
            workers_origin: origin.clone(),
            param_origins: Vec::new(),
            origin,
        }
    }

    /// Whether what it emits are the messages that came in, unopened. What a step
    /// in Python emits is not known before it does.
    pub(crate) fn passes_on(&self) -> bool {
        self.python.is_none() && self.input == Some(ANY) && self.output == Some(ANY)
    }

    /// The most workers, threads and processes together.
    pub(crate) fn workers(&self) -> usize {
        self.threads.max + self.processes.max
    }

    /// Where the parameter was given that a message speaks of: the one that it names first.
    pub(crate) fn origin_of(&self, message: &str) -> &SourceSpan {
        let given = words(message).find_map(|word| {
            self.param_origins.iter().find(|(name, _)| name == word).map(|(_, origin)| origin)
        });
        given.unwrap_or(&self.origin)
    }

    /// Adds a next step; the first is the default.
    pub(crate) fn leads_to(&mut self, name: &str) {
        self.next_steps.push(Link { name: name.to_owned(), origin: self.origin.clone() });
    }

    /// Declares a next step that closes a loop.
    pub(crate) fn feeds_back_to(&mut self, name: &str) {
        self.leads_to(name);
        self.feedback.push(Link { name: name.to_owned(), origin: self.origin.clone() });
    }
}

/// The words of a message that may be names.
pub(crate) fn words(message: &str) -> impl Iterator<Item = &str> {
    message.split(|c: char| !(c.is_alphanumeric() || c == '_'))
}

/// What is wrong with a step's name, if anything. The characters that are
/// forbidden have a meaning elsewhere: `,` between next steps, `.` and `=` in
/// settings, `/` and `\` in the names of files.
pub(crate) fn wrong_name(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a step's name must not be empty".to_owned());
    }
    if name.trim() != name {
        return Some("a step's name must not begin or end with a blank".to_owned());
    }
    if name.chars().count() > NAME_LENGTH {
        return Some(format!("a step's name must not be longer than {NAME_LENGTH} characters"));
    }
    let forbidden = |c: &char| c.is_control() || matches!(c, '.' | ',' | '=' | '/' | '\\');
    name.chars().find(forbidden).map(|c| format!("a step's name must not contain {c:?}"))
}
