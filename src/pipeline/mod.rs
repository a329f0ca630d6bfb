//! Runs of a plan: start one, watch it, stop it, read what became of it.

mod builder;
mod report;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::plan::Plan;
use crate::config::{self, ConfigError, Diagnostic, Setting};
use crate::event::Event;
use crate::observe::Outlet;
use crate::quarantine::Keeper;
use crate::registry::Registry;
use crate::router::{Batches, Router, Stop};
use crate::stage::Context;
use crate::transport::Inproc;
use crate::transport::hub::{self, Command, Commander, Commands, Hub, HubError};
use crate::worker::{sequential, thread};

pub use crate::router::Verdict;
pub use builder::Builder;
pub use report::{Report, StepReport};

/// How the workers of a run are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Every worker on a thread of its own.
    #[default]
    Threads,
    /// Every worker on one thread, one message after the other: the same
    /// results, in the same order every time.
    Sequential,
}

/// A checked pipeline, ready to run.
pub struct Pipeline {
    plan: Plan,
    warnings: Vec<Diagnostic>,
}

/// Why a configuration file cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read {}: {error}; name the configuration with --config FILE", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// It is wrong.
    #[error(transparent)]
    Wrong(#[from] ConfigError),
}

/// Why a run could not be started or had to be given up.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The system refused a thread or a file descriptor.
    #[error("the system refused a thread or a file descriptor: {0}")]
    System(#[from] std::io::Error),
    /// The router's socket failed.
    #[error("{0}")]
    Transport(String),
    /// A fault of drpipe itself.
    #[error("internal error: the run's thread panicked")]
    Panicked,
}

impl From<HubError> for RunError {
    fn from(error: HubError) -> Self {
        Self::Transport(error.to_string())
    }
}

impl Pipeline {
    /// Reads and checks a configuration file. `settings` beat the file.
    ///
    /// # Errors
    /// If it cannot be read, or everything that is wrong with it.
    pub fn load(path: &Path, registry: &Registry, settings: &[Setting]) -> Result<Self, LoadError> {
        let bytes = std::fs::read(path)
            .map_err(|error| LoadError::Unreadable { path: path.to_owned(), error })?;
        let text = String::from_utf8_lossy(&bytes);
        let loaded = config::load(&text, &path.display().to_string(), registry, settings)?;
        Ok(Self { plan: loaded.plan, warnings: loaded.warnings })
    }

    /// Begins a pipeline without a configuration file.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// The checked graph.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What is odd about the configuration but forbids nothing.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// Keeps failed inputs under `directory`.
    pub fn set_quarantine(&mut self, directory: PathBuf) {
        self.plan.quarantine = directory;
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// If the run cannot be started or has to be given up. That inputs failed
    /// is no error: the report says so.
    pub fn run(self, mode: Mode) -> Result<Report, RunError> {
        self.start(mode, Vec::new())?.wait()
    }

    /// Starts a run in the background. Every observer is sent every event.
    ///
    /// # Errors
    /// If the system refuses a thread or a file descriptor.
    pub fn start(
        self,
        mode: Mode,
        observers: Vec<mpsc::Sender<Event>>,
    ) -> Result<Handle, RunError> {
        let run = run_name();
        let plan = Arc::new(self.plan);
        let (commander, commands) = hub::commands()?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let start = Start {
            outlet: Outlet::new(observers, Keeper::new(&plan.quarantine, &run, &plan.config_hash)),
            run,
            plan,
            commander: commander.clone(),
            commands,
            cancelled: Arc::clone(&cancelled),
        };
        let thread =
            std::thread::Builder::new().name("router".into()).spawn(move || match mode {
                Mode::Threads => start.threads(),
                Mode::Sequential => Ok(start.sequential()),
            })?;
        Ok(Handle { stopper: Stopper { commander, cancelled }, thread })
    }
}

/// A run that is under way.
pub struct Handle {
    stopper: Stopper,
    thread: JoinHandle<Result<Report, RunError>>,
}

/// Stops a run from any thread.
#[derive(Clone)]
pub struct Stopper {
    commander: Commander,
    cancelled: Arc<AtomicBool>,
}

impl Handle {
    /// What stops the run.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits for the end of the run.
    ///
    /// # Errors
    /// If the run had to be given up.
    pub fn wait(self) -> Result<Report, RunError> {
        self.thread.join().map_err(|_| RunError::Panicked)?
    }
}

impl Stopper {
    /// Takes no more input and lets what was taken be processed to its end.
    pub fn drain(&self) {
        self.commander.send(Command::Stop(Stop::Drain));
    }

