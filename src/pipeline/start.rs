//! Starts a run.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};

use super::ahead::Ahead;
use super::execution::{Execution, Placing};
use super::feed::Feeding;
use super::first_event::opened;
use super::last_event::LastEvent;
use super::options::{JournalFile, Options};
use super::private_directory::PrivateDirectory;
use super::run_name::run_name;
use super::{Control, Handle, Mode, Pipeline, Report, RunError};
use crate::base::scratch;
use crate::driver::commands::{Command, Commander, Commands, commands};
use crate::event::Event;
use crate::plan::Plan;
use crate::sinks::Sinks;
use crate::sinks::journal::{Journal, JournalError, Opened, Owner};
use crate::sinks::quarantine::{QuarantineWriter, Retried};
use crate::sinks::trace::Trace;
use crate::status::stream::Stream;
use crate::worker::process;

impl Pipeline {
    /// Runs to the end.
    ///
    /// # Errors
    /// If the run cannot start or cannot go on. Failed inputs are not an error; the report lists
    /// them.
    pub fn run(self, mode: Mode) -> Result<Report, RunError> {
        self.start(mode)?.wait()
    }

    /// Starts a run in the background.
    ///
    /// # Errors
    /// If the system refuses a thread or a file descriptor, or the journal cannot serve.
    pub fn start(self, mode: Mode) -> Result<Handle, RunError> {
        let is_attached = self.options.caller.is_some();
        if let Some(step) = self.plan.steps.iter().find(|step| step.is_open && !is_attached) {
            return Err(RunError::NoCaller { step: step.name.clone() });
        }
        if let Some(step) = self.plan.steps.iter().find(|step| step.feed && !step.is_open) {
            return Err(RunError::NotFed { step: step.name.clone() });
        }
        self.begin(mode, commands()?, None)
    }

    /// Starts a run in the background, with a feed if this program is one.
    pub(super) fn begin(
        self,
        mode: Mode,
        (commander, commands): (Commander, Commands),
        feeding: Option<Feeding>,
    ) -> Result<Handle, RunError> {
        let run = run_name();
        let Self { mut plan, retried, mut options, bundled, ahead, .. } = self;
        let caller = options.caller.take();
        let placing = place(&mut plan, mode);
        let plan = Arc::new(plan);
        let name = ahead.as_ref().map(Ahead::private);
        let private = private_directory(&plan, placing, name)?;
        let directory = private.as_ref().map(PrivateDirectory::path);
        let interpreters = ahead.map(|ahead| ahead.into_interpreters(directory, &plan));
        let cancelled = Arc::new(AtomicBool::new(false));
        let stream = Stream::new();
        let last_event = LastEvent(stream.clone());
        let (sinks, journal) = sinks(&run, &plan, retried, &options, &commander, &stream)?;
        let patience = options.drain_limit;
        let opened = opened(&run, &plan, options, placing != Placing::AtOnce);
        stream.publish(Event::Opened(Box::new(opened)));
        let control = Control {
            commander: commander.clone(),
            cancelled: Arc::clone(&cancelled),
            steps: plan.steps.iter().map(|step| step.name.clone()).collect(),
            quarantine: plan.options.quarantine.join(&run),
            taken: Arc::default(),
            stream: stream.clone(),
        };
        let (opening, open) = mpsc::channel::<()>();
        let (port, end_of_feed) = feeding.map(|Feeding { port, end }| (port, end)).unzip();
        let execution = Execution {
            opening,
            run,
            plan,
            sinks,
            commander,
            commands,
            cancelled,
            private,
            caller: caller.map(|caller| (caller, control.clone())),
            feed: port,
            mode,
            bundled,
            interpreters,
            patience,
        };
        let thread = Builder::new().name("router".into()).spawn(move || {
            let result = execution.run(placing);
            last_event.publish(&result);
            if let Some(end) = end_of_feed {
                end.tell(&result);
            }
            if let Some(journal) = journal {
                // A panic of the journal's thread costs the last events in the journal only.
                let _ = journal.join();
            }
            result
        })?;
        // Until the sockets are open this thread starts no others: libzmq aborts the program if it
        // gets no thread. Nothing is sent; the sender goes.
        let _ = open.recv();
        Ok(Handle { control, stream, thread })
    }
}

/// Decides where the workers of a run are.
fn place(plan: &mut Plan, mode: Mode) -> Placing {
    match mode {
        Mode::Sequential if plan.needs_processes() => {
            plan.give_each_one_worker();
            Placing::OneByOne
        }
        Mode::Sequential => Placing::Here,
        Mode::Threads => Placing::AtOnce,
    }
}

fn private_directory(
    plan: &Plan,
    placing: Placing,
    name: Option<&Path>,
) -> Result<Option<PrivateDirectory>, RunError> {
    let has_processes = placing != Placing::Here && plan.has_processes();
    if has_processes && process::is_worker() {
        return Err(RunError::InWorker);
    }
    scratch::sweep();
    let made = has_processes.then(|| PrivateDirectory::make(name));
    made.transpose().map_err(RunError::NoPrivateDirectory)
}

/// Opens everything that the run writes. Also returns the journal's thread, to be waited for after
/// the last event.
fn sinks(
    run: &str,
    plan: &Plan,
    retried: Retried,
    options: &Options,
    commander: &Commander,
    stream: &Stream,
) -> Result<(Sinks, Option<JoinHandle<()>>), RunError> {
    let mut sinks = Sinks::new(stream.clone());
    if let Some(path) = &options.trace {
        sinks.add(begin_trace(path, plan)?);
    }
    sinks.add(QuarantineWriter::new(plan, run, retried, halt(commander)));
    let Some(file) = &options.journal else { return Ok((sinks, None)) };
    let Opened { journal, skip, thread } = open_journal(file, run, plan, commander, stream)?;
    sinks.set_skip(skip);
    sinks.add(journal);
    Ok((sinks, Some(thread)))
}

/// Ends production, with a reason.
fn halt(commander: &Commander) -> impl Fn(String) + Send + Sync + use<> {
    let commander = commander.clone();
    move |reason| commander.send(Command::Halt(reason))
}

fn begin_trace(path: &Path, plan: &Plan) -> Result<Trace, RunError> {
    let steps = plan.steps.iter().map(|step| step.name.as_str().into()).collect();
    Trace::begin(path, steps).map_err(|error| RunError::Trace { path: path.to_owned(), error })
}

/// A journal that fails during the run ends production: items that it does not record would be
/// processed again for nothing or, worse, taken as missing.
fn open_journal(
    file: &JournalFile,
    run: &str,
    plan: &Plan,
    commander: &Commander,
    stream: &Stream,
) -> Result<Opened, JournalError> {
    let owner = Owner { run, config_hash: &plan.config_hash, work_hash: &plan.work_hash };
    Journal::open(&file.path, &owner, file.resume, stream, halt(commander))
}
