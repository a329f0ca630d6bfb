//! Task pools: calls that run on workers while the program goes on.
//!
//! ```
//! use drpipe::pool::Pool;
//! use drpipe::prelude::*;
//!
//! let pool = Pool::of(|text: String| -> Result<i64> { Ok(text.trim().parse()?) })
//!     .name("parse")
//!     .workers(2)
//!     .start()?;
//! let task = pool.submit("seven", " 7 ".to_owned())?;
//! assert_eq!(task.wait()?, 7);
//! # Ok::<(), Failure>(())
//! ```
//!
//! A pool is a run of a pipeline of two steps: the program feeds TASKS, and the pool's workers do
//! WORK. So what `docs/BEHAVIOR.md` says of failures, retries and dead workers holds for it, and
//! dashboards show it.
//!
//! # What is guaranteed
//!
//! - **Each task ends once**, whatever becomes of its worker: with the value that its function has
//!   returned, or with a [`TaskError`].
//! - **A task that fails costs itself only.** A panic is caught and the worker goes on. A worker
//!   process that dies is replaced; its task is lost, or tried again if
//!   [retries](Builder::retries) are left, and the tasks behind it go to other workers.
//! - **Memory is bounded.** A pool holds at most [`queue`](Builder::queue) tasks beside those that
//!   workers have, and [`queue_bytes`](Builder::queue_bytes) bytes of them: then
//!   [`submit`](Pool::submit) waits. [Results](Builder::start_with_results) that nobody reads
//!   hold it up as well.
//! - **Tasks are begun in the order in which they were submitted**, except those that are tried
//!   again. They end in any order.
//! - **Nothing outlives the program.** Worker processes end with it, however it ends.
//!
//! Values are serialized even between threads, so a task never shares anything with its
//! submitter: arrays in a [`Buffer`](crate::memory::buffer::Buffer) are not copied for that.
//!
//! # Threads or processes
//!
//! [`Pool::of`] calls a function on threads. A thread cannot be ended: such a pool has no limits of
//! time and memory, a task that never returns keeps its worker, and a function that aborts ends
//! the program. [`Pool::processes`] runs a stage in worker processes, each of which is this
//! program started anew: `main` must call
//! [`serve_worker`](crate::pipeline::serve_worker) with the same registry first.
//!
//! # Blocking
//!
//! A pool is [`Sync`]: any thread may submit, and none of its methods blocks another's.
//! [`submit`](Pool::submit) waits for room, [`Task::wait`] for the end of the task,
//! [`Task::cancel`] for the router's answer, [`drain`](Pool::drain) for the end of all tasks, and
//! [`stop`](Pool::stop) and the drop of a pool for the end of its workers, up to a second for
//! threads that are at work.

mod builder;
mod call;
mod progress;
mod results;
mod submission;
mod task;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::base::failure::{Failure, Result};
use crate::pipeline::{
    Control, Handle, Intake, Patience, Report, RunError, SendError, Sent, SteerError, origin_of,
};
use crate::stage::Stage;
use crate::stage::data::Data;
use crate::stage::registry::Registry;
use crate::status::stream::Stream;

use builder::WORK;
pub use builder::{Builder, StartError, Workers};
use progress::Counts;
pub use progress::Progress;
pub use results::{Finished, Results};
pub use submission::Submission;
use task::{Shared, Submitted};
pub use task::{Task, TaskError};

/// A pool of workers that turn values of the type `In` into values of the type `Out`. See the
/// [module](self).
///
/// A pool that is dropped is [stopped](Pool::stop).
pub struct Pool<In, Out> {
    intake: Arc<Intake<Submitted>>,
    /// Present until the pool has ended.
    run: Option<Handle>,
    control: Control,
    counts: Arc<Counts>,
    /// The time limit of each task.
    timeout: Option<Duration>,
    /// Whether tasks may have limits of their own.
    is_limited: bool,
    marker: PhantomData<fn(In) -> Out>,
}

impl<In: Data, Out: Data> Pool<In, Out> {
    /// A pool that calls `function` on threads. Several of them call it at the same time.
    pub fn of<F>(function: F) -> Builder<In, Out>
    where
        F: Fn(In) -> Result<Out> + Send + Sync + 'static,
    {
        Builder::threads(function)
    }

    /// A pool of worker processes, each with an instance of the stage `S` that `registry` has. Each
    /// call of [`Stage::run`] emits one value, the result of its task. What `finish` emits is
    /// dropped.
    pub fn processes<S>(registry: &Registry) -> Builder<In, Out>
    where
        S: Stage<In = In, Out = Out> + 'static,
    {
        Builder::processes::<S>(registry)
    }

    fn new(
        intake: Arc<Intake<Submitted>>,
        run: Handle,
        timeout: Option<Duration>,
        is_limited: bool,
    ) -> Self {
        let (control, counts) = (run.control(), Arc::default());
        Self { intake, run: Some(run), control, counts, timeout, is_limited, marker: PhantomData }
    }

