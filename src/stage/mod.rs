//! The contract between drpipe and the code behind a step.
//!
//! A stage is built from its parameters on the thread of its worker and never
//! leaves it, so it need not be `Send`. Each worker of a step has an instance
//! of its own; instances share nothing. The order of calls is `init` once,
//! then `next` or `run` any number of times, then `finish` once, after the last
//! message of the step.

pub mod data;
pub mod notes;
pub mod registry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::failure::{Failure, Result};
use crate::base::nearest::nearest;
use crate::message::Codec;
use crate::message::output::OutputBuffer;
use data::Data;

/// Where a worker stands: its step, its number, the names of the next steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    pub(crate) run: String,
    pub(crate) step: String,
    pub(crate) worker: usize,
    pub(crate) next_steps: Vec<String>,
    /// How what it takes is serialized.
    pub(crate) codec: Codec,
    /// How what each next step takes is serialized.
    pub(crate) next_codecs: Vec<Codec>,
    /// The run's private directory, if it has worker processes.
    pub(crate) private: Option<PathBuf>,
    /// What is the same in every run of this pipeline and no other's.
    pub(crate) pipeline: String,
    /// The directories that the pipeline's steps write files to.
    pub(crate) written: Vec<PathBuf>,
}

impl Context {
    /// The name of the run, unique on this machine.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// The name of the step in the configuration.
    pub fn step(&self) -> &str {
        &self.step
    }

    /// The number of this worker within its step, from 0.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// The names of the next steps; the first is the default. Empty at the end.
    pub fn next_steps(&self) -> &[String] {
        &self.next_steps
    }

    /// Checks that a parameter names one of the next steps.
    ///
    /// # Errors
    /// A permanent failure that names the parameter, what it says and the nearest name.
    pub fn expect_next_step(&self, parameter: &str, name: &str) -> Result<()> {
        if self.next_steps.iter().any(|step| step == name) {
            return Ok(());
        }
        let message = format!("{parameter:?} says {}", unknown_next_step(self, name));
        Err(Failure::permanent(message))
    }

    /// Where a step stands that is only checked.
    pub(crate) fn planned(step: &str, next_steps: Vec<String>) -> Self {
        Self {
            run: String::new(),
            step: step.to_owned(),
            worker: 0,
            next_codecs: vec![Codec::Bincode; next_steps.len()],
            next_steps,
            codec: Codec::Bincode,
            private: None,
            pipeline: String::new(),
            written: Vec::new(),
        }
    }

    /// What is the same in every run of this pipeline, whatever its parameters, and not of
    /// another: a hash of its name (or else its file's) and its producers' classes.
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// The directories that the pipeline's steps write files to, as far as their classes
    /// declare it: a parameter says so by `#[schemars(extend("writes" = "directory"))]`, or
    /// `"file"`.
    pub fn written_directories(&self) -> &[PathBuf] {
        &self.written
    }

    /// A directory for what the workers of this run share, if some of them are
    /// processes; it is removed at the end of the run.
    pub fn private_directory(&self) -> Option<&Path> {
        self.private.as_deref()
    }
}

/// What a producer has to say after a call of [`Producer::next`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// There may be more: ask again.
    More,
    /// Nothing at the moment: ask again after this time.
    Idle(Duration),
    /// That was all.
    Done,
}

/// Makes the messages that a pipeline works on.
///
/// ```
/// use drpipe::prelude::*;
///
/// /// Counts from 0 to `last`.
/// #[derive(Deserialize, JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct Counter {
///     last: i64,
///     #[serde(skip)]
///     next: i64,
/// }
///
/// impl Producer for Counter {
///     type Out = i64;
///     fn next(&mut self, out: &mut Emitter<i64>) -> Result<Next> {
///         if self.next > self.last {
///             return Ok(Next::Done);
///         }
///         out.send(self.next)?;
///         self.next += 1;
///         Ok(Next::More)
///     }
/// }
/// ```
pub trait Producer {
    /// The type of what it emits.
    type Out: Data;

    /// Checks what the parameters' schema cannot express. Called before any
    /// work runs, without `init`; must not touch files.
    ///
    /// # Errors
    /// A failure whose message names the parameter and what was expected.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// As [`Stage::validate_in`].
    ///
    /// # Errors
    /// As [`Stage::validate_in`].
    fn validate_in(&self, context: &Context) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Called once, before anything is asked for.
    ///
    /// # Errors
    /// Any failure stops the run before it has begun, with exit code 3.
    fn init(&mut self, context: &Context) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// How many messages it will emit in all, if it knows; asked once, after `init`.
    /// It is told to those who watch the run, who see from it how long it will take.
    fn expected(&self) -> Option<u64> {
        None
    }

