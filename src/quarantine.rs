//! Where failed inputs are kept.
//!
//! `DIRECTORY/RUN/ENTRY/` holds `reason.json`, which says what failed, where,
//! when and why, and the input itself: `header.bin` in the codec's layout and
//! its buffers, `buffer-0.bin` and so on, in native byte order.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use serde::Serialize;

use crate::event::Cause;
use crate::router::Casualty;

/// Failed inputs that may wait to be written before the router waits too.
const MOST_WAITING: usize = 16;

/// Keeps the failed inputs of one run, on a thread of its own, so that a slow
/// disk does not hold the router up. The thread starts with the first of them.
pub(crate) struct Keeper {
    place: Place,
    writer: Option<Writer>,
    /// What was kept without the thread, if it could not be started.
    kept: Kept,
}

/// Whose failed inputs are kept, and where.
#[derive(Clone)]
struct Place {
    directory: PathBuf,
    run: String,
    config_hash: String,
}

struct Writer {
    casualties: mpsc::SyncSender<Casualty>,
    thread: JoinHandle<Kept>,
}

/// What the keeper has done.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The run's directory, if anything is in it.
    pub(crate) directory: Option<PathBuf>,
    pub(crate) count: u64,
    /// The first input that could not be kept, and why.
    pub(crate) error: Option<String>,
}

/// The contents of `reason.json`.
#[derive(Serialize)]
struct Reason<'a> {
    run: &'a str,
    config_hash: &'a str,
    step: &'a str,
    worker: Option<usize>,
    origin: Option<&'a str>,
    attempts: u32,
    cause: Cause,
    /// The failure's sentences, the outermost first.
    reason: &'a [String],
    /// When it was put into quarantine.
    time: String,
    /// The size of the input's header and buffers together.
    bytes: usize,
}

impl Kept {
    fn keep(&mut self, place: &Place, casualty: &Casualty) {
        match write(place, casualty) {
            Ok(()) => {
                self.count += 1;
                self.directory.get_or_insert_with(|| place.directory.clone());
            }
            Err(error) => {
                let path = place.directory.join(&casualty.entry);
                self.error.get_or_insert_with(|| {
                    format!("cannot keep a failed input in {}: {error}", path.display())
                });
            }
        }
    }

    fn add(mut self, other: Kept) -> Kept {
        self.count += other.count;
        self.directory = self.directory.or(other.directory);
        self.error = self.error.or(other.error);
        self
    }
}

impl Keeper {
    pub(crate) fn new(directory: &Path, run: &str, config_hash: &str) -> Self {
        let place = Place {
            directory: directory.join(run),
            run: run.to_owned(),
            config_hash: config_hash.to_owned(),
        };
        Self { place, writer: None, kept: Kept::default() }
    }

    pub(crate) fn keep(&mut self, casualty: Casualty) {
        if self.writer.is_none() {
            self.writer = start(self.place.clone()).ok();
        }
        let unsent = match &self.writer {
            Some(writer) => writer.casualties.send(casualty).err().map(|error| error.0),
            None => Some(casualty),
        };
        if let Some(casualty) = unsent {
            self.kept.keep(&self.place, &casualty);
        }
    }

    /// Waits until everything is written.
    pub(crate) fn finish(self) -> Kept {
        let Some(Writer { casualties, thread }) = self.writer else { return self.kept };
        drop(casualties);
        let written = thread.join().unwrap_or_else(|_| Kept {
            error: Some("the quarantine's thread panicked".into()),
            ..Kept::default()
        });
        self.kept.add(written)
    }
}

fn start(place: Place) -> io::Result<Writer> {
    let (sender, receiver) = mpsc::sync_channel::<Casualty>(MOST_WAITING);
    let thread = std::thread::Builder::new().name("quarantine".into()).spawn(move || {
        let mut kept = Kept::default();
        receiver.iter().for_each(|casualty| kept.keep(&place, &casualty));
        kept
    })?;
    Ok(Writer { casualties: sender, thread })
}

fn write(place: &Place, casualty: &Casualty) -> io::Result<()> {
    let Place { directory, run, config_hash } = place;
    fs::create_dir_all(directory)?;
    // Whole or not at all, like every product.
    let entry = tempfile::Builder::new().prefix(".entry-").tempdir_in(directory)?;
    fs::write(entry.path().join("header.bin"), &*casualty.payload.header)?;
    for (index, buffer) in casualty.payload.buffers.iter().enumerate() {
        fs::write(entry.path().join(format!("buffer-{index}.bin")), buffer)?;
    }
    let reason = Reason {
        run,
        config_hash,
        step: &casualty.step,
        worker: casualty.worker,
        origin: casualty.origin.as_deref(),
        attempts: casualty.attempt,
        cause: casualty.cause,
        reason: casualty.failure.chain(),
        time: jiff::Timestamp::now().to_string(),
        bytes: casualty.payload.len(),
    };
    let text = serde_json::to_string_pretty(&reason)?;
    fs::write(entry.path().join("reason.json"), text + "\n")?;
    let name = casualty.entry.replace(['/', '\\'], "_");
    fs::rename(entry.path(), directory.join(name))?;
    // The directory has its final name: nothing is left to be removed.
    let _ = entry.keep();
    Ok(())
}