    /// Drops what waits and waits for nothing.
    pub fn stop_now(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.commander.send(Command::Stop(Stop::Now));
    }
}

/// Unique on this machine: the time, the process and a number within it.
fn run_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let suffix = if count == 0 { String::new() } else { format!("-{count}") };
    format!("{time}-{}{suffix}", std::process::id())
}

/// Worker threads that are stopped at once are waited for this long.
const GRACE: Duration = Duration::from_secs(1);

/// All that a run begins with.
struct Start {
    run: String,
    plan: Arc<Plan>,
    outlet: Outlet,
    commander: Commander,
    commands: Commands,
    cancelled: Arc<AtomicBool>,
}

impl Start {
    fn context(&self) -> impl Fn(usize, usize) -> Context + use<> {
        let (run, plan) = (self.run.clone(), Arc::clone(&self.plan));
        move |step, worker| Context {
            run: run.clone(),
            step: plan.steps[step].name.clone(),
            worker,
            next_steps: plan.next_steps(step),
        }
    }

    fn sequential(self) -> Report {
        let context_of = self.context();
        let Self { plan, outlet, commands, run, cancelled, .. } = self;
        let router = Router::new(&plan, Batches::Single);
        let (router, outlet, elapsed) =
            sequential::run(&plan, router, outlet, &commands, &cancelled, &context_of);
        Report::new(run, &plan, Mode::Sequential, &router, outlet.finish(), elapsed)
    }

    fn threads(self) -> Result<Report, RunError> {
        let context_of = self.context();
        let Self { plan, outlet, commands, commander, cancelled, run } = self;
        let inproc = Inproc::new();
        let router = Router::new(&plan, Batches::Adaptive);
        let places: Vec<_> = (0..router.worker_count()).map(|w| router.place_of(w)).collect();
        // Every worker's thread holds a sender; the channel closes with the last.
        let (alive, all_ended) = mpsc::channel::<()>();
        let mut threads = Vec::new();
        let mut spawn = |index: usize| {
            let (step, number) = places[index];
            let post = thread::Post {
                inproc: inproc.clone(),
                index,
                build: plan.steps[step].build.clone(),
                context: context_of(step, number),
                cancelled: Arc::clone(&cancelled),
                commander: commander.clone(),
                alive: alive.clone(),
            };
            match thread::spawn(post) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    let reason = format!("its thread could not be started: {error}");
                    commander.send(Command::Lost { worker: index, reason });
                }
            }
        };
        let mut hub = Hub::bind(&inproc, commands, router, outlet)?;
        (0..places.len()).for_each(&mut spawn);
        let elapsed = hub.run(&mut spawn)?;
        drop(alive);
        if cancelled.load(Ordering::Relaxed) {
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
        let (router, outlet) = hub.into_parts();
        Ok(Report::new(run, &plan, Mode::Threads, &router, outlet.finish(), elapsed))
    }
}

impl Verdict {
    /// 0 all done; 1 some inputs failed; 3 stopped by policy or by an error;
    /// 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Verdict::Done => 0,
            Verdict::SomeFailed => 1,
            Verdict::Stopped(_) => 3,
            Verdict::Interrupted => 130,
        }
    }
}
