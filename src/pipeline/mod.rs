//! Runs of a plan: start one, watch it, stop it, read what became of it.

mod builder;
mod control;
mod execution;
mod launch;
mod lifecycle;
mod overlap;
mod private_directory;
mod report;
mod retry;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::base::{redact, scratch};
use crate::codec::CodecId;
use crate::config;
use crate::config::{About, Setting, Unusable, Wanted};
use crate::driver::commands::{Command, Commander, commands};
use crate::event::Event;
use crate::plan::Plan;
use crate::plan::assemble::Loaded;
use crate::plan::diagnostic::{ConfigError, Diagnostic};
use crate::python::{BundledPackage, Questions};
use crate::router::Batching;
use crate::sinks::RunSinks;
use crate::sinks::journal::{Journal, Owner};
use crate::sinks::quarantine::{QuarantineWriter, Retried};
use crate::sinks::trace::Trace;
use crate::stage::registry::Registry;
use crate::status::stream::Stream;
use crate::transport::TransportError;
use crate::worker::process;

use execution::Execution;
use lifecycle::{LastWord, opened, run_name};
use private_directory::{LONGEST_PRIVATE, PrivateDirectory};

pub use crate::event::{Report, StepReport, Verdict};
pub use crate::sinks::journal::JournalError;
pub use builder::Builder;
pub use control::{Control, SteerError};

/// How the workers of a run are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Every worker on a thread or in a process of its own, as the plan says.
    #[default]
    Threads,
    /// Every worker on one thread, one message after the other: the same
    /// results, in the same order every time. Steps in Python and steps with a
    /// `timeout` or a `memory_limit` keep one worker process each.
    Sequential,
}

/// A checked pipeline, ready to run.
pub struct Pipeline {
    pub(crate) plan: Plan,
    warnings: Vec<Diagnostic>,
    retried: Retried,
    journal: Option<JournalFile>,
    /// For steps in Python.
    carried: Option<BundledPackage>,
    /// The program's arguments.
    command: Vec<String>,
    /// The configuration file without its ending; none if a program made the pipeline.
    file: Option<String>,
    trace: Option<PathBuf>,
    drain_limit: Duration,
}

/// What is begun has this time to end, if nobody says otherwise.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// Which journal a run has.
struct JournalFile {
    path: PathBuf,
    resume: bool,
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
    /// The system refused a thread, a file descriptor or memory.
    #[error(
        "the system refused a thread, a file descriptor or memory: {0}; the limits are those of \
         ulimit -u, ulimit -n and ulimit -v"
    )]
    System(#[from] std::io::Error),
    /// There is no place for what worker processes share.
    #[error(
        "no private directory for the worker processes: {0}; set TMPDIR to a directory of less \
         than {LONGEST_PRIVATE} bytes that can be written to"
    )]
    NoPrivateDirectory(std::io::Error),
    /// This process is a worker of another run.
    #[error(
        "this process was started as a worker and must not start worker processes itself: main \
         must call drpipe::pipeline::serve_worker first"
    )]
    InWorker,
    /// The file named by [`Pipeline::set_journal`] cannot serve; nothing was run.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The file named by [`Pipeline::set_trace`] cannot be written; nothing was run.
    #[error("cannot write the trace {}: {error}; name another file with --trace FILE", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The router's socket failed.
    #[error("{0}")]
    Transport(String),
    /// A fault of drpipe itself.
    #[error("internal error: the run's thread panicked")]
    Panicked,
}

impl From<TransportError> for RunError {
    fn from(error: TransportError) -> Self {
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
        let directory = path.parent().unwrap_or(path);
        let file = path.display().to_string();
        Self::read(&String::from_utf8_lossy(&bytes), &file, directory, registry, settings)
    }

