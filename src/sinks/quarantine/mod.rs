//! The quarantine: failed inputs, kept so that they can be tried again.
//!
//! The sink writes an `entry` for each of them, in `DIRECTORY/RUN/ENTRY/`. `entries` finds and
//! removes entries, `history` knows those that an input had before, `lock` keeps two retries of
//! a quarantine apart, and `pickles` says which entries it is safe to load.

mod entries;
mod entry;
mod error;
mod history;
mod lock;
mod pickles;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use super::{Finished, RunEnd, Sink};
use crate::codec::CodecId;
use crate::message::Payload;
use crate::plan::Plan;
use crate::router::FailedInput;

pub(crate) use entries::{find, remove};
pub(crate) use entry::{Contents, Entry, Reason, read_payload, read_reason};
use error::EntryError;
pub(crate) use history::Retried;
pub(crate) use lock::{LockError, Taken};
pub(crate) use pickles::is_pickle;

/// The most failed inputs that wait to be written. Beyond that the router waits for the disk: no
/// input may be lost, and payloads may be large.
const MAX_WAITING: usize = 16;

/// Keeps the failed inputs of one run, on a thread of its own, so that a slow disk does not hold
/// the router up. The thread starts with the first of them.
pub(crate) struct QuarantineWriter {
    directory: QuarantineDirectory,
    writer: Option<Writer>,
    /// What was kept without the thread, if it could not start.
    kept: QuarantineSummary,
}

/// The run whose failed inputs are kept, and where.
#[derive(Clone)]
struct QuarantineDirectory {
    path: PathBuf,
    run: String,
    config_hash: String,
    /// The type that each step takes, and how it is serialized.
    inputs: Arc<BTreeMap<String, (&'static str, CodecId)>>,
    retried: Retried,
    /// Whether the run has created the directory, which is its own from then on.
    is_made: Arc<AtomicBool>,
    /// Ends production, because later failures could not be kept either.
    halt: Arc<dyn Fn(String) + Send + Sync>,
}

struct Writer {
    failed_inputs: mpsc::SyncSender<Arc<FailedInput>>,
    thread: JoinHandle<QuarantineSummary>,
}

/// What the writer has kept.
#[derive(Debug, Default)]
struct QuarantineSummary {
    /// The run's directory, if anything is in it.
    directory: Option<PathBuf>,
    count: u64,
    /// The first input that could not be kept, and why.
    error: Option<String>,
}

impl QuarantineSummary {
    fn keep(&mut self, directory: &QuarantineDirectory, failed_input: &FailedInput) {
        match directory.create().and_then(|()| directory.add(failed_input)) {
            Ok(()) => {
                self.count += 1;
                self.directory.get_or_insert_with(|| directory.path.clone());
            }
            Err(error) => {
                let path = directory.path.join(&failed_input.entry);
                let reason = format!("cannot keep a failed input in {}: {error}", path.display());
                if self.error.is_none() {
                    (directory.halt)(reason.clone());
                    self.error = Some(reason);
                }
            }
        }
    }

    /// Removes obsolete entries. An entry that cannot be removed stays.
    fn remove(&mut self, entries: &BTreeSet<String>) {
        let Some(directory) = &self.directory else { return };
        let removed = entries.iter().filter(|entry| remove(&directory.join(entry)).is_ok());
        self.count = self.count.saturating_sub(removed.count() as u64);
        if self.count == 0 {
            self.directory = None;
        }
    }

    fn add(mut self, other: QuarantineSummary) -> QuarantineSummary {
        self.count += other.count;
        self.directory = self.directory.or(other.directory);
        self.error = self.error.or(other.error);
        self
    }
}

impl QuarantineWriter {
    /// `halt` is called with the reason when an input cannot be kept.
    pub(crate) fn new(
        plan: &Plan,
        run: &str,
        retried: Retried,
        halt: impl Fn(String) + Send + Sync + 'static,
    ) -> Self {
        let inputs = plan
            .steps
            .iter()
            .filter_map(|step| Some((step.name.clone(), (step.input?, step.codec))));
        let directory = QuarantineDirectory {
            path: plan.options.quarantine.join(run),
            run: run.to_owned(),
            config_hash: plan.config_hash.clone(),
            inputs: Arc::new(inputs.collect()),
            retried,
            is_made: Arc::default(),
            halt: Arc::new(halt),
        };
        Self { directory, writer: None, kept: QuarantineSummary::default() }
    }

