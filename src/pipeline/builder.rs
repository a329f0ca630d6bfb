//! Pipelines without a configuration file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Pipeline;
use super::options::JournalFile;
use crate::base::failure::Failure;
use crate::plan::assemble::assemble;
use crate::plan::diagnostic::ConfigError;
use crate::plan::spec::{Role, StepSpec};
use crate::plan::{OnError, WorkerRange};
use crate::stage::data::Data;
use crate::stage::registry::{
    Build, CALLER, build_consumer, build_producer, build_stage, of_consumer, of_feed, of_producer,
    of_stage,
};
use crate::stage::{Consumer, Priority, Producer, Stage};

/// Builds a pipeline step by step. A call such as [`Builder::threads`] applies to the step that was
/// added last. Without any [`Builder::next_step`], each step leads to the one after it.
///
/// ```
/// use drpipe::pipeline::{Mode, Pipeline};
/// use drpipe::stages::{Discard, Integers, Square};
///
/// let report = Pipeline::builder()
///     .producer("NUMBERS", || Integers::new(1, 10))
///     .stage("SQUARE", Square::default).threads(2)
///     .consumer("END", Discard::default)
///     .build()?
///     .run(Mode::Threads)?;
/// assert_eq!(report.step("SQUARE").map(|step| step.counts.done), Some(10));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Builder {
    steps: Vec<StepSpec>,
    quarantine: PathBuf,
    ordered: bool,
    journal: Option<JournalFile>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self { steps: Vec::new(), quarantine: "quarantine".into(), ordered: false, journal: None }
    }

    /// Adds the producer. `make` is called on its worker's thread.
    #[must_use]
    pub fn producer<P: Producer + 'static>(
        mut self,
        name: &str,
        make: impl Fn() -> P + Send + Sync + 'static,
    ) -> Self {
        let (class, build) = (short_name::<P>(), build_producer(make));
        self.steps.push(StepSpec::new(name, class, Role::Producer, of_producer::<P>(), build));
        self
    }

    /// Adds the producer: the program itself, which sends values of the type `In` while the run
    /// goes on. Such a pipeline is started with [`Pipeline::start_with_feed`].
    #[must_use]
    pub fn feed<In: Data>(mut self, name: &str) -> Self {
        let none = || Err(Failure::permanent("a feed is a part of the program"));
        let build: Build = Arc::new(none);
        let mut spec = StepSpec::new(name, CALLER, Role::Producer, of_feed::<In>(), build);
        spec.feed = true;
        self.steps.push(spec);
        self
    }

    /// Adds a stage. `make` is called on the thread of each of its workers.
    #[must_use]
    pub fn stage<S: Stage + 'static>(
        mut self,
        name: &str,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Self {
        let (class, build) = (short_name::<S>(), build_stage(make));
        self.steps.push(StepSpec::new(name, class, Role::Stager, of_stage::<S>(), build));
        self
    }

    /// Adds a stage at the end, in the place of the consumer. What it emits is dropped, or goes
    /// back to the producer: see [`Builder::results`].
    #[must_use]
    pub fn last_stage<S: Stage + 'static>(
        mut self,
        name: &str,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Self {
        let (class, build) = (short_name::<S>(), build_stage(make));
        self.steps.push(StepSpec::new(name, class, Role::Consumer, of_stage::<S>(), build));
        self
    }

    /// Adds the consumer. `make` is called on the thread of each of its workers.
    #[must_use]
    pub fn consumer<C: Consumer + 'static>(
        mut self,
        name: &str,
        make: impl Fn() -> C + Send + Sync + 'static,
    ) -> Self {
        let (class, build) = (short_name::<C>(), build_consumer(make));
        self.steps.push(StepSpec::new(name, class, Role::Consumer, of_consumer::<C>(), build));
        self
    }

    /// Adds a step.
    #[must_use]
    pub(crate) fn step(mut self, spec: StepSpec) -> Self {
        self.steps.push(spec);
        self
    }

    /// Sets the number of threads that run the step. The default is 1.
    #[must_use]
    pub fn threads(self, count: usize) -> Self {
        self.last(|step| step.options.nb_thread.value = WorkerRange::exactly(count))
    }

    /// Lets between `min` and `max` threads run the step: one more when messages keep waiting,
    /// one fewer when there has been nothing to do for a while.
    #[must_use]
    pub fn threads_between(self, min: usize, max: usize) -> Self {
        let range = WorkerRange { min: min.clamp(1, max.max(1)), max };
        self.last(|step| step.options.nb_thread.value = range)
    }

    /// Limits the messages in the step's queue; `None` is unbounded.
    #[must_use]
    pub fn queue_limit(self, messages: Option<usize>) -> Self {
        self.last(|step| step.options.queue_limit.value = messages)
    }

    /// Limits the bytes in the step's queue; `None` is unbounded.
    #[must_use]
    pub fn queue_bytes(self, bytes: Option<u64>) -> Self {
        self.last(|step| step.options.queue_bytes.value = bytes)
    }

    /// Adds a next step; the first is the default.
    #[must_use]
    pub fn next_step(self, name: &str) -> Self {
        self.last(|step| step.leads_to(name))
    }

    /// Adds a next step that closes a loop.
    #[must_use]
    pub fn feedback(self, name: &str) -> Self {
        self.last(|step| step.feeds_back_to(name))
    }

    /// Sets what happens to a message that failed for good.
    #[must_use]
    pub fn on_error(self, policy: OnError) -> Self {
        self.last(|step| step.options.on_error.value = policy)
    }

    /// Sets how often a failed message is tried again, and the wait before the first retry, which
    /// doubles before each further one.
    #[must_use]
    pub fn retries(self, count: u32, backoff: Duration) -> Self {
        self.last(|step| {
            (step.options.retries.value, step.options.backoff.value) = (count, backoff);
        })
    }

    /// Sets how often a message whose worker process died is tried again in another one, before
    /// [`Builder::retries`] count. The default is 1.
    #[must_use]
    pub fn lost_retries(self, count: u32) -> Self {
        self.last(|step| step.options.lost_retries.value = count)
    }

    /// Limits the items of the producer that are under way at a time, and their bytes. Only for a
    /// producer that is told what became of its items.
    #[must_use]
    pub fn window(self, items: usize, bytes: u64) -> Self {
        self.last(|step| {
            step.options.window.value = items;
            step.options.window_bytes.value = Some(bytes);
        })
    }

    /// Sets how urgent the producer's messages are, and with them all that descends from them.
    /// The default is [`Priority::Normal`]. A class may say otherwise of each call:
    /// [`Emitter::set_priority`](crate::stage::Emitter::set_priority).
    #[must_use]
    pub fn priority(self, priority: Priority) -> Self {
        self.last(|step| step.options.priority.value = priority)
    }

    /// Hands what the step emits back to the producer, with the end of each item. Only for a
    /// step without next steps, under a producer that is told what became of its items.
    #[must_use]
    pub fn results(self) -> Self {
        self.last(|step| step.options.results.value = true)
    }

    /// Keeps failed inputs under `directory`.
    #[must_use]
    pub fn quarantine(mut self, directory: impl Into<PathBuf>) -> Self {
        self.quarantine = directory.into();
        self
    }

    /// Gives the steps that end the pipeline their messages in order: see
    /// [`Pipeline::set_ordered`].
    #[must_use]
    pub fn ordered(mut self) -> Self {
        self.ordered = true;
        self
    }

    /// Keeps a journal: see [`Pipeline::set_journal`].
    #[must_use]
    pub fn journal(mut self, path: impl Into<PathBuf>, resume: bool) -> Self {
        self.journal = Some(JournalFile { path: path.into(), resume });
        self
    }

    /// Checks the graph.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn build(self) -> Result<Pipeline, ConfigError> {
        let loaded = assemble(self.steps, self.quarantine)?;
        let mut pipeline = Pipeline::of(loaded);
        pipeline.options.journal = self.journal;
        pipeline.set_ordered(self.ordered);
        Ok(pipeline)
    }

    fn last(mut self, change: impl FnOnce(&mut StepSpec)) -> Self {
        self.steps.last_mut().map(change);
        self
    }
}

/// The type's name without its path.
fn short_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    let path = name.split('<').next().unwrap_or(name);
    path.rsplit("::").next().unwrap_or(path)
}
