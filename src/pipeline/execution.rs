//! Carries a run through, from the first worker to the report.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::launch::Starter;
use super::private_directory::Private;
use super::{Mode, RunError, report};
use crate::driver::hub::{Commander, Commands, Hub};
use crate::driver::sequential;
use crate::event::Report;
use crate::plan::Plan;
use crate::python::BundledPackage;
use crate::router::{Batching, Router};
use crate::sinks::RunSinks;
use crate::stage::Context;
use crate::transport::zmq::Inproc;
use crate::worker::supervisor::Supervisor;

/// Worker threads that are stopped at once are waited for this long.
const GRACE: Duration = Duration::from_secs(1);

/// A run that is about to begin: all that it needs.
pub(super) struct Execution {
    pub(super) run: String,
    pub(super) plan: Arc<Plan>,
    pub(super) sinks: RunSinks,
    pub(super) commander: Commander,
    pub(super) commands: Commands,
    pub(super) cancelled: Arc<AtomicBool>,
    /// The directory of a run with worker processes.
    pub(super) private: Option<Private>,
    pub(super) mode: Mode,
    pub(super) carried: Option<BundledPackage>,
    /// Worker processes that were told to stop are waited for this long.
    pub(super) patience: Duration,
}

impl Execution {
    fn context(&self) -> impl Fn(usize, usize) -> Context + use<> {
        let (run, plan) = (self.run.clone(), Arc::clone(&self.plan));
        let private = self.private.as_ref().map(|directory| directory.path().to_owned());
        let written: Vec<PathBuf> =
            plan.writes.iter().map(|place| place.directory().to_owned()).collect();
        move |step, worker| Context {
            run: run.clone(),
            step: plan.steps[step].name.clone(),
            worker,
            next_steps: plan.next_steps(step),
            codec: plan.steps[step].codec,
            next_codecs: plan.next_codecs(step),
            private: private.clone(),
            pipeline: plan.identity.clone(),
            written: written.clone(),
        }
    }

    pub(super) fn sequential(self) -> Report {
        let context_of = self.context();
        let Self { plan, sinks, commands, run, cancelled, .. } = self;
        let router = router(&plan, Batching::Single, &sinks);
        let (router, sinks, elapsed) =
            sequential::run(&plan, router, sinks, &commands, &cancelled, &context_of);
        let left = sinks.finish(&router);
        report::report(run, &plan, Mode::Sequential, &router, left, elapsed)
    }

    pub(super) fn threads(self, batching: Batching) -> Result<Report, RunError> {
        let context_of = self.context();
        let Self { plan, sinks, commands, commander, cancelled, .. } = self;
        let Self { run, private, mode, carried, patience, .. } = self;
        let router = router(&plan, batching, &sinks);
        let inproc = Inproc::new();
        // Every worker's thread holds a sender; the channel closes with the last.
        let (alive, all_ended) = mpsc::channel::<()>();
        let mut starter = Starter {
            plan: &plan,
            inproc: &inproc,
            cancelled: &cancelled,
            commander: &commander,
            alive,
            supervisor: private
                .as_ref()
                .map(|_| Supervisor::start(commander.clone()))
                .transpose()?,
            private: private.as_ref().map(Private::path),
            carried: carried.as_ref(),
            threads: Vec::new(),
        };
        let mut hub = Hub::bind(&inproc, starter.private, commands, router, sinks)?;
        let ran = hub.run(&mut |place, post| starter.start(place, post, &context_of));
        let Starter { threads, supervisor, alive, .. } = starter;
        drop(alive);
        let stopped = cancelled.load(Ordering::Relaxed);
        if let Some(supervisor) = supervisor {
            let done = ran.is_ok() && !stopped;
            supervisor.finish(if done { patience } else { Duration::ZERO });
        }
        let elapsed = match ran {
            Ok(elapsed) => elapsed,
            Err(error) => {
                // What has failed so far is kept all the same.
                let (router, sinks) = hub.into_parts();
                sinks.finish(&router);
                return Err(error.into());
            }
        };
        if stopped {
            // A stage cannot be interrupted on its thread: one that is still at
            // work is left behind, and the context that it uses with it.
            let ended = all_ended.recv_timeout(GRACE) == Err(mpsc::RecvTimeoutError::Disconnected);
            if !ended {
                std::mem::forget(inproc.clone());
            }
        } else {
            for thread in threads {
                // A worker's thread catches its own panics and reports them.
                let _ = thread.join();
            }
        }
        let (router, sinks) = hub.into_parts();
        let left = sinks.finish(&router);
        Ok(report::report(run, &plan, mode, &router, left, elapsed))
    }
}

fn router(plan: &Plan, batching: Batching, sinks: &RunSinks) -> Router {
    let mut router = Router::new(plan, batching);
    if sinks.has_journal() {
        router.track_items(plan);
    }
    if sinks.has_trace() {
        router.trace();
    }
    router
}
