//! The options of a pipeline, set before it runs.

use std::path::PathBuf;
use std::time::Duration;

use super::Pipeline;
use super::caller::Caller;
use crate::base::redact;
use crate::codec::CodecId;

/// How long the end of a run waits for worker processes, unless the caller says otherwise.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// The options that are not part of the plan.
pub(super) struct Options {
    pub(super) journal: Option<JournalFile>,
    pub(super) trace: Option<PathBuf>,
    pub(super) drain_limit: Duration,
    /// The program's arguments.
    pub(super) command: Vec<String>,
    /// The configuration file without its ending; none if a program made the pipeline.
    pub(super) file: Option<String>,
    /// The program that provides the workers of open steps.
    pub(super) caller: Option<Caller>,
}

/// The journal of a run.
pub(super) struct JournalFile {
    pub(super) path: PathBuf,
    /// Whether to skip the items that it records as done.
    pub(super) resume: bool,
}

impl Default for Options {
    fn default() -> Self {
        let (journal, trace, command, file) = (None, None, Vec::new(), None);
        Self { journal, trace, drain_limit: DRAIN_LIMIT, command, file, caller: None }
    }
}

impl Pipeline {
    /// Keeps failed inputs under `directory`.
    pub fn set_quarantine(&mut self, directory: PathBuf) {
        self.plan.options.quarantine.value = directory;
    }

    /// Gives the steps that end the pipeline their messages in the order in which they would
    /// come with one worker a step: by the number of the producer's message that they descend
    /// from, and several with the same number in the order of emission. Each of these steps gets
    /// one message at a time, and only when everything that belongs before it has come. A
    /// message that failed for good holds nothing up; one that is tried again does. What
    /// `finish` emits comes last. Without this, results come as they are ready.
    pub fn set_ordered(&mut self, ordered: bool) {
        self.plan.options.ordered.value = ordered;
    }

    /// Makes every step take MessagePack, whatever the plan has chosen.
    pub(crate) fn take_messagepack(&mut self) {
        self.plan.steps.iter_mut().for_each(|step| step.codec = CodecId::MessagePack);
    }

    /// Lets this program provide the workers of open steps.
    pub(crate) fn attach(&mut self, caller: Caller) {
        self.options.caller = Some(caller);
    }

    /// Records in the file `path` what becomes of each item of the producer, step by step. With
    /// `resume`, the run skips the items that the file records as done.
    ///
    /// An item is what the producer emits with an origin
    /// ([`Data::origin`](crate::stage::data::Data::origin)), and all that descends from it. It is
    /// done if every message of it is done at every step. The run does an item again if it
    /// failed, was in flight when a run ended in whatever way, or reached a step that gathers
    /// ([`Stage::STATEFUL`](crate::stage::Stage::STATEFUL)); also after a run with other steps,
    /// parameters or routes, if its origin is a file whose size or time of modification has
    /// changed, and if a product of it is missing or has another size. Of messages with the same
    /// origin it skips as many as are done, in the order of production: the producer must emit
    /// them in the same order each time.
    ///
    /// The file is created if it is missing, and locked for as long as the run lasts. The
    /// parameters of a pipeline that a [`Builder`](super::Builder) made are not known to it: the
    /// caller must resume only with the same ones.
    pub fn set_journal(&mut self, path: impl Into<PathBuf>, resume: bool) {
        self.options.journal = Some(JournalFile { path: path.into(), resume });
    }

    /// Writes to the file `path` when each message waited and ran, step by step and worker by
    /// worker, as JSON that Perfetto and chrome://tracing show.
    ///
    /// The run never waits for the file: it leaves out what finds no room in memory, and the end of
    /// the file says how much that was.
    pub fn set_trace(&mut self, path: impl Into<PathBuf>) {
        self.options.trace = Some(path.into());
    }

    /// Sets how long the end of the run waits for what worker processes do after their last
    /// message, such as threads and exit functions of steps in Python. The default is 60 s.
    pub fn set_drain_limit(&mut self, limit: Duration) {
        self.options.drain_limit = limit;
    }

    /// Sets the command that started the run, which watchers of the run see, but without the values
    /// of options and settings whose names end in token, password or secret.
    pub fn set_command(&mut self, arguments: impl IntoIterator<Item = String>) {
        self.options.command = redact::command(arguments);
    }
}
