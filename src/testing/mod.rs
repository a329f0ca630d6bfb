//! Runs stages on values, without a pipeline: for the unit tests of stage authors.
//!
//! Inputs and outputs pass through the codec and the emitter of a real run, so that a type
//! that does not survive the journey fails here too.
//!
//! ```
//! use drpipe::prelude::*;
//! use drpipe::testing::{self, TestBench};
//!
//! /// Sends numbers at or above `threshold` to the step LARGE.
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Split { threshold: i64 }
//!
//! impl Stage for Split {
//!     type In = i64;
//!     type Out = i64;
//!     fn run(&mut self, number: i64, out: &mut Emitter<i64>) -> Result<()> {
//!         if number >= self.threshold { out.send_to("LARGE", number) } else { out.send(number) }
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let split: Split = testing::from_params(serde_json::json!({ "threshold": 10 }))?;
//! let bench = TestBench::new().next_steps(["SMALL", "LARGE"]);
//! let run = bench.run(split, [3, 12])?;
//! assert_eq!(run.outputs, [("SMALL".to_owned(), 3), ("LARGE".to_owned(), 12)]);
//! # Ok(())
//! # }
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::base::failure::{Failure, Result};
use crate::base::ids::MessageId;
use crate::message::NO_ITEM;
use crate::message::Payload;
use crate::message::batch::Batch;
use crate::message::output::OutputBuffer;
use crate::stage::data::{Any, Data};
use crate::stage::erased::{ConsumerTask, ProducerTask, StageTask, Task, in_call};
use crate::stage::scope::{self, Note};
use crate::stage::{
    ActionCounts, Consumer, Context, Emitter, Input, Next, Outputs, Priority, Producer, Stage,
};

/// The identity of the pipeline that a bench stands for.
const PIPELINE: &str = "0123456789abcdef";

/// What the calls of a stage emitted and left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run<T> {
    /// What was emitted, each value with the next step that it was sent to, in the order of
    /// emission.
    pub outputs: Vec<(String, T)>,
    /// The priority of each value that was emitted.
    pub priorities: Vec<Priority>,
    /// The files that were announced as products, in order.
    pub products: Vec<PathBuf>,
    /// What the log says, in order.
    pub warnings: Vec<String>,
    /// How often each action was executed, in the order of their first executions.
    pub actions: Vec<ActionCounts>,
    /// How many messages the producer expected to emit.
    pub expected: Option<u64>,
}

impl<T> Run<T> {
    /// The emitted values, without the next steps.
    pub fn into_values(self) -> Vec<T> {
        self.outputs.into_iter().map(|(_, value)| value).collect()
    }
}

/// Calls a producer until it says [`Next::Done`], from `validate` to `finish`.
///
/// # Errors
/// The first failure of a call. Nothing is tried again.
pub fn produce<P: Producer>(producer: P) -> Result<Run<P::Out>> {
    TestBench::new().produce(producer)
}

/// Gives a stage these inputs, from `validate` to `finish`, as its only worker.
///
/// # Errors
/// The first failure of a call, or of a value that cannot be serialized.
pub fn run<S: Stage>(stage: S, inputs: impl IntoIterator<Item = S::In>) -> Result<Run<S::Out>> {
    TestBench::new().run(stage, inputs)
}

/// Gives a consumer these inputs, from `validate` to `finish`, as its only worker.
///
/// # Errors
/// The first failure of a call, or of a value that cannot be serialized.
pub fn consume<C: Consumer>(
    consumer: C,
    inputs: impl IntoIterator<Item = C::In>,
) -> Result<Run<()>> {
    TestBench::new().consume(consumer, inputs)
}

/// Makes a stage from its parameters, as a configuration gives them.
///
/// # Errors
/// A permanent failure if the parameters do not fit the type.
pub fn from_params<S: DeserializeOwned>(params: Value) -> Result<S> {
    serde_json::from_value(params).map_err(|error| Failure::permanent(error.to_string()))
}

/// Makes an unopened message of a value, for stages that take [`Any`].
///
/// # Errors
/// If the value cannot be serialized.
pub fn any(value: &impl Data) -> Result<Any> {
    let bench = TestBench::new();
    Any::from_payload(value.to_payload(bench.context.codec)?, bench.context.codec)
}

/// The place in a run where stages under test stand.
///
/// A new bench is step `STEP` of a run of its own, with one next step, `NEXT`. Stages on
/// one bench, or on benches of one run name, claim products against each other.
#[derive(Debug, Clone)]
pub struct TestBench {
    context: Context,
}

impl Default for TestBench {
    fn default() -> Self {
        Self::new()
    }
}