    /// Submits a task, and waits for room if the queue is full. The name is for the log of the run
    /// and its result; if it is empty, the task has that of its value ([`Data::origin`]), or none.
    ///
    /// # Errors
    /// If the pool takes no more, or the value refuses to be serialized.
    pub fn submit(&self, name: impl Into<String>, value: In) -> Result<Task<Out>, SendError<In>> {
        self.submit_with(Submission::new(value).name(name))
    }

    /// As [`Pool::submit`], but does not wait.
    ///
    /// # Errors
    /// As those of [`Pool::submit`], and [`SendError::Full`] with the value if there is no room.
    pub fn try_submit(
        &self,
        name: impl Into<String>,
        value: In,
    ) -> Result<Task<Out>, SendError<In>> {
        self.submit_with(Submission::new(value).name(name).within(Duration::ZERO))
    }

    /// As [`Pool::submit`], but waits for this time at most.
    ///
    /// # Errors
    /// As those of [`Pool::try_submit`].
    pub fn submit_within(
        &self,
        name: impl Into<String>,
        value: In,
        time: Duration,
    ) -> Result<Task<Out>, SendError<In>> {
        self.submit_with(Submission::new(value).name(name).within(time))
    }

    /// Submits a task with options.
    ///
    /// # Errors
    /// As those of [`Pool::try_submit`]; if a pool of threads is to limit the time of the task.
    pub fn submit_with(&self, submission: Submission<In>) -> Result<Task<Out>, SendError<In>> {
        let Submission { value, name, timeout, room_within } = submission;
        if timeout.is_some() && !self.is_limited {
            let why = "a timeout needs workers in processes: a thread cannot be ended";
            return Err(SendError::Unsuitable(Failure::permanent(why)));
        }
        if room_within == Some(Duration::ZERO) && self.intake.is_full() {
            return Err(SendError::Full(value));
        }
        let payload = self.intake.payload(&value, timeout).map_err(SendError::Unsuitable)?;
        let origin = origin_of(&name, &value);
        let limit = timeout.into_iter().chain(self.timeout).min();
        let shared = Shared::new(origin.clone(), limit, Arc::clone(&self.counts));
        let kept = Submitted(Arc::clone(&shared));
        let patience = match room_within {
            None => Patience::Endless,
            Some(Duration::ZERO) => Patience::None,
            Some(time) => Patience::of(time),
        };
        let priority = self.intake.priority();
        match self.intake.send(Sent { payload, origin, priority, kept }, patience) {
            Ok(number) => Ok(Task::new(shared, number, Arc::clone(&self.intake))),
            Err(refused) => Err(SendError::of(refused, value)),
        }
    }

    /// How many tasks there are, by what has become of them.
    pub fn progress(&self) -> Progress {
        self.intake.look(|open| self.counts.progress(open))
    }

    /// Begins no more tasks until [`resume`](Pool::resume). Those that workers have go on, and
    /// tasks may be submitted.
    ///
    /// # Errors
    /// If the pool is ending.
    pub fn pause(&self) -> Result<(), SteerError> {
        self.control.pause(Some(WORK))
    }

    /// Goes on after [`pause`](Pool::pause).
    ///
    /// # Errors
    /// If the pool is ending.
    pub fn resume(&self) -> Result<(), SteerError> {
        self.control.resume(Some(WORK))
    }

    /// Sets the number of workers from now on. A worker that leaves ends its task first.
    ///
    /// # Errors
    /// If the number is not 1 to 256, or the workers of the beginning are not ready yet.
    pub fn set_workers(&self, workers: usize) -> Result<(), SteerError> {
        self.control.set_workers(WORK, workers)
    }

    /// What steers the run as any other. Its steps are TASKS and WORK.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// The events of the run, for a [monitor](crate::monitor) for example. None when the pool has
    /// ended.
    pub fn stream(&self) -> Option<&Stream> {
        self.run.as_ref().map(Handle::stream)
    }

    /// Takes no more tasks. Those that were submitted go on.
    pub fn close(&self) {
        self.intake.close();
    }

    /// Takes no more tasks, waits until all have ended, and ends the workers. Results that are not
    /// read stay readable, and hold nothing up.
    ///
    /// # Errors
    /// If the run could not go on. Tasks that failed are no error: the report counts them.
    pub fn drain(mut self) -> Result<Report, RunError> {
        self.intake.close();
        self.intake.keep_all();
        // A paused pool would never end. One that has ended need not go on.
        let _ = self.control.resume(None).and_then(|()| self.control.resume(Some(WORK)));
        self.end()
    }

    /// Stops at once: drops the tasks that wait and ends the workers. A thread that is at work is
    /// waited for a second at most, then left behind: it goes on to the end of its task, whose
    /// result is not taken.
    ///
    /// # Errors
    /// If the run could not go on.
    pub fn stop(mut self) -> Result<Report, RunError> {
        self.control.stop_now();
        self.end()
    }

    fn end(&mut self) -> Result<Report, RunError> {
        // Nothing but this and the drop takes it.
        self.run.take().ok_or(RunError::Panicked)?.wait()
    }
}

impl<In, Out> Drop for Pool<In, Out> {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            self.control.stop_now();
            // The program that drops a pool does not want to know how it ended.
            let _ = run.wait();
        }
    }
}
