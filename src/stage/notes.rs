//! What a stage announces about its work, apart from what it emits.

use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use super::actions::ActionOutcome;
use super::scope::{self, Note};

/// Announces that the stage which runs on this thread has made the file `path`.
///
/// Displays show it (pictures in PNG or JPEG as thumbnails), and a journal records which
/// input it came from. The file is not read or moved. If the call of the stage fails, nothing
/// is announced. On a thread that runs no stage, such as one that the stage has started, the
/// announcement is lost and the log says so. Does not block.
///
/// A file that must be whole or absent is written with [`product`](crate::product), which
/// announces it.
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
    announce(Note::Product { path, origin: None });
}

/// Writes a line into the run's log, as a warning of the step whose stage runs on this
/// thread: for what is not as it should be, although it does not fail.
///
/// Name the input in it. If the call of the stage fails, the line is dropped. On a thread that
/// runs no stage the line appears in the log without its step. Does not block.
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
    announce(Note::Warning(text.into()));
}

/// Counts one execution of an action: a part of the work of the stage that runs on this thread, such
/// as a primitive of a recipe.
///
/// Displays, metrics and the report of the run show the counts of each step beside its ledger. They
/// are of executions, also in calls that fail or are repeated, while the ledger is of messages. What
/// a worker process that dies has not reported yet is not counted. A step counts 500 actions apart,
/// and all others together as "other actions". On a thread that runs no stage nothing is counted,
/// and the log says so once. Does not block.
///
/// ```
/// use drpipe::prelude::*;
/// use std::time::Instant;
///
/// /// Subtracts the overscan of frames that have one.
/// fn subtract_overscan(frame: &mut Vec<f64>, overscan: Option<f64>) {
///     let start = Instant::now();
///     let outcome = match overscan {
///         Some(level) => {
///             frame.iter_mut().for_each(|pixel| *pixel -= level);
///             ActionOutcome::Done
///         }
///         None => ActionOutcome::Skipped,
///     };
///     count_action("subtract_overscan", outcome, start.elapsed());
/// }
/// # subtract_overscan(&mut vec![1.0], Some(1.0));
/// ```
pub fn count_action(name: &str, outcome: ActionOutcome, busy: Duration) {
    static SAID: Once = Once::new();
    if !scope::count(|tally| tally.of(name).count(outcome, busy)) {
        SAID.call_once(|| {
            tracing::warn!(
                "the action {name:?} was counted on a thread that runs no stage, so the count is \
                 lost: count it in the call of the stage"
            );
        });
    }
}

fn announce(note: Note) {
    let Err(note) = scope::add(note) else { return };
    match note {
        Note::Product { path, .. } => tracing::warn!(
            "the product {} was announced on a thread that runs no stage, so it is not known to \
             the run: announce it in the call of the stage",
            path.display()
        ),
        Note::Warning(text) => tracing::warn!("{text}"),
        Note::Expected(_) | Note::Actions(_) => {}
    }
}