    /// As [`Pipeline::load`], of a text that messages call `file`. Modules in Python are looked
    /// for in `directory` too.
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
        let mut carried = None;
        let mut describe = |wanted: &[Wanted]| {
            let also_in = vec![PathBuf::from("."), directory.to_owned()];
            match carried.insert(BundledPackage::unpack()) {
                Ok(carried) => Questions { carried, also_in }.describe(wanted),
                Err(error) => wanted.iter().map(|_| Err(nowhere(error))).collect(),
            }
        };
        let name = Path::new(file).file_stem().filter(|_| file != "<stdin>" && file != "-");
        let name = name.map(|name| name.to_string_lossy().into_owned());
        let mut loaded = config::load_with(text, file, registry, settings, &mut describe)?;
        loaded.warnings.extend(overlap::warnings(&loaded.plan));
        Ok(Self { carried: carried.and_then(Result::ok), file: name, ..Self::of(loaded) })
    }

    fn of(loaded: Loaded) -> Self {
        let Loaded { plan, warnings } = loaded;
        Self {
            plan,
            warnings,
            retried: Retried::default(),
            journal: None,
            carried: None,
            command: Vec::new(),
            file: None,
            trace: None,
            drain_limit: DRAIN_LIMIT,
        }
    }

    /// The interpreters of the steps in Python, and the script that they run.
    pub(crate) fn interpreters(&self) -> Option<(BTreeSet<&Path>, PathBuf)> {
        let pythons = self.plan.steps.iter().filter_map(|step| step.python.as_ref());
        let interpreters = pythons.map(|python| python.interpreter.as_path()).collect();
        Some((interpreters, self.carried.as_ref()?.main()))
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
        self.plan.options.quarantine.value = directory;
    }

    /// Gives the steps that end the pipeline their messages in the order in which they
    /// would come with one worker a step: by the number of the producer's message that they
    /// descend from, and of several with the same by the order of emission. Each gets one
    /// message at a time, and only when everything that belongs before it is there. A message
    /// that failed for good holds nothing up; one that is tried again does. What `finish`
    /// emits comes last. Without it, results come as they are ready.
    pub fn set_ordered(&mut self, ordered: bool) {
        self.plan.options.ordered.value = ordered;
    }

    /// Makes every step take MessagePack, whatever the plan has chosen.
    pub(crate) fn take_messagepack(&mut self) {
        self.plan.steps.iter_mut().for_each(|step| step.codec = CodecId::MessagePack);
    }

    /// Records in the file `path` what becomes of each item of the producer, step
    /// by step. With `resume`, what the file has as done is not done again.
    ///
    /// An item is what the producer emits with an origin ([`crate::stage::data::Data::origin`]), and all
    /// that descends from it. It is done if every message of it is, at every step;
    /// what failed, what was in flight when a run ended in whatever way, and what
    /// reached a step that gathers ([`crate::stage::Stage::STATEFUL`]) is done again, as is every item
    /// after a run with other steps, parameters or routes, and every origin that is a file
    /// whose size or time of modification has changed. Of messages with the same
    /// origin as many are skipped as are done, in the order of production: the
    /// producer must emit them in the same order each time.
    ///
    /// The file is made if it is missing, and locked for as long as the run lasts.
    /// The journal knows nothing of the products: whoever removes one has to do without
    /// `resume`. Of a pipeline that was put together by a [`Builder`], parameters are
    /// not known: that they are the same is the caller's to see to.
    pub fn set_journal(&mut self, path: impl Into<PathBuf>, resume: bool) {
        self.journal = Some(JournalFile { path: path.into(), resume });
    }

    /// Writes into the file `path` when each message waited and ran, step by step and
    /// worker by worker, as JSON that Perfetto and chrome://tracing show.
    ///
    /// The run never waits for the file: what finds no room in memory is left out, and
    /// how much that is stands at the file's end.
    pub fn set_trace(&mut self, path: impl Into<PathBuf>) {
        self.trace = Some(path.into());
    }

    /// How long the end of the run waits for what worker processes do after their last
    /// message: for threads and exit functions of steps in Python, say. 60 s unless it is set.
    pub fn set_drain_limit(&mut self, limit: Duration) {
        self.drain_limit = limit;
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// If the run cannot be started or has to be given up. That inputs failed
    /// is no error: the report says so.
    pub fn run(self, mode: Mode) -> Result<Report, RunError> {
        self.start(mode)?.wait()
    }

    /// Says by which command the run was asked for: those who watch it see that, but for the
    /// values of options and settings that are called a token, a password or a secret.
    pub fn set_command(&mut self, arguments: impl IntoIterator<Item = String>) {
        self.command = redact::command(arguments);
    }

    /// Starts a run in the background.
    ///
    /// # Errors
    /// If the system refuses a thread or a file descriptor, or the journal cannot serve.
    pub fn start(self, mode: Mode) -> Result<Handle, RunError> {
        let run = run_name();
        let mut plan = self.plan;
        let place = match mode {
            Mode::Sequential if plan.needs_processes() => {
                plan.give_each_one_worker();
                Placing::OneByOne
            }
            Mode::Sequential => Placing::Here,
            Mode::Threads => Placing::AtOnce,
        };
        let plan = Arc::new(plan);
        let in_processes = place != Placing::Here && plan.has_processes();
        if in_processes && process::is_worker() {
            return Err(RunError::InWorker);
        }
        scratch::sweep();
        let private = in_processes.then(PrivateDirectory::make).transpose()?;
        let (commander, commands) = commands()?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let journal_file = self.journal.as_ref().map(|file| file.path.clone());
        let halter = commander.clone();
        let halt = move |reason| halter.send(Command::Halt(reason));
        let keeper = QuarantineWriter::new(&plan, &run, self.retried, halt);
        let trace = self.trace.map(|path| begin_trace(path, &plan)).transpose()?;
        let stream = Stream::new();
        let last_word = LastWord(stream.clone());
        let open = |file: JournalFile| open(&file, &run, &plan, &commander, &stream);
        let (journal, journalist) = self.journal.map(open).transpose()?.unzip();
        let sequential = place != Placing::AtOnce;
        let opened = opened(&run, &plan, self.file, sequential, journal_file, self.command);
        stream.tell(Event::Opened(Box::new(opened)));
        let control = Control {
            commander: commander.clone(),
            cancelled: Arc::clone(&cancelled),
            steps: plan.steps.iter().map(|step| step.name.clone()).collect(),
            quarantine: plan.options.quarantine.join(&run),
            taken: Arc::default(),
            stream: stream.clone(),
        };
        let mut sinks = RunSinks::new(stream.clone(), keeper, journal);
        sinks.set_trace(trace);
        let execution = Execution {
            sinks,
            run,
            plan,
            commander: commander.clone(),
            commands,
            cancelled: Arc::clone(&cancelled),
            private,
            mode,
            bundled: self.carried,
            patience: self.drain_limit,
        };
        let thread = std::thread::Builder::new().name("router".into()).spawn(move || {
            let result = match place {
                Placing::AtOnce => execution.threads(Batching::Adaptive),
                Placing::OneByOne => execution.threads(Batching::OneByOne),
                Placing::Here => Ok(execution.sequential()),
            };
            last_word.say(&result);
            if let Some(journalist) = journalist {
                // It catches nothing and has nothing to give: a panic of it costs the
                // last events in the journal.
                let _: Result<(), _> = journalist.join();
            }
            result
        })?;
        Ok(Handle { control, stream, thread })
    }
}

