//! Runs of a plan: start one, watch it, stop it, read what became of it.

mod ahead;
mod builder;
mod caller;
mod control;
mod error;
mod execution;
mod feed;
mod first_event;
mod last_event;
mod launch;
mod options;
mod overlap;
mod private_directory;
mod quarantine_retry;
mod report;
mod run_name;
mod start;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::base::prepared::Prepared;
use crate::config;
use crate::config::{About, Setting, Unusable, Wanted};
use crate::plan::Plan;
use crate::plan::assemble::Loaded;
use crate::plan::diagnostic::Diagnostic;
use crate::python::{BundledPackage, Questions};
use crate::sinks::quarantine::Retried;
use crate::stage::registry::Registry;
use crate::status::stream::Stream;
use crate::worker::process;
use crate::worker::reexec::worker_environment;

use ahead::Ahead;
use options::Options;

pub use crate::event::{Report, StepReport, Verdict};
pub use crate::router::{Cancelled, Refusal};
pub use crate::sinks::journal::JournalError;
pub use builder::Builder;
pub(crate) use caller::{Caller, Farewell};
pub use control::{Control, SteerError};
pub use error::{LoadError, RunError};
pub use feed::{Acknowledgements, Feed, SendError};
pub(crate) use feed::{End, Intake, Kept, Patience, Sent, origin_of};

/// How the workers of a run are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Every worker on a thread or in a process of its own, as the plan says.
    #[default]
    Threads,
    /// Every worker on one thread, one message after the other: the same results, in the same
    /// order every time. Steps in Python and steps with a `timeout` or a `memory_limit` keep one
    /// worker process each.
    Sequential,
}

/// A checked pipeline, ready to run.
pub struct Pipeline {
    pub(crate) plan: Plan,
    warnings: Vec<Diagnostic>,
    retried: Retried,
    options: Options,
    /// Present for steps in Python.
    bundled: Option<BundledPackage>,
    /// Present for steps in Python.
    ahead: Option<Ahead>,
}

impl Pipeline {
    /// Reads and checks a configuration file. `settings` override the file.
    ///
    /// # Errors
    /// If it cannot be read, or everything that is wrong with it.
    pub fn load(path: &Path, registry: &Registry, settings: &[Setting]) -> Result<Self, LoadError> {
        Self::load_driven(path, registry, settings, None)
    }

    /// As [`Pipeline::load`], for a program that may have forked an interpreter from itself, which
    /// answers for the classes in Python and forks their workers.
    ///
    /// # Errors
    /// As [`Pipeline::load`].
    pub(crate) fn load_driven(
        path: &Path,
        registry: &Registry,
        settings: &[Setting],
        drivers_fork: Option<Prepared>,
    ) -> Result<Self, LoadError> {
        let bytes = std::fs::read(path)
            .map_err(|error| LoadError::Unreadable { path: path.to_owned(), error })?;
        let directory = path.parent().unwrap_or(path);
        let file = path.display().to_string();
        let text = String::from_utf8_lossy(&bytes);
        Self::read_driven(&text, (&file, directory), registry, settings, drivers_fork)
    }

    /// As [`Pipeline::load`], for a text that messages call `file`. Modules in Python are also
    /// searched for in `directory`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(
        text: &str,
        file: &str,
        directory: &Path,
        registry: &Registry,
        settings: &[Setting],
    ) -> Result<Self, LoadError> {
        Self::read_driven(text, (file, directory), registry, settings, None)
    }

    fn read_driven(
        text: &str,
        (file, directory): (&str, &Path),
        registry: &Registry,
        settings: &[Setting],
        drivers_fork: Option<Prepared>,
    ) -> Result<Self, LoadError> {
        let mut bundled = None;
        let mut ahead = None;
        let drivers_fork = Cell::new(drivers_fork);
        let mut describe = |wanted: &[Wanted]| {
            let also_in = vec![PathBuf::from("."), directory.to_owned()];
            match bundled.insert(BundledPackage::unpack()) {
                Ok(carried) => {
                    let ahead = ahead.insert(Ahead::new());
                    let environment = worker_environment(ahead.private());
                    let drivers_fork = Cell::new(drivers_fork.take());
                    let questions = Questions { carried, also_in, environment, drivers_fork };
                    let answers = questions.describe(wanted);
                    ahead.ready = answers.ready;
                    answers.classes
                }
                Err(error) => wanted.iter().map(|_| Err(nowhere(error))).collect(),
            }
        };
        let name = Path::new(file).file_stem().filter(|_| file != "<stdin>" && file != "-");
        let name = name.map(|name| name.to_string_lossy().into_owned());
        let mut loaded = config::load_with(text, file, registry, settings, &mut describe)?;
        loaded.warnings.extend(overlap::warnings(&loaded.plan));
        let mut pipeline = Self::of(loaded);
        pipeline.bundled = bundled.and_then(Result::ok);
        pipeline.ahead = ahead;
        pipeline.options.file = name;
        Ok(pipeline)
    }

    fn of(loaded: Loaded) -> Self {
        let Loaded { plan, warnings } = loaded;
        let (retried, options) = (Retried::default(), Options::default());
        Self { plan, warnings, retried, options, bundled: None, ahead: None }
    }

    /// Ends the interpreters that have described classes: none of them becomes a worker.
    pub(crate) fn end_interpreters(&mut self) {
        self.ahead = None;
    }

    /// The interpreters of the steps in Python, and the script that they run.
    pub(crate) fn interpreters(&self) -> Option<(BTreeSet<&Path>, PathBuf)> {
        let pythons = self.plan.steps.iter().filter_map(|step| step.python.as_ref());
        let interpreters = pythons.map(|python| python.interpreter.as_path()).collect();
        Some((interpreters, self.bundled.as_ref()?.main()))
    }

    /// Begins a pipeline without a configuration file.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// The checked graph.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What looks wrong in the configuration but does not prevent a run.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }
}

/// Says that there is no room for the package that steps in Python need.
fn nowhere(error: &std::io::Error) -> Unusable {
    Unusable {
        about: About::Module,
        message: format!("the package for steps in Python cannot be unpacked: {error}"),
        hint: "set XDG_CACHE_HOME or TMPDIR to a writable directory".to_owned(),
    }
}

/// A run that is under way.
pub struct Handle {
    control: Control,
    stream: Stream,
    thread: JoinHandle<Result<Report, RunError>>,
}

impl Handle {
    /// What steers and stops the run.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// The events of the run.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Waits for the end of the run.
    ///
    /// # Errors
    /// If the run could not go on.
    pub fn wait(self) -> Result<Report, RunError> {
        self.thread.join().map_err(|_| RunError::Panicked)?
    }
}

/// Runs this process as a worker and ends it, if it was started as one; otherwise does nothing.
///
/// Worker processes are this program itself, started again. So a program that loads pipelines with
/// worker processes calls this first thing in `main`, with the registry that it loads them with.
/// [`cli::Cli`](crate::cli::Cli) does so by itself.
///
/// ```no_run
/// use drpipe::pipeline::{self, Mode, Pipeline};
/// use drpipe::prelude::*;
///
/// let mut registry = Registry::new();
/// drpipe::stages::register(&mut registry);
/// pipeline::serve_worker(&registry);
/// let report = Pipeline::load("pipeline.json".as_ref(), &registry, &[])?.run(Mode::Threads)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn serve_worker(registry: &Registry) {
    if process::is_worker() {
        process::run(registry);
    }
}
