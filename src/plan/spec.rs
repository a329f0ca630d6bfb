//! A step before the graph is checked; it comes from a file or from a builder.

use serde_json::Value;

use super::options::StepOptions;
use super::span::SourceSpan;
use super::step::Python;
use crate::stage::data::ANY;
use crate::stage::registry::{Build, Kind, Traits};

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

    /// The kind of a class that may stand anywhere.
    pub(crate) fn usual_kind(self) -> Kind {
        match self {
            Role::Producer => Kind::Producer,
            Role::Stager => Kind::Stage,
            Role::Consumer => Kind::Consumer,
        }
    }
}

/// The name of a next step, and where it was set.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) span: SourceSpan,
}

/// What is known about a step by itself.
#[derive(Clone)]
pub(crate) struct StepSpec {
    pub(crate) name: String,
    pub(crate) class: String,
    pub(crate) role: Role,
    pub(crate) kind: Kind,
    /// None if it takes nothing, or if the class has an error.
    pub(crate) input: Option<&'static str>,
    /// None if it emits nothing, or if the class has an error.
    pub(crate) output: Option<&'static str>,
    /// Whether it can have only one worker.
    pub(crate) singleton: bool,
    /// Whether it emits in `finish` what it has accumulated from its messages.
    pub(crate) stateful: bool,
    /// Whether it is a producer that is told what became of its items.
    pub(crate) acknowledges: bool,
    /// Whether it is a producer that brings its items unasked.
    pub(crate) feed: bool,
    /// Whether what it is sent begins with the time limit of that message alone.
    pub(crate) limits_tasks: bool,
    pub(crate) options: StepOptions,
    /// If every step's list is empty, each step leads to the next one.
    pub(crate) next_steps: Vec<Link>,
    /// Those of `next_steps` that close a loop.
    pub(crate) feedback: Vec<Link>,
    /// For the hash of the configuration; null if a program made the step.
    pub(crate) params: Value,
    pub(crate) build: Build,
    /// Where its class is found if that is written in Python.
    pub(crate) python: Option<Python>,
    /// Whether the caller provides its workers.
    pub(crate) is_open: bool,
    /// Where its name was set.
    pub(crate) span: SourceSpan,
    /// Where its workers were set.
    pub(crate) workers_span: SourceSpan,
    /// Where its parameters were set.
    pub(crate) param_spans: Vec<(String, SourceSpan)>,
}

impl StepSpec {
    /// A step of a pipeline without a file, with default options.
    pub(crate) fn new(name: &str, class: &str, role: Role, traits: Traits, build: Build) -> Self {
        let span = SourceSpan::Step(name.to_owned());
        Self {
            name: name.to_owned(),
            class: class.to_owned(),
            role,
            kind: traits.kind,
            input: traits.input,
            output: traits.output,
            singleton: traits.singleton,
            stateful: traits.stateful,
            acknowledges: traits.acknowledges,
            feed: false,
            limits_tasks: false,
            options: StepOptions::default(),
            next_steps: Vec::new(),
            feedback: Vec::new(),
            params: Value::Null,
            build,
            python: None,
            is_open: false,
            workers_span: span.clone(),
            param_spans: Vec::new(),
            span,
        }
    }

    /// Whether its workers may be written in another language.
    pub(crate) fn is_foreign(&self) -> bool {
        self.python.is_some() || self.is_open
    }

    /// Whether it passes its inputs on unopened. What a step in another language emits is not
    /// known in advance.
    pub(crate) fn passes_on(&self) -> bool {
        !self.is_foreign() && self.input == Some(ANY) && self.output == Some(ANY)
    }

    /// The most workers, threads and processes together.
    pub(crate) fn workers(&self) -> usize {
        self.options.nb_thread.max + self.options.nb_process.max
    }

    /// Where the first parameter that a message names was set.
    pub(crate) fn span_of(&self, message: &str) -> &SourceSpan {
        let given = words(message).find_map(|word| {
            self.param_spans.iter().find(|(name, _)| name == word).map(|(_, span)| span)
        });
        given.unwrap_or(&self.span)
    }

    /// Adds a next step; the first is the default.
    pub(crate) fn leads_to(&mut self, name: &str) {
        self.next_steps.push(Link { name: name.to_owned(), span: self.span.clone() });
    }

    /// Declares a next step that closes a loop.
    pub(crate) fn feeds_back_to(&mut self, name: &str) {
        self.leads_to(name);
        self.feedback.push(Link { name: name.to_owned(), span: self.span.clone() });
    }
}

/// The words of a message that may be names of parameters.
pub(crate) fn words(message: &str) -> impl Iterator<Item = &str> {
    message.split(|c: char| !(c.is_alphanumeric() || c == '_'))
}