impl TestBench {
    /// A bench in a run of its own.
    pub fn new() -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let run = format!("test-{}", RUNS.fetch_add(1, Ordering::Relaxed));
        let mut context = Context::planned("STEP", vec!["NEXT".to_owned()]);
        context.pipeline = PIPELINE.to_owned();
        Self { context: Context { run, ..context } }
    }

    /// Sets the name of the run.
    #[must_use]
    pub fn run_name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.context.run);
        self
    }

    /// Sets the name of the step.
    #[must_use]
    pub fn step(mut self, name: &str) -> Self {
        name.clone_into(&mut self.context.step);
        self
    }

    /// Sets the names of the next steps; the first is the default.
    #[must_use]
    pub fn next_steps<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.context.next_steps = names.into_iter().map(str::to_owned).collect();
        self.context.next_codecs = vec![self.context.codec; self.context.next_steps.len()];
        self
    }

    /// Sets the priority of the inputs, or for a producer that of its key `priority`.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.context.priority = priority;
        self
    }

    /// Sets the directory that the workers of the run share, as in a run with worker
    /// processes. It must exist.
    #[must_use]
    pub fn private_directory(mut self, directory: &Path) -> Self {
        self.context.private = Some(directory.to_owned());
        self
    }

    /// What `init` is given.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Calls a producer until it says [`Next::Done`], from `validate` to `finish`. One that
    /// says [`Next::Idle`] or [`Next::Barrier`] is asked again at once.
    ///
    /// # Errors
    /// The first failure of a call. Nothing is tried again.
    pub fn produce<P: Producer>(&self, producer: P) -> Result<Run<P::Out>> {
        producer.validate()?;
        scope::rewind_notes(0);
        let mut task = ProducerTask(producer);
        let mut outputs = OutputBuffer::default();
        task.start(&self.context)?;
        let expected = task.expected();
        while self.task_call(None, &mut outputs, |out| task.next(out))? != Next::Done {}
        self.task_call(None, &mut outputs, |out| task.finish(out))?;
        Ok(Run { expected, ..self.collect(outputs)? })
    }

    /// Gives a stage these inputs, from `validate` to `finish`. The inputs are numbered from
    /// 1 and descend from the origin that they name themselves.
    ///
    /// # Errors
    /// The first failure of a call, or of a value that cannot be serialized.
    pub fn run<S: Stage>(
        &self,
        stage: S,
        inputs: impl IntoIterator<Item = S::In>,
    ) -> Result<Run<S::Out>> {
        stage.validate()?;
        scope::rewind_notes(0);
        self.collect(self.drive(&mut StageTask(stage), inputs)?)
    }

    /// Gives a consumer these inputs, from `validate` to `finish`. The inputs are numbered
    /// from 1.
    ///
    /// # Errors
    /// The first failure of a call, or of a value that cannot be serialized.
    pub fn consume<C: Consumer>(
        &self,
        consumer: C,
        inputs: impl IntoIterator<Item = C::In>,
    ) -> Result<Run<()>> {
        consumer.validate()?;
        scope::rewind_notes(0);
        self.drive(&mut ConsumerTask(consumer), inputs)?;
        let (products, warnings, actions) = take_notes();
        let (outputs, priorities) = (Vec::new(), Vec::new());
        Ok(Run { outputs, priorities, products, warnings, actions, expected: None })
    }

    /// Makes one call of a stage: for tests of single attempts, of failures and of retries.
    /// `message` is the number of the input, the same at every attempt on it; 0 for `next`
    /// and `finish`.
    ///
    /// ```
    /// use drpipe::prelude::*;
    /// use drpipe::stages::Square;
    /// use drpipe::testing::TestBench;
    ///
    /// let bench = TestBench::new();
    /// let mut square = Square::default();
    /// assert!(bench.call(1, |out| square.run(i64::MAX, out)).is_err());
    /// let ((), run) = bench.call(2, |out| square.run(7, out)).unwrap();
    /// assert_eq!(run.into_values(), [49]);
    /// ```
    ///
    /// # Errors
    /// The failure of the call; what it emitted and announced is dropped then.
    pub fn call<T: Data, R>(
        &self,
        message: u64,
        call: impl FnOnce(&mut Emitter<'_, T>) -> Result<R>,
    ) -> Result<(R, Run<T>)> {
        let mut outputs = OutputBuffer::default();
        let (item, priority) = (NO_ITEM, self.context.priority);
        let input = Input { message, item, priority, origin: None };
        let input = (message > 0).then_some(input);
        let result = self.task_call(input, &mut outputs, |out| call(&mut out.emitter()))?;
        Ok((result, self.collect(outputs)?))
    }

    fn drive<T: Data>(
        &self,
        task: &mut dyn Task,
        inputs: impl IntoIterator<Item = T>,
    ) -> Result<OutputBuffer> {
        let mut outputs = OutputBuffer::default();
        task.start(&self.context)?;
        for (message, input) in (1..).zip(inputs) {
            let origin: Option<Arc<str>> = input.origin().map(Into::into);
            let payload: Payload = input.to_payload(self.context.codec)?;
            let (item, priority) = (NO_ITEM, self.context.priority);
            let input = Input { message, item, priority, origin: origin.as_ref() };
            self.task_call(Some(input), &mut outputs, |out| task.run(payload, out))?;
        }
        self.task_call(None, &mut outputs, |out| task.finish(out))?;
        Ok(outputs)
    }

    /// Makes one call; a failed one leaves no note.
    fn task_call<R>(
        &self,
        input: Option<Input<'_>>,
        outputs: &mut OutputBuffer,
        call: impl FnOnce(&mut Outputs<'_>) -> Result<R>,
    ) -> Result<R> {
        let earlier_notes = scope::note_count();
        in_call(&self.context, input, outputs, call)
            .inspect_err(|_| scope::rewind_notes(earlier_notes))
    }

    /// Opens what was emitted and takes the notes.
    fn collect<T: Data>(&self, mut outputs: OutputBuffer) -> Result<Run<T>> {
        let (products, warnings, actions) = take_notes();
        let (mut values, mut priorities) = (Vec::new(), Vec::new());
        for output in outputs.take() {
            let route = output.route().index();
            let step = self.context.next_steps.get(route).cloned().unwrap_or_default();
            let codec = self.context.next_codecs.get(route).copied().unwrap_or_default();
            for message in Batch::new(MessageId(0), output).into_messages() {
                values.push((step.clone(), T::from_payload(message.payload, codec)?));
                priorities.push(message.priority);
            }
        }
        Ok(Run { outputs: values, priorities, products, warnings, actions, expected: None })
    }
}

/// The products and warnings that were announced on this thread, and its actions.
fn take_notes() -> (Vec<PathBuf>, Vec<String>, Vec<ActionCounts>) {
    let (mut products, mut warnings, mut actions) = (Vec::new(), Vec::new(), Vec::new());
    for note in scope::take_notes() {
        match note {
            Note::Product { path, .. } => products.push(path),
            Note::Warning(text) => warnings.push(text),
            Note::Actions(counts) => actions.extend(counts),
            Note::Expected(_) => {}
        }
    }
    (products, warnings, actions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::notes::{announce_product, announce_warning};

    /// Announces each text and fails on an empty one.
    struct Announce;

    impl Stage for Announce {
        type In = String;
        type Out = String;

        fn run(&mut self, text: String, out: &mut Emitter<'_, String>) -> Result<()> {
            announce_product(&text);
            announce_warning(format!("{} of {:?}", out.message(), out.origin()));
            out.send(text.clone())?;
            if text.is_empty() { Err(Failure::permanent("empty")) } else { Ok(()) }
        }

        fn finish(&mut self, out: &mut Emitter<'_, String>) -> Result<()> {
            out.send("end".to_owned())
        }
    }

    #[test]
    fn outputs_products_and_warnings_come_in_order() {
        let run = run(Announce, ["a".to_owned(), "b".to_owned()]).unwrap();
        assert_eq!(run.products, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(run.warnings, ["1 of None", "2 of None"]);
        assert_eq!(run.into_values(), ["a", "b", "end"]);
    }

    #[test]
    fn a_failed_call_leaves_nothing() {
        let bench = TestBench::new();
        let mut stage = Announce;
        assert!(bench.call(1, |out| stage.run(String::new(), out)).is_err());
        let ((), run) = bench.call(2, |out| stage.run("x".to_owned(), out)).unwrap();
        assert_eq!((run.products.len(), run.warnings.len()), (1, 1));
        assert_eq!(run.outputs, [("NEXT".to_owned(), "x".to_owned())]);
    }

    /// Sends its input with its priority and with the other one.
    struct Both;

    impl Stage for Both {
        type In = i64;
        type Out = i64;

        fn run(&mut self, number: i64, out: &mut Emitter<'_, i64>) -> Result<()> {
            out.send(number)?;
            out.set_priority(if number > 0 { Priority::High } else { Priority::Normal });
            out.send(-number)
        }

        fn finish(&mut self, out: &mut Emitter<'_, i64>) -> Result<()> {
            out.send(0)
        }
    }

    #[test]
    fn what_a_call_sends_has_the_priority_of_its_input_until_it_sets_another() {
        use Priority::{High, Normal};
        let ended = run(Both, [1, -2]).unwrap();
        assert_eq!(ended.priorities, [Normal, High, Normal, Normal, Normal]);
        assert_eq!(ended.into_values(), [1, -1, -2, 2, 0], "in the order of emission");
        let ended = TestBench::new().priority(High).run(Both, [1, -2]).unwrap();
        assert_eq!(ended.priorities, [High, High, High, Normal, High]);
    }

    #[test]
    fn benches_stand_in_runs_of_their_own() {
        assert_ne!(TestBench::new().context().run(), TestBench::new().context().run());
    }
}