    /// Emits the next item, or a few, and says whether there may be more. It is
    /// called only when there is room for its output, so it need not limit itself.
    ///
    /// It may wait for something: what earlier calls have emitted goes on within a few
    /// milliseconds meanwhile. What it emits itself goes on when it returns, for if it fails
    /// it has emitted nothing; so it emits and returns, and waits in the next call. One that
    /// says [`Next::Idle`] instead of waiting lets a run that is asked to end do so at once.
    ///
    /// # Errors
    /// A failure after which it is called again up to the step's `retries`
    /// times; then production ends, what was made is processed to its end, and
    /// the run's exit code is 3.
    fn next(&mut self, out: &mut Emitter<'_, Self::Out>) -> Result<Next>;

    /// Called once, when production has ended. May still emit.
    ///
    /// # Errors
    /// A failure is reported, and the run's exit code is 1 at least.
    fn finish(&mut self, out: &mut Emitter<'_, Self::Out>) -> Result<()> {
        let _ = out;
        Ok(())
    }
}

/// Turns messages into messages.
///
/// ```
/// use drpipe::prelude::*;
///
/// /// Lets numbers at or above `threshold` leave by the step's other way.
/// #[derive(Deserialize, JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct Split { threshold: i64 }
///
/// impl Stage for Split {
///     type In = i64;
///     type Out = i64;
///     fn run(&mut self, number: i64, out: &mut Emitter<i64>) -> Result<()> {
///         if number >= self.threshold { out.send_to("LARGE", number) } else { out.send(number) }
///     }
/// }
/// ```
pub trait Stage {
    /// The type of its input.
    type In: Data;
    /// The type of what it emits.
    type Out: Data;

    /// True if a step may have only one worker of this class, because its
    /// instances would write the same file, say.
    const SINGLE: bool = false;

    /// True if `finish` emits or writes what `run` has kept of several messages,
    /// such as a sum or a page. `finish` needs all of them each time, so with a
    /// journal an item that reached such a step is never skipped by `--resume`; a
    /// stage that does not say so is resumed without what was kept in earlier runs.
    const GATHERS: bool = false;

    /// Checks what the parameters' schema cannot express. Called before any
    /// work runs, without `init`; must not touch files.
    ///
    /// # Errors
    /// A failure whose message names the parameter and what was expected.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Checks what depends on where the step stands: parameters that name next
    /// steps ([`Context::expect_next_step`]). Called before any work runs, with the
    /// graph's names and a run that has no name yet, and once more before `init`.
    ///
    /// # Errors
    /// A failure whose message names the parameter and what was expected.
    fn validate_in(&self, context: &Context) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Called once per worker, before its first message.
    ///
    /// # Errors
    /// Any failure stops the run before it has begun, with exit code 3.
    fn init(&mut self, context: &Context) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Processes one message; emits any number of messages, or none: then the
    /// message counts as filtered. It may take its time: the results of messages before it
    /// do not wait for it. What was emitted before a failure or a panic
    /// is dropped, so that a retry emits nothing twice. After a panic the same
    /// instance goes on: keep its fields sound before calling what may panic.
    ///
    /// # Errors
    /// A failure fails this message: the step's `retries` and `on_error` decide
    /// what becomes of it.
    fn run(&mut self, input: Self::In, out: &mut Emitter<'_, Self::Out>) -> Result<()>;

    /// Called once per worker, after its last message. May still emit. A stage that
    /// gives out here what `run` has kept says so by [`Stage::GATHERS`].
    ///
    /// # Errors
    /// A failure is reported, and the run's exit code is 1 at least.
    fn finish(&mut self, out: &mut Emitter<'_, Self::Out>) -> Result<()> {
        let _ = out;
        Ok(())
    }
}

/// Takes messages and emits none: the end of the pipeline.
///
/// ```
/// use drpipe::prelude::*;
///
/// /// Adds up what it gets.
/// #[derive(Default, Deserialize, JsonSchema)]
/// #[serde(default, deny_unknown_fields)]
/// struct Sum {
///     #[serde(skip)]
///     total: i64,
/// }
///
/// impl Consumer for Sum {
///     type In = i64;
///     fn run(&mut self, number: i64) -> Result<()> {
///         self.total = self.total.checked_add(number).ok_or(Failure::permanent("the sum overflows"))?;
///         Ok(())
///     }
/// }
/// ```
pub trait Consumer {
    /// The type of its input.
    type In: Data;

