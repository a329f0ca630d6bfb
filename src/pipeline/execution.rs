//! Performs a run, from the first worker to the report.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::ahead::Interpreters;
use super::launch::Launcher;
use super::private_directory::PrivateDirectory;
use super::{Caller, Control, Mode, RunError, report};
use crate::base::ids::{MessageId, StepId, WorkerId};
use crate::driver;
use crate::driver::Run;
use crate::driver::commands::{Command, Commander, Commands};
use crate::driver::hub::{Hub, Workers};
use crate::driver::sequential::Sequential;
use crate::event::Report;
use crate::plan::{Plan, Step};
use crate::protocol::control::ToCaller;
use crate::python::BundledPackage;
use crate::router::{Batching, Router, Timing};
use crate::sinks::Sinks;
use crate::stage::Context;
use crate::transport::descriptors::{OF_A_PROCESS, OF_A_START, OF_A_THREAD, make_room};
use crate::transport::feed::{FeedPort, WithFeed};
use crate::transport::sockets::Sockets;
use crate::transport::wakeable::{self, Sender, Wakeup};
use crate::transport::zmq::{Threads, ZmqContext};
use crate::transport::zmtp::{Processes, endpoint};
use crate::worker::ReportWorker;
use crate::worker::supervisor::{Outgoing, ProcessEnd, Supervisor};

/// How long a run that was stopped at once waits for its worker threads. A stage cannot be
/// interrupted on its thread, so those that are still at work are left behind.
const GRACE: Duration = Duration::from_secs(1);

/// Everything that a run needs, ready to begin.
pub(super) struct Execution {
    /// Dropped once the sockets are open, or none is needed.
    pub(super) opening: mpsc::Sender<()>,
    pub(super) run: String,
    pub(super) plan: Arc<Plan>,
    pub(super) sinks: Sinks,
    pub(super) commander: Commander,
    pub(super) commands: Commands,
    pub(super) cancelled: Arc<AtomicBool>,
    /// Present if the run has worker processes.
    pub(super) private: Option<PrivateDirectory>,
    /// The program that provides the workers of open steps, and what it steers the run by.
    pub(super) caller: Option<(Caller, Control)>,
    /// The router's side of a feed that is a part of this program.
    pub(super) feed: Option<FeedPort>,
    pub(super) mode: Mode,
    pub(super) bundled: Option<BundledPackage>,
    /// Present for steps in Python.
    pub(super) interpreters: Option<Interpreters>,
    /// How long the end of the run waits for worker processes.
    pub(super) patience: Duration,
}

/// Where the workers of a run are, and how many of them are at work at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Placing {
    /// On threads and in processes of their own, all of them.
    AtOnce,
    /// On threads and in processes of their own, one of them.
    OneByOne,
    /// On the run's thread.
    Here,
}

impl Execution {
    /// Runs to the end.
    ///
    /// # Errors
    /// If the run cannot go on.
    pub(super) fn run(self, placing: Placing) -> Result<Report, RunError> {
        match placing {
            Placing::AtOnce => self.threads(Batching::Adaptive),
            Placing::OneByOne => self.threads(Batching::OneByOne),
            Placing::Here => Ok(self.sequential()),
        }
    }

    /// Makes the context of a step's worker, given its number.
    fn context(&self) -> impl Fn(StepId, usize) -> Context + use<> {
        let (run, plan) = (self.run.clone(), Arc::clone(&self.plan));
        let private = self.private.as_ref().map(|directory| directory.path().to_owned());
        let written: Vec<PathBuf> =
            plan.writes.iter().map(|place| place.directory().to_owned()).collect();
        move |step, worker| Context {
            run: run.clone(),
            step: plan.steps[step.index()].name.clone(),
            worker,
            next_steps: plan.next_steps(step.index()),
            codec: plan.steps[step.index()].codec,
            next_codecs: plan.next_codecs(step.index()),
            results: plan.results_codec(step.index()),
            limits_tasks: plan.steps[step.index()].limits_tasks,
            priority: *plan.steps[step.index()].options.priority,
            private: private.clone(),
            pipeline: plan.identity.clone(),
            written: written.clone(),
        }
    }

    /// Runs everything on the calling thread.
    fn sequential(self) -> Report {
        let context_of = self.context();
        let Self { opening, plan, sinks, commands, run, cancelled, .. } = self;
        drop(opening);
        let mut running = Run::new(router(&plan, Batching::Single, &sinks), sinks, commands.values);
        let mut driver = Sequential::new(&plan, &cancelled, &context_of, commands.wakeup);
        let Ok(elapsed) = driver::run(&mut running, &mut driver);
        report::report(run, &plan, Mode::Sequential, running.finish(), elapsed)
    }

