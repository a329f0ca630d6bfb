//! The journal: what became of each item, kept in a file so that a later run can continue where
//! this one ended, whatever the reason.
//!
//! - `store`: the file, an SQLite database; `schema`: its tables
//! - `trust`: what it must satisfy before it is trusted
//! - `event_log`: the events of the run that are kept
//! - `skip`: skips what earlier runs have done
//! - `read`: reads a journal that no run writes to
//! - `lineage`: what became of an input, and where a product came from
//! - `previous`: what earlier runs recorded, and what follows for each item
//!
//! What a producer emits passes [`SkipCompleted`] before the router sees it; the router's records
//! of each item go to the [`Journal`]. A thread of its own writes, so that a slow disk does not
//! hold up the router. The file is always slightly behind the run: after a kill, the next run does
//! a few items again, and never misses one.

mod error;
mod event_log;
pub(crate) mod lineage;
mod previous;
pub(crate) mod read;
mod schema;
mod skip;
mod store;
mod trust;

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{JoinHandle, Thread};
use std::vec::Drain;

use super::{Finished, Needs, RunEnd, Sink};
use crate::base::path_name::path_of_name;
use crate::router::Record;
use crate::status::stream::Stream;
pub use error::JournalError;
use event_log::EventLog;
use store::Store;

pub(crate) use skip::SkipCompleted;

/// The most records that wait to be written. Beyond that the router waits for the disk: a lost
/// record would mean that an item is done again for nothing.
const MAX_WAITING: usize = 16 * 1024;
/// The number of entries after which the writer is woken; fewer wait for the next commit, because
/// each wake takes the processor from the stages.
const WAKE_EVERY: u32 = 1000;

/// The run that writes the journal.
pub(crate) struct Owner<'a> {
    pub(crate) run: &'a str,
    pub(crate) config_hash: &'a str,
    pub(crate) work_hash: &'a str,
}

/// The journal of a run that is under way.
pub(crate) struct Journal {
    queue: Queue,
    /// The result of writing.
    written: mpsc::Receiver<Result<(), String>>,
}

/// A journal that was opened for a run.
pub(crate) struct Opened {
    pub(crate) journal: Journal,
    /// Skips what earlier runs have done, and records what the run begins. The journal needs it.
    pub(crate) skip: SkipCompleted,
    /// The writer's thread, which ends only after the last event of the run's stream.
    pub(crate) thread: JoinHandle<()>,
}

/// The sending end of the queue to the writer's thread.
#[derive(Clone)]
struct Queue {
    entries: mpsc::SyncSender<Entry>,
    writer: Thread,
    /// Whether the writer should write without waiting for more.
    at_once: Arc<AtomicBool>,
    /// Entries since the writer was last woken.
    unwritten: u32,
}

impl Queue {
    /// Sends an entry. Does nothing once the writer has failed; the writer itself reports that.
    fn send(&mut self, entry: Entry) {
        let _ = self.entries.send(entry);
        self.unwritten += 1;
        if self.unwritten == WAKE_EVERY {
            self.unwritten = 0;
            self.wake();
        }
    }

    fn wake(&self) {
        self.at_once.store(true, Ordering::Release);
        self.writer.unpark();
    }
}

/// An entry for the writer.
enum Entry {
    /// The producer has emitted a message of this item, and it is not skipped.
    Begun {
        origin: Arc<str>,
        /// The number of its messages that earlier runs did.
        done: u32,
        file: Option<FileState>,
    },
    Record(Record),
    /// A stage has made a file.
    Product {
        origin: Option<Arc<str>>,
        step: Arc<str>,
        path: PathBuf,
    },
    /// The run has reached its end.
    Ended {
        verdict: &'static str,
    },
}

/// The properties that show whether a file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileState {
    size: i64,
    /// The time of its last modification, in nanoseconds since 1970.
    modified: i64,
}

impl FileState {
    /// Looks at the file that an origin names; none if it names no file.
    ///
    /// # Errors
    /// If the system refuses to answer.
    fn of(origin: &str) -> io::Result<Option<Self>> {
        let Some(metadata) = look(origin)?.filter(Metadata::is_file) else { return Ok(None) };
        let modified = metadata.mtime().saturating_mul(1_000_000_000);
        let modified = modified.saturating_add(metadata.mtime_nsec());
        Ok(Some(Self { size: size_of(&metadata), modified }))
    }
}

