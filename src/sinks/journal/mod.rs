//! What became of each item, kept in a file so that a later run can go on
//! where this one ended, however it ended.
//!
//! - `store`: the file, an SQLite database
//! - `trust`: what it must be before it is believed
//! - `told`: the events of the run, as far as they are kept there
//! - `read`: what a journal says when no run writes into it
//! - `lineage`: what became of an input, and where a product came from
//! - `past`: what earlier runs left, and what follows from it for each item
//!
//! The driver hands in what a producer emitted before the router sees it
//! ([`Journal::skip_completed`]) and what the router says of each item
//! ([`Journal::record`]). A thread of its own writes, so that a slow disk does
//! not hold the router up. What is written is always behind what is done: a
//! run that is killed does a few items again, and never misses one.

mod event_log;
pub(crate) mod lineage;
mod previous;
pub(crate) mod read;
mod store;
mod trust;

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{JoinHandle, Thread};

use crate::base::path_name::path_of_name;
use crate::event::Event;
use crate::message::batch::Output;
use crate::router::Record;
use crate::status::stream::Stream;
use event_log::TellTale;
use previous::Past;
use store::Store;

/// Records that may wait to be written before the router waits too.
const MOST_WAITING: usize = 16 * 1024;
/// The writer is woken after so many entries, and else when it is time to.
const WAKE_EVERY: u32 = 1000;

/// Why a file cannot serve as the journal of a run.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be opened, made or written.
    #[error(
        "cannot use {} as the journal: {reason}; name a file in a directory that can be written \
         to with --journal FILE", path.display()
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// It is damaged, or made by somebody else.
    #[error(
        "the journal {} cannot be believed: {reason}; it is damaged, or not made by drpipe, and was \
         left as it is: take a copy that is whole, or name another file with --journal FILE, which \
         begins anew", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is something else.
    #[error(
        "{} is not a journal of drpipe but something else, and was left as it is; name another \
         file with --journal FILE", path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer drpipe has made it.
    #[error(
        "{} is a journal of version {found}, and this drpipe knows version {known}; use the newer \
         drpipe, or name another file with --journal FILE", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The version that this program writes.
        known: i64,
    },
    /// Another run writes into it.
    #[error(
        "the journal {} is in use by another run, or open in another program; wait until that has \
         ended, or name another file with --journal FILE", path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
}

/// Whose journal it is.
pub(crate) struct Owner<'a> {
    pub(crate) run: &'a str,
    pub(crate) config_hash: &'a str,
    pub(crate) work_hash: &'a str,
}

/// The journal of a run that is under way.
pub(crate) struct Journal {
    entries: mpsc::SyncSender<Entry>,
    writer: Thread,
    /// What became of the writing.
    written: mpsc::Receiver<Result<(), String>>,
    /// Whether the writer shall not wait for more.
    at_once: Arc<AtomicBool>,
    /// None unless what is done is to be skipped.
    past: Option<Past>,
    /// Entries since the writer was last woken.
    unwritten: u32,
    skipped: u64,
    warned: bool,
}