/// Where the workers of a run are, and how many of them are at work at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Placing {
    /// On threads and in processes of their own, all of them.
    AtOnce,
    /// On threads and in processes of their own, one of them.
    OneByOne,
    /// On the run's thread.
    Here,
}

/// There is no room for the package that steps in Python need.
fn nowhere(error: &std::io::Error) -> Unusable {
    Unusable {
        about: About::Module,
        message: format!("the package for steps in Python cannot be unpacked: {error}"),
        hint: "set XDG_CACHE_HOME or TMPDIR to a directory that can be written to".to_owned(),
    }
}

/// A journal that fails while the run is under way ends production: what it does not
/// say would be done again without need, or, worse, believed not to be there.
fn open(
    file: &JournalFile,
    run: &str,
    plan: &Plan,
    commander: &Commander,
    stream: &Stream,
) -> Result<(Journal, JoinHandle<()>), JournalError> {
    let owner = Owner { run, config_hash: &plan.config_hash, work_hash: &plan.work_hash };
    let commander = commander.clone();
    let halt = move |reason| commander.send(Command::Halt(reason));
    Journal::open(&file.path, &owner, file.resume, stream, halt)
}

fn begin_trace(path: PathBuf, plan: &Plan) -> Result<Trace, RunError> {
    let steps = plan.steps.iter().map(|step| step.name.as_str().into()).collect();
    Trace::begin(&path, steps).map_err(|error| RunError::Trace { path, error })
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
    /// If the run had to be given up.
    pub fn wait(self) -> Result<Report, RunError> {
        self.thread.join().map_err(|_| RunError::Panicked)?
    }
}

/// Runs this process as a worker and ends it, if it was started as one;
/// otherwise does nothing. A program that loads pipelines with worker processes
/// calls it first thing in `main`, with the registry that it loads them with
/// ([`cli::Cli`](crate::cli::Cli) does so by itself): worker processes are the
/// program itself, started anew.
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
