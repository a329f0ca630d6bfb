//! Controls a run that is under way.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::base::ids::StepId;
use crate::base::lock::lock;
use crate::base::nearest::nearest;
use crate::driver::commands::{Command, Commander, ControlError};
use crate::router::{Cancelled, ControlRequest, Refusal, Stop};
use crate::sinks::quarantine;
use crate::sinks::quarantine::{LockError, Taken};
use crate::status::stream::Stream;

/// How long to wait for the router's answer. It comes within microseconds; in the sequential mode,
/// between two messages.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for an entry whose failure was published: it is written a moment later.
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Controls a run from any thread. Clones control the same run.
#[derive(Clone)]
pub struct Control {
    pub(super) commander: Commander,
    pub(super) cancelled: Arc<AtomicBool>,
    /// The names of the steps, in the order of the plan.
    pub(super) steps: Arc<[String]>,
    /// Where the failed inputs of the run are kept.
    pub(super) quarantine: PathBuf,
    /// Set when the first failed input is tried again.
    pub(super) taken: Arc<Mutex<Option<Taken>>>,
    pub(super) stream: Stream,
}

/// Why a run refused a request. Nothing has changed then, except after [`SteerError::NoAnswer`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SteerError {
    /// There is no such step.
    #[error(
        "there is no step {name:?}: the steps are {}{}",
        steps.join(", "), hint(name, steps.iter().map(String::as_str))
    )]
    UnknownStep {
        /// The name that was given.
        name: String,
        /// The names of the steps.
        steps: Vec<String>,
    },
    /// There is no such failed input.
    #[error(
        "there is no failed input {entry:?} of this run in {}{}",
        quarantine.display(), hint(entry, entries.iter().map(String::as_str))
    )]
    UnknownEntry {
        /// The name that was given.
        entry: String,
        /// The directory of the run's failed inputs.
        quarantine: PathBuf,
        /// The latest entries of the run.
        entries: Vec<String>,
    },
    /// The run cannot do it, or cannot do it now.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The failed input cannot be read, or another program tries it again.
    #[error("{0}")]
    UnusableEntry(String),
    /// The system has no room for more workers.
    #[error("the system refuses more workers: {0}")]
    NoRoom(io::Error),
    /// The run is over.
    #[error("the run is over")]
    Ended,
    /// The run does not answer; it may still carry out the request later.
    #[error("the run has not answered within 10 s; it may still carry out the request later")]
    NoAnswer,
}

impl From<ControlError> for SteerError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Refused(refusal) => Self::Refused(refusal),
            ControlError::NoRoom(error) => Self::NoRoom(error),
        }
    }
}

impl Control {
    /// Stops the producers, and lets the run process what they have emitted.
    pub fn drain(&self) {
        self.commander.send(Command::Stop(Stop::Drain));
    }

    /// Stops at once: drops what is queued, and does not wait for what workers have in hand.
    pub fn stop_now(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.commander.send(Command::Stop(Stop::Now));
    }