/// What the writer is told.
enum Entry {
    /// The producer has emitted a message of this item, which is to be processed.
    Begun {
        origin: Arc<str>,
        /// How many of its messages are done from earlier runs.
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

/// What tells that a file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileState {
    size: i64,
    /// The time of its last modification, in nanoseconds since 1970.
    modified: i64,
}

impl FileState {
    /// None if the origin is not the path of a file.
    ///
    /// # Errors
    /// Why it is not known whether it is.
    fn of(origin: &str) -> io::Result<Option<Self>> {
        let Some(metadata) = look(origin)?.filter(Metadata::is_file) else { return Ok(None) };
        let modified = metadata.mtime().saturating_mul(1_000_000_000);
        let modified = modified.saturating_add(metadata.mtime_nsec());
        Ok(Some(Self { size: size_of(&metadata), modified }))
    }
}

/// What the system knows of a file by its name in the journal; none if there is no such
/// file.
///
/// # Errors
/// Why that cannot be known.
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

/// The size of a product; none if it is not there.
fn look_at_size(name: &str) -> io::Result<Option<i64>> {
    Ok(look(name)?.map(|metadata| size_of(&metadata)))
}

/// The size of a file in bytes; -1 of what is no file.
fn size_of(metadata: &Metadata) -> i64 {
    let size = metadata.is_file().then(|| i64::try_from(metadata.len()).unwrap_or(i64::MAX));
    size.unwrap_or(-1)
}

/// What the journal has to say at the end.
#[derive(Debug, Default)]
pub(crate) struct JournalSummary {
    /// Messages of the producer that were not processed, because they are done.
    pub(crate) skipped: u64,
    /// Why something could not be written.
    pub(crate) error: Option<String>,
}

impl Journal {
    /// Opens the journal, or makes it, and notes that a run begins. `failed` is
    /// called, on another thread, if writing fails later. The events of `stream` are
    /// kept up to the last one, which comes after the end of everything else: the
    /// thread that is given is to be waited for then.
    ///
    /// # Errors
    /// Why the file cannot serve; then it is as it was.
    pub(crate) fn open(
        path: &Path,
        owner: &Owner<'_>,
        resume: bool,
        stream: &Stream,
        failed: impl FnOnce(String) + Send + 'static,
    ) -> Result<(Self, JoinHandle<()>), JournalError> {
        let mut store = Store::open(path, owner)?;
        let past = if resume { Some(store.past(owner.work_hash)?) } else { None };
        let (entries, received) = mpsc::sync_channel(MOST_WAITING);
        let at_once = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&at_once);
        let path_in_words = path.display().to_string();
        let (answer, written) = mpsc::channel();
        let mut events = TellTale::new(stream.watch());
        let write = move || {
            let result = store.write(&received, &asked, &mut events).map_err(|error| {
                let advice = if trust::is_damage(&error) {
                    "it is damaged: take a copy that is whole, or name another file with --journal"
                } else {
                    "what it holds is right: make room, then go on with --resume"
                };
                format!("the journal {path_in_words} cannot be written: {error}; {advice}")
            });
            if let Err(reason) = &result {
                failed(reason.clone());
            }
            let whole = result.is_ok();
            // Nobody waits for it if the run could not even begin.
            let _ = answer.send(result);
            if whole {
                // What is missing then is the last event only: nobody can be told any more.
                let _ = store.write_rest(&mut events);
            }
        };
        let writer = std::thread::Builder::new().name("journal".into()).spawn(write);
        let thread = writer.map_err(|error| JournalError::Unusable {
            path: path.to_owned(),
            reason: format!("the system refused a thread: {error}"),
        })?;
        let writer = thread.thread().clone();
        let (unwritten, skipped, warned) = (0, 0, false);
        let journal = Self { entries, writer, written, at_once, past, unwritten, skipped, warned };
        Ok((journal, thread))
    }

    /// Takes out of a producer's outputs what is done, and notes that the rest
    /// is begun. Gives what the observers are to be told.
    pub(crate) fn skip_completed(
        &mut self,
        step: &Arc<str>,
        outputs: &mut Vec<Output>,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        outputs.retain(|output| match output {
            Output::One { origin: Some(origin), .. } => self.is_to_run(origin, &mut events),
            Output::One { .. } | Output::Many { .. } => {
                if !std::mem::replace(&mut self.warned, true) {
                    events.push(Event::Untracked { step: Arc::clone(step) });
                }
                true
            }
        });
        events
    }

    fn is_to_run(&mut self, origin: &Arc<str>, events: &mut Vec<Event>) -> bool {
        let file = FileState::of(origin);
        let mut done = 0;
        if let Some(past) = &mut self.past {
            let decision = past.decide(origin, &file, &look_at_size);
            events.push(Event::Decided {
                origin: Arc::clone(origin),
                skipped: decision.skip,
                why: decision.why,
            });
            if decision.skip {
                self.skipped += 1;
                return false;
            }
            done = decision.done;
        }
        let file = file.ok().flatten();
        self.send(Entry::Begun { origin: Arc::clone(origin), done, file });
        true
    }

    pub(crate) fn record(&mut self, record: Record) {
        self.send(Entry::Record(record));
    }

    pub(crate) fn product(&mut self, step: &Arc<str>, origin: Option<Arc<str>>, path: PathBuf) {
        self.send(Entry::Product { origin, step: Arc::clone(step), path });
    }

    /// Fails only once the writer has, which it has said itself.
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

    /// Waits until everything is written.
    pub(crate) fn finish(mut self, verdict: &'static str) -> JournalSummary {
        self.send(Entry::Ended { verdict });
        self.wake();
        let Self { entries, written, skipped, .. } = self;
        drop(entries);
        let error = match written.recv() {
            Ok(result) => result.err(),
            Err(_) => Some("internal error: the journal's thread panicked".into()),
        };
        JournalSummary { skipped, error }
    }
}