    /// Waits until everything is written.
    fn close(self) -> QuarantineSummary {
        let Some(Writer { failed_inputs, thread }) = self.writer else { return self.kept };
        drop(failed_inputs);
        let written = thread.join().unwrap_or_else(|_| QuarantineSummary {
            error: Some("the quarantine's thread panicked".into()),
            ..QuarantineSummary::default()
        });
        self.kept.add(written)
    }
}

impl Sink for QuarantineWriter {
    fn failed_input(&mut self, input: &Arc<FailedInput>) {
        if self.writer.is_none() {
            self.writer = start(self.directory.clone()).ok();
        }
        let is_sent = self
            .writer
            .as_ref()
            .is_some_and(|writer| writer.failed_inputs.send(Arc::clone(input)).is_ok());
        if !is_sent {
            self.kept.keep(&self.directory, input);
        }
    }

    fn finish(self: Box<Self>, end: &RunEnd<'_>) -> Finished {
        let mut kept = self.close();
        if end.is_complete && kept.error.is_none() {
            // They were tried again, and inputs that failed again have new entries.
            kept.remove(end.requeued);
        }
        let QuarantineSummary { directory, count, error } = kept;
        Finished { lost: error, quarantined: directory.map(|directory| (directory, count)) }
    }
}

fn start(directory: QuarantineDirectory) -> io::Result<Writer> {
    let (sender, receiver) = mpsc::sync_channel::<Arc<FailedInput>>(MAX_WAITING);
    let thread = std::thread::Builder::new().name("quarantine".into()).spawn(move || {
        let mut kept = QuarantineSummary::default();
        receiver.iter().for_each(|failed_input| kept.keep(&directory, &failed_input));
        kept
    })?;
    Ok(Writer { failed_inputs: sender, thread })
}

impl QuarantineDirectory {
    /// Creates the run's directory. If that succeeds, no other run has this name, here or on
    /// another machine. Later the directory may have been removed with its last entry.
    fn create(&self) -> io::Result<()> {
        if self.is_made.load(Ordering::Relaxed) {
            return fs::create_dir_all(&self.path);
        }
        let made = match fs::create_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.path.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::create_dir(&self.path)
            }
            made => made,
        };
        made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                let why =
                    format!("another run has the name {} too; start this one again", self.run);
                io::Error::other(why)
            }
            _ => error,
        })?;
        self.is_made.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn add(&self, failed_input: &FailedInput) -> io::Result<()> {
        let FailedInput { entry, payload, .. } = failed_input;
        entry::write(&self.path, entry, payload, &self.reason(failed_input)?)
    }

    fn reason(&self, failed_input: &FailedInput) -> io::Result<Reason> {
        let cause = serde_json::to_value(failed_input.cause)?;
        let input = self.inputs.get(&*failed_input.step);
        Ok(Reason {
            run: self.run.clone(),
            config_hash: self.config_hash.clone(),
            step: failed_input.step.to_string(),
            worker: failed_input.worker,
            origin: failed_input.origin.as_deref().map(str::to_owned),
            attempts: failed_input.attempt,
            cause: cause.as_str().unwrap_or_default().to_owned(),
            reason: failed_input.failure.chain().to_vec(),
            time: jiff::Timestamp::now().to_string(),
            bytes: failed_input.payload.len() as u64,
            buffers: Some(failed_input.payload.buffers.len()),
            input_type: input.map(|(name, _)| (*name).to_owned()),
            codec: input.map_or(CodecId::default(), |(_, codec)| *codec),
            retried_from: self.retried.history(failed_input),
        })
    }
}

/// Reads the record of a failed input, and the input itself.
///
/// # Errors
/// If the entry cannot be used.
pub(crate) fn read_entry(path: &Path) -> Result<(Reason, Payload), EntryError> {
    let contents = entry::read(path.to_owned()).contents?;
    is_pickle(path, &contents)?;
    let Contents { reason, buffer_bytes, .. } = contents;
    let payload = read_payload(path, buffer_bytes.len())?;
    Ok((reason, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(path: PathBuf) -> QuarantineDirectory {
        QuarantineDirectory {
            path,
            run: "20260101T000000Z-bnk3qx".into(),
            config_hash: String::new(),
            inputs: Arc::default(),
            retried: Retried::default(),
            is_made: Arc::default(),
            halt: Arc::new(|_| ()),
        }
    }

    /// As in two containers with one directory, started in the same instant.
    #[test]
    fn of_two_runs_of_one_name_the_second_is_refused() {
        let quarantine = tempfile::tempdir().unwrap();
        let path = quarantine.path().join("q/20260101T000000Z-bnk3qx");
        let (first, second) = (directory(path.clone()), directory(path.clone()));
        first.create().unwrap();
        let error = second.create().unwrap_err().to_string();
        assert!(error.contains("another run has the name"), "{error}");
        // A directory goes with its last entry, and is created again.
        fs::remove_dir(&path).unwrap();
        first.clone().create().unwrap();
        assert!(path.is_dir());
    }
}