    /// Stops at once for this reason: the run cannot go on.
    pub(super) fn abandon(&self, reason: String) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.commander.send(Command::Abandon(reason));
    }

    /// Drains the run, because its caller has gone for this reason.
    ///
    /// # Errors
    /// If something is lost by that, or the run has ended.
    pub(super) fn caller_gone(&self, reason: String) -> Result<(), SteerError> {
        self.request(ControlRequest::CallerGone { reason })
    }

    /// Pauses a step or, without a name, the whole run: nothing new is begun, and workers finish
    /// what they have in hand. A paused run does not end.
    ///
    /// # Errors
    /// If the step is unknown, or the run is stopping or has ended.
    pub fn pause(&self, step: Option<&str>) -> Result<(), SteerError> {
        let step = step.map(|name| self.step(name)).transpose()?;
        self.request(ControlRequest::Pause { step })
    }

    /// Resumes after [`Control::pause`].
    ///
    /// # Errors
    /// If the step is unknown, the whole run is paused, or the run has ended.
    pub fn resume(&self, step: Option<&str>) -> Result<(), SteerError> {
        let step = step.map(|name| self.step(name)).transpose()?;
        self.request(ControlRequest::Resume { step })
    }

    /// Sets the number of the step's workers, for the rest of the run. New workers are threads or
    /// processes like the others. A worker that leaves finishes first, and emits what it has
    /// gathered.
    ///
    /// # Errors
    /// If the step is unknown, is a producer, has a class that allows one worker only, or has
    /// finished; if the number is not 1 to 256; in the sequential mode.
    pub fn set_workers(&self, step: &str, workers: usize) -> Result<(), SteerError> {
        let step = self.step(step)?;
        self.request(ControlRequest::SetWorkers { step, workers })
    }

    /// Gives up all that descends from this origin: what waits is dropped. If a worker has something
    /// of it in hand, that is done only if it may be `running`: what the worker makes of it is not
    /// taken, and a worker process is ended. What a step has gathered stays.
    ///
    /// # Errors
    /// If nothing of it is under way, or it is running and may not be.
    pub fn cancel(&self, origin: &str, running: bool) -> Result<Cancelled, SteerError> {
        let origin = origin.to_owned();
        self.ask(ControlRequest::Cancel { origin, running }).map(Option::unwrap_or_default)
    }

    /// Tries a failed input of this run again, from the step at which it failed. Its quarantine
    /// entry is removed when the run has done everything.
    ///
    /// # Errors
    /// If there is no such entry, it was tried again already, or its step has finished.
    pub fn retry(&self, entry: &str) -> Result<(), SteerError> {
        let place = self.entry(entry)?;
        self.take(&place).map_err(|error| SteerError::UnusableEntry(error.to_string()))?;
        let (reason, payload) = quarantine::read_entry(&place)
            .map_err(|error| SteerError::UnusableEntry(error.to_string()))?;
        let step = self.step(&reason.step)?;
        let (entry, origin) = (entry.to_owned(), reason.origin.map(Into::into));
        self.request(ControlRequest::Requeue { step, entry, origin, payload })
    }

    /// The names of the steps, in the order of the plan.
    pub fn steps(&self) -> &[String] {
        &self.steps
    }

    /// The directory of the failed inputs of the run. It exists only if there are any.
    pub fn quarantine(&self) -> &Path {
        &self.quarantine
    }

    /// Keeps other programs from trying the same inputs again.
    fn take(&self, entry: &Path) -> Result<(), LockError> {
        let mut taken = lock(&self.taken);
        if taken.is_none() {
            *taken = Some(Taken::of([entry])?);
        }
        Ok(())
    }

    /// Finds the directory of an entry. It is written a moment after the failure is published.
    fn entry(&self, entry: &str) -> Result<PathBuf, SteerError> {
        let place = self.quarantine.join(entry);
        let is_name = !entry.is_empty() && !entry.contains(['/', '\\']) && !entry.starts_with('.');
        if is_name && place.is_dir() {
            return Ok(place);
        }
        let failures = self.stream.status().failures;
        let published: Vec<&str> =
            failures.iter().filter_map(|line| line.entry.as_deref()).collect();
        let start = Instant::now();
        while published.contains(&entry) && start.elapsed() < WRITTEN_WITHIN {
            if place.is_dir() {
                return Ok(place);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Err(SteerError::UnknownEntry {
            entry: entry.to_owned(),
            quarantine: self.quarantine.clone(),
            entries: published.into_iter().map(str::to_owned).collect(),
        })
    }

    fn step(&self, name: &str) -> Result<StepId, SteerError> {
        let found = self.steps.iter().position(|step| step == name).map(StepId::at);
        found.ok_or_else(|| SteerError::UnknownStep {
            name: name.to_owned(),
            steps: self.steps.to_vec(),
        })
    }

    fn request(&self, request: ControlRequest) -> Result<(), SteerError> {
        self.ask(request).map(drop)
    }

    fn ask(&self, request: ControlRequest) -> Result<Option<Cancelled>, SteerError> {
        let (answer, answered) = mpsc::channel();
        self.commander.send(Command::Control(request, answer));
        match answered.recv_timeout(PATIENCE) {
            Ok(result) => Ok(result?),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(SteerError::Ended),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(SteerError::NoAnswer),
        }
    }
}

fn hint<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    nearest(name, names).map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default()
}