    /// Runs each worker on a thread or in a process of its own.
    fn threads(self, batching: Batching) -> Result<Report, RunError> {
        let context_of = self.context();
        let Self { plan, sinks, commands, commander, cancelled, .. } = self;
        let Self { opening, run, private, mode, bundled, interpreters, patience, .. } = self;
        let (to_caller, frames) = self.caller.is_some().then(wakeable::queue).transpose()?.unzip();
        let directory = private.as_ref().map(PrivateDirectory::path);
        let router = router(&plan, batching, &sinks);
        let sockets = ZmqContext::new();
        let report = reporter(commander);
        let (alive, all_ended) = mpsc::channel::<()>();
        let supervisor = directory
            .map(|directory| Supervisor::start(directory, Arc::clone(&report), to_caller.clone()))
            .transpose()?;
        let threads = plan.steps.iter().any(Step::has_threads).then_some(&sockets);
        let transport = bind(threads, directory, router.slot_count(), commands.wakeup)?;
        let feed = self.feed.as_ref().map(FeedPort::place);
        let transport = WithFeed::new(transport, self.feed);
        let attendant = match (self.caller, frames, &supervisor) {
            (Some((caller, control)), Some(frames), Some(supervisor)) => {
                Some(caller.attend(frames, supervisor.attachments(), control)?)
            }
            _ => None,
        };
        welcome(to_caller, &run, directory);
        drop(opening);
        let mut launcher = Launcher {
            plan: &plan,
            sockets: &sockets,
            cancelled: &cancelled,
            report,
            alive,
            supervisor,
            private: directory,
            bundled: bundled.as_ref(),
            interpreters,
            feed,
            threads: Vec::new(),
        };
        let mut running = Run::new(router, sinks, commands.values);
        let workers = Launched { launcher: &mut launcher, context_of: &context_of };
        let mut hub = Hub::new(transport, workers);
        let ran = driver::run(&mut running, &mut hub);
        let transport = hub.into_transport();
        let Launcher { threads, supervisor, alive, .. } = launcher;
        drop(alive);
        let stopped = cancelled.load(Ordering::Relaxed);
        let patience = if ran.is_ok() && !stopped { patience } else { Duration::ZERO };
        let reaper = supervisor.and_then(|supervisor| supervisor.finish(patience));
        // Its frames are sent; a panic of its own concerns the caller alone.
        attendant.into_iter().for_each(|thread| drop(thread.join()));
        if stopped {
            if all_ended.recv_timeout(GRACE) != Err(RecvTimeoutError::Disconnected) {
                sockets.clone().leak();
            }
        } else if ran.is_ok() {
            // A worker's thread catches its own panics and reports them.
            threads.into_iter().for_each(|thread| drop(thread.join()));
        }
        drop(transport);
        // Failed inputs are kept, even if the run could not go on.
        let ended = running.finish();
        drop(private);
        drop(reaper);
        Ok(report::report(run, &plan, mode, ended, ran?))
    }
}

/// The workers of a run, as its driver starts and ends them.
struct Launched<'a, 'r, F> {
    launcher: &'a mut Launcher<'r>,
    context_of: &'a F,
}

impl<F: Fn(StepId, usize) -> Context> Workers for Launched<'_, '_, F> {
    fn start(&mut self, worker: WorkerId, of: (StepId, usize)) -> Option<ProcessEnd> {
        self.launcher.start(worker, of, (self.context_of)(of.0, of.1))
    }

    fn end(&mut self, worker: WorkerId, message: MessageId) {
        if let Some(supervisor) = &self.launcher.supervisor {
            supervisor.end_at(worker, message);
        }
    }
}

/// Tells the caller that the run begins.
fn welcome(to_caller: Option<Sender<Outgoing>>, run: &str, directory: Option<&Path>) {
    if let (Some(caller), Some(directory)) = (to_caller, directory) {
        let (run, version) = (run.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let endpoint = format!("ipc://{}", endpoint(directory).display());
        caller.send((ToCaller::Welcome { run, version, endpoint }, Vec::new()));
    }
}

/// Lets workers' threads and the supervisor report to the router's loop.
fn reporter(commander: Commander) -> ReportWorker {
    Arc::new(move |event| commander.send(Command::Worker(event)))
}

fn bind(
    threads: Option<&ZmqContext>,
    private: Option<&Path>,
    workers: usize,
    wakeup: Wakeup,
) -> Result<Sockets, RunError> {
    let of_a_worker = if private.is_some() { OF_A_PROCESS } else { OF_A_THREAD };
    make_room(workers * of_a_worker + OF_A_START, workers)?;
    let threads = threads.map(Threads::bind).transpose()?;
    let processes = private.map(|directory| Processes::bind(&endpoint(directory))).transpose()?;
    Ok(Sockets::new(threads, processes, wakeup))
}

fn router(plan: &Plan, batching: Batching, sinks: &Sinks) -> Router {
    let mut router = Router::new(plan, batching, Timing::default());
    let needs = sinks.needs();
    if needs.items {
        router.track_items();
    }
    if needs.spans {
        router.trace();
    }
    router
}
