//! How a pool is made.

use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::call::Call;
use super::{Pool, Results};
use crate::base::failure::{Failure, Result};
use crate::pipeline::{Pipeline, RunError};
use crate::plan::diagnostic::ConfigError;
use crate::plan::spec::{Role, StepSpec};
use crate::plan::{OnError, WorkerRange};
use crate::stage::Stage;
use crate::stage::data::Data;
use crate::stage::registry::{Class, Registry, build_stage, of_stage};

/// The steps of a pool's run.
const TASKS: &str = "TASKS";
pub(super) const WORK: &str = "WORK";
/// How many tasks may wait unless the program says otherwise.
const QUEUE: usize = 1024;
/// The most bytes of tasks, and of results that are not read, unless the program says otherwise.
const BYTES: u64 = 256 << 20;

/// Why a pool cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A limit of a pool of threads.
    #[error("{limit} needs workers in processes: a thread cannot be ended; use Pool::processes")]
    NeedsProcesses {
        /// The limit.
        limit: &'static str,
    },
    /// The registry does not know the stage.
    #[error("the registry has no class of the type {stage}: add it with Registry::stage")]
    Unregistered {
        /// The stage.
        stage: &'static str,
    },
    /// The stage refuses its parameters.
    #[error("the parameters of {class:?}: {failure}")]
    Parameters {
        /// The name of the stage in the registry.
        class: String,
        /// Why.
        failure: Failure,
    },
    /// A number is out of range.
    #[error(transparent)]
    Wrong(#[from] ConfigError),
    /// The run cannot start.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// What the workers do, and where.
enum Work {
    Threads(Box<StepSpec>),
    /// None if the registry does not know the class.
    Processes {
        class: Option<Box<Class>>,
        stage: &'static str,
        params: Value,
    },
}

/// The options of a pool: see [`Pool::of`] and [`Pool::processes`].
#[must_use]
pub struct Builder<In, Out> {
    work: Work,
    name: String,
    workers: WorkerRange,
    queue: usize,
    queue_bytes: u64,
    timeout: Option<Duration>,
    memory_limit: Option<u64>,
    grace: Option<Duration>,
    retries: (u32, Duration),
    marker: PhantomData<fn(In) -> Out>,
}

impl<In: Data, Out: Data> Builder<In, Out> {
    pub(super) fn threads<F>(function: F) -> Self
    where
        F: Fn(In) -> Result<Out> + Send + Sync + 'static,
    {
        let function = Arc::new(function);
        let build = build_stage(move || Call::new(Arc::clone(&function)));
        let traits = of_stage::<Call<F, In, Out>>();
        let spec = StepSpec::new(WORK, "function", Role::Consumer, traits, build);
        Self::new(Work::Threads(Box::new(spec)))
    }

    pub(super) fn processes<S>(registry: &Registry) -> Self
    where
        S: Stage<In = In, Out = Out> + 'static,
    {
        let class = registry.class_of::<S>().cloned().map(Box::new);
        let stage = std::any::type_name::<S>();
        Self::new(Work::Processes { class, stage, params: json!({}) })
    }

    fn new(work: Work) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            work,
            name: "pool".to_owned(),
            workers: WorkerRange::exactly(cores),
            queue: QUEUE,
            queue_bytes: BYTES,
            timeout: None,
            memory_limit: None,
            grace: None,
            retries: (0, Duration::ZERO),
            marker: PhantomData,
        }
    }

    /// Names the pool, for dashboards and reports. The default is "pool".
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the number of workers, `4`, or its limits, `2..=8`: then one is added when tasks
    /// have waited for 0.1 s, and one goes after 5 s without work. The default is the number
    /// of processors.
    pub fn workers(mut self, workers: impl Into<Workers>) -> Self {
        self.workers = workers.into().0;
        self
    }

    /// Limits the tasks that wait for a worker, beside one for each of the most workers. The
    /// default is 1024.
    pub fn queue(mut self, tasks: usize) -> Self {
        self.queue = tasks;
        self
    }

    /// Limits the bytes of all tasks that have not ended, and of results that are not read. A
    /// larger task passes alone. The default is 256 MiB.
    pub fn queue_bytes(mut self, bytes: u64) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Limits the time of each attempt on a task: after it the worker's process is ended (SIGTERM,
    /// SIGKILL after [`grace`](Self::grace)) and replaced. Only for processes.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Limits the private memory of each worker, in bytes: a process above it is ended and
    /// replaced, and its task is lost. Only for processes.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Sets the time between SIGTERM and SIGKILL of a process that is ended. The default is 2 s.
    pub fn grace(mut self, time: Duration) -> Self {
        self.grace = Some(time);
        self
    }

    /// Sets how often a task that fails, panics, times out or loses its worker is tried again, and
    /// the wait before the first retry, which doubles before each further one. A permanent
    /// failure is not tried again. The default is never.
    pub fn retries(mut self, count: u32, backoff: Duration) -> Self {
        self.retries = (count, backoff);
        self
    }

    /// Sets the parameters of the stage, as in a configuration. Only for processes: a function
    /// has none.
    pub fn params(mut self, params: Value) -> Self {
        if let Work::Processes { params: own, .. } = &mut self.work {
            *own = params;
        }
        self
    }

    /// Starts the pool. Its tasks' results go to their [`Task`](super::Task)s.
    ///
    /// # Errors
    /// If an option cannot be met, or the run cannot start.
    pub fn start(self) -> Result<Pool<In, Out>, StartError> {
        self.begin(false)
    }

    /// Starts the pool. All of its tasks come out of the iterator too, in the order in which they
    /// end.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub fn start_with_results(self) -> Result<(Pool<In, Out>, Results<Out>), StartError> {
        let pool = self.begin(true)?;
        let results = Results::new(Arc::clone(&pool.intake));
        Ok((pool, results))
    }

    fn begin(self, is_read: bool) -> Result<Pool<In, Out>, StartError> {
        let (timeout, is_limited) = (self.timeout, matches!(self.work, Work::Processes { .. }));
        let pipeline = self.pipeline()?;
        let (intake, run) = pipeline.start_fed::<In, Out, _>(is_read)?;
        Ok(Pool::new(intake, run, timeout, is_limited))
    }

    fn pipeline(self) -> Result<Pipeline, StartError> {
        let window = self.queue.saturating_add(self.workers.max).max(1);
        let bytes = self.queue_bytes.max(1);
        let name = self.name.clone();
        let work = self.step(window, bytes)?;
        let builder = Pipeline::builder().feed::<In>(TASKS).window(window, bytes).step(work);
        let mut pipeline = builder.build()?;
        pipeline.plan.options.name.value = Some(name);
        Ok(pipeline)
    }

    /// The step of the workers.
    fn step(self, window: usize, bytes: u64) -> Result<StepSpec, StartError> {
        let none = WorkerRange::exactly(0);
        let (mut spec, threads, processes) = match self.work {
            Work::Threads(spec) => {
                for (limit, is_set) in [
                    ("a timeout", self.timeout.is_some()),
                    ("a memory limit", self.memory_limit.is_some()),
                    ("a grace", self.grace.is_some()),
                ] {
                    if is_set {
                        return Err(StartError::NeedsProcesses { limit });
                    }
                }
                (*spec, self.workers, none)
            }
            Work::Processes { class, stage, params } => {
                let class = class.ok_or(StartError::Unregistered { stage })?;
                (of_class(&class, params)?, none, self.workers)
            }
        };
        let options = &mut spec.options;
        (options.nb_thread.value, options.nb_process.value) = (threads, processes);
        options.timeout.value = self.timeout;
        options.memory_limit.value = self.memory_limit;
        if let Some(grace) = self.grace {
            options.grace.value = grace;
        }
        (options.retries.value, options.backoff.value) = self.retries;
        // The death of a worker counts as a retry like any other failure.
        options.lost_retries.value = 0;
        options.results.value = true;
        options.on_error.value = OnError::Tell;
        options.queue_limit.value = Some(window);
        options.queue_bytes.value = Some(bytes);
        Ok(spec)
    }
}

/// A step of worker processes that have a class of the registry.
fn of_class(class: &Class, params: Value) -> Result<StepSpec, StartError> {
    let name = class.name();
    class
        .try_build(&params)
        .map_err(|failure| StartError::Parameters { class: name.to_owned(), failure })?;
    let build = class.with_params(params.clone());
    let mut spec = StepSpec::new(WORK, name, Role::Consumer, class.traits(), build);
    spec.params = params;
    spec.limits_tasks = true;
    Ok(spec)
}

/// The number of a pool's workers, or its limits.
pub struct Workers(WorkerRange);

impl From<usize> for Workers {
    fn from(count: usize) -> Self {
        Self(WorkerRange::exactly(count))
    }
}

impl From<RangeInclusive<usize>> for Workers {
    fn from(range: RangeInclusive<usize>) -> Self {
        let (min, max) = range.into_inner();
        Self(WorkerRange { min: min.clamp(1, max.max(1)), max })
    }
}