/// Looks up a file by its name in the journal; none if there is no such file.
///
/// # Errors
/// If the system refuses to answer.
fn look(name: &str) -> io::Result<Option<Metadata>> {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    match std::fs::metadata(path_of_name(name)) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) => match error.kind() {
            NotFound | NotADirectory | InvalidFilename | InvalidInput => Ok(None),
            _ => Err(error),
        },
    }
}

/// Looks up the size of a product; none if it is gone.
fn look_at_size(name: &str) -> io::Result<Option<i64>> {
    Ok(look(name)?.map(|metadata| size_of(&metadata)))
}

/// The size of a file in bytes, or -1 if it is not a file.
fn size_of(metadata: &Metadata) -> i64 {
    let size = metadata.is_file().then(|| i64::try_from(metadata.len()).unwrap_or(i64::MAX));
    size.unwrap_or(-1)
}

impl Journal {
    /// Opens the journal, or creates it, and records that a run begins. `failed` is called, on
    /// another thread, if writing fails later. The events of `stream` are kept up to the last one,
    /// which comes after the end of everything else: wait for the thread then.
    ///
    /// # Errors
    /// If the file cannot serve as the journal; it is then unchanged.
    pub(crate) fn open(
        path: &Path,
        owner: &Owner<'_>,
        resume: bool,
        stream: &Stream,
        failed: impl FnOnce(String) + Send + 'static,
    ) -> Result<Opened, JournalError> {
        let store = Store::open(path, owner)?;
        let past = if resume { Some(store.past(owner.work_hash)?) } else { None };
        let (entries, received) = mpsc::sync_channel(MAX_WAITING);
        let (answer, written) = mpsc::channel();
        let at_once = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            store,
            path: path.display().to_string(),
            received,
            at_once: Arc::clone(&at_once),
            events: EventLog::new(stream.watch()),
            answer,
        };
        let builder = std::thread::Builder::new().name("journal".into());
        let thread = builder.spawn(move || writer.run(failed)).map_err(|error| {
            let reason = format!("the system refused a thread: {error}");
            JournalError::Unusable { path: path.to_owned(), reason }
        })?;
        let queue = Queue { entries, writer: thread.thread().clone(), at_once, unwritten: 0 };
        let skip = SkipCompleted::new(queue.clone(), past);
        Ok(Opened { journal: Self { queue, written }, skip, thread })
    }
}

impl Sink for Journal {
    fn needs(&self) -> Needs {
        Needs { items: true, spans: false }
    }

    fn items(&mut self, records: Drain<'_, Record>) {
        records.for_each(|record| self.queue.send(Entry::Record(record)));
    }

    fn product(&mut self, step: &Arc<str>, item: Option<&Arc<str>>, path: &Path) {
        let (origin, step, path) = (item.cloned(), Arc::clone(step), path.to_owned());
        self.queue.send(Entry::Product { origin, step, path });
    }

    /// Waits until no sender is left, so the journal's [`SkipCompleted`] must be dropped first.
    fn finish(mut self: Box<Self>, end: &RunEnd<'_>) -> Finished {
        self.queue.send(Entry::Ended { verdict: end.verdict });
        self.queue.wake();
        let Self { queue, written } = *self;
        drop(queue);
        let lost = match written.recv() {
            Ok(result) => result.err(),
            Err(_) => Some("internal error: the journal's thread panicked".into()),
        };
        Finished { lost, quarantined: None }
    }
}

/// What the writer's thread needs.
struct Writer {
    store: Store,
    /// The journal's name in messages.
    path: String,
    received: mpsc::Receiver<Entry>,
    at_once: Arc<AtomicBool>,
    events: EventLog,
    answer: mpsc::Sender<Result<(), String>>,
}

impl Writer {
    fn run(self, failed: impl FnOnce(String)) {
        let Self { mut store, path, received, at_once, mut events, answer } = self;
        let result = store.write(&received, &at_once, &mut events).map_err(|error| {
            let advice = if trust::is_damage(&error) {
                "it is damaged: restore an intact copy, or name another file with --journal"
            } else {
                "what it holds is valid: free some space, then continue with --resume"
            };
            format!("the journal {path} cannot be written: {error}; {advice}")
        });
        if let Err(reason) = &result {
            failed(reason.clone());
        }
        let is_whole = result.is_ok();
        // The receiver is gone if the run could not begin.
        let _ = answer.send(result);
        if is_whole {
            // If this fails, only the last events are missing, and the run has ended.
            let _ = store.write_rest(&mut events);
        }
    }
}
