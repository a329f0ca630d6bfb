//! What a stage makes known about its work, apart from what it emits.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Something that a worker makes known to those who watch the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// A producer expects to emit so many messages in all.
    Expected(u64),
    /// A file was made.
    Product {
        path: PathBuf,
        /// What the message that it was made from descends from.
        origin: Option<Arc<str>>,
    },
    /// Something that people should know, though the work goes on.
    Warning(String),
}

thread_local! {
    /// What was made known on this thread and nobody has taken yet.
    static NOTES: RefCell<Vec<Note>> = const { RefCell::new(Vec::new()) };
}

/// Makes known that the stage which runs on this thread has made the file `path`.
///
/// Those who watch the run see it (pictures in PNG or JPEG as thumbnails), and a
/// journal records which input it came from. Nothing is read or moved. If the call of
/// the stage fails, it has made nothing known. On a thread that runs no stage, such as
/// one that the stage has started, it does nothing that anybody sees.
///
/// ```
/// use drpipe::prelude::*;
///
/// /// Writes each text into a file of its own.
/// #[derive(Deserialize, JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct Save { directory: std::path::PathBuf, #[serde(skip)] count: u64 }
///
/// impl Consumer for Save {
///     type In = String;
///     fn run(&mut self, text: String) -> Result<()> {
///         self.count += 1;
///         let path = self.directory.join(format!("{}.txt", self.count));
///         std::fs::write(&path, text)?;
///         announce_product(&path);
///         Ok(())
///     }
/// }
/// ```
pub fn announce_product(path: impl AsRef<Path>) {
    let path = path.as_ref().to_owned();
    NOTES.with_borrow_mut(|notes| notes.push(Note::Product { path, origin: None }));
}

/// Puts a line into the run's log, as a warning of the step whose stage runs on this
/// thread: for what is not as it should be, though it does not fail.
///
/// Name the input in it. If the call of the stage fails, it is not said.
///
/// ```
/// use drpipe::prelude::*;
///
/// fn check(name: &str, exposure: f64) {
///     if exposure == 0.0 {
///         announce_warning(format!("{name}: EXPTIME is 0, taken for a bias frame"));
///     }
/// }
/// # check("n1.fits", 0.0);
/// ```
pub fn announce_warning(text: impl Into<String>) {
    let text = text.into();
    NOTES.with_borrow_mut(|notes| notes.push(Note::Warning(text)));
}

/// How many notes have gathered on this thread.
pub(crate) fn count() -> usize {
    NOTES.with_borrow(Vec::len)
}

/// Drops the notes beyond the first `count`.
pub(crate) fn rewind(count: usize) {
    NOTES.with_borrow_mut(|notes| notes.truncate(count));
}

/// Says what the notes beyond the first `count` were made from.
pub(crate) fn attribute(count: usize, to: &Arc<str>) {
    NOTES.with_borrow_mut(|notes| {
        for note in notes.iter_mut().skip(count) {
            if let Note::Product { origin, .. } = note {
                *origin = Some(Arc::clone(to));
            }
        }
    });
}

/// Takes the notes of this thread.
pub(crate) fn take() -> Vec<Note> {
    NOTES.with_borrow_mut(std::mem::take)
}