    /// As [`Stage::SINGLE`].
    const SINGLE: bool = false;

    /// As [`Stage::GATHERS`].
    const GATHERS: bool = false;

    /// As [`Stage::validate`].
    ///
    /// # Errors
    /// A failure whose message names the parameter and what was expected.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// As [`Stage::validate_in`].
    ///
    /// # Errors
    /// As [`Stage::validate_in`].
    fn validate_in(&self, context: &Context) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// As [`Stage::init`].
    ///
    /// # Errors
    /// Any failure stops the run before it has begun, with exit code 3.
    fn init(&mut self, context: &Context) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Processes one message.
    ///
    /// # Errors
    /// As [`Stage::run`].
    fn run(&mut self, input: Self::In) -> Result<()>;

    /// As [`Stage::finish`], without an emitter.
    ///
    /// # Errors
    /// A failure is reported, and the run's exit code is 1 at least.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Sends what a stage makes to its next steps.
///
/// What is sent is delivered together with the message's completion, never
/// before it: a stage that fails has emitted nothing. At the end of the
/// pipeline, where there is no next step, what is sent ends too.
pub struct Emitter<'a, T: Data> {
    context: &'a Context,
    origin: Option<&'a Arc<str>>,
    message: u64,
    /// Whether each value is asked for its own origin (producers).
    names_origins: bool,
    outputs: &'a mut OutputBuffer,
    marker: std::marker::PhantomData<fn(T)>,
}

impl<T: Data> Emitter<'_, T> {
    /// Sends `value` to the default next step, the first in the configuration.
    ///
    /// # Errors
    /// If the value refuses to be serialized.
    pub fn send(&mut self, value: T) -> Result<()> {
        if self.context.next_steps.is_empty() {
            return Ok(());
        }
        self.push(0, &value)
    }

    /// Sends `value` to the next step of this name.
    ///
    /// # Errors
    /// A permanent failure if `step` is not among the step's `next_steps`, or
    /// if the value refuses to be serialized.
    pub fn send_to(&mut self, step: &str, value: T) -> Result<()> {
        match self.context.next_steps.iter().position(|name| name == step) {
            Some(route) => self.push(route, &value),
            None => Err(Failure::permanent(unknown_next_step(self.context, step))),
        }
    }

    /// The names of the next steps; the first is the default. Empty at the end.
    pub fn next_steps(&self) -> &[String] {
        &self.context.next_steps
    }

    /// Where this worker stands.
    pub fn context(&self) -> &Context {
        self.context
    }

    /// What a person calls the producer's item that the current input descends
    /// from, for example a raw frame's path; none in a producer and in `finish`.
    pub fn origin(&self) -> Option<&str> {
        self.origin.map(|origin| &**origin)
    }

    /// The number of the current message: the same at every attempt on it, and
    /// no other message's in this run. 0 in a producer and in `finish`.
    pub fn message(&self) -> u64 {
        self.message
    }

    fn push(&mut self, route: usize, value: &T) -> Result<()> {
        let origin = match self.origin {
            Some(origin) => Some(Arc::clone(origin)),
            None if self.names_origins => value.origin().map(Into::into),
            None => None,
        };
        let codec = self.context.next_codecs[route];
        self.outputs.push(route as u32, origin, |header| value.write_to(codec, header))
    }
}

fn unknown_next_step(context: &Context, step: &str) -> String {
    let names = context.next_steps.join(", ");
    let hint = match nearest(step, context.next_steps.iter().map(String::as_str)) {
        Some(name) => format!("; did you mean \"{name}\"?"),
        None => format!("; add it to the next_steps of \"{}\" in the configuration", context.step),
    };
    let known = if names.is_empty() { "it has none".into() } else { format!("they are {names}") };
    format!("\"{step}\" is not among the next steps of \"{}\": {known}{hint}", context.step)
}

/// Where emitted values gather until their input's completion is reported.
pub(crate) struct Outputs<'a> {
    pub(crate) context: &'a Context,
    /// The origin of the current input.
    pub(crate) origin: Option<&'a Arc<str>>,
    /// The number of the current input.
    pub(crate) message: u64,
    /// Whether each value is asked for its own origin (producers).
    pub(crate) names_origins: bool,
    pub(crate) outputs: &'a mut OutputBuffer,
}

impl Outputs<'_> {
    pub(crate) fn emitter<T: Data>(&mut self) -> Emitter<'_, T> {
        Emitter {
            context: self.context,
            origin: self.origin,
            message: self.message,
            names_origins: self.names_origins,
            outputs: self.outputs,
            marker: std::marker::PhantomData,
        }
    }
}
