//! The journal in a build without it: opening one fails.

mod error;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::Sink;
use crate::base::not_built::NotBuilt;
use crate::event::Event;
use crate::message::ItemKey;
use crate::message::batch::Output;
use crate::status::stream::Stream;

pub use error::JournalError;

/// The run that would write.
pub(crate) struct Owner<'a> {
    pub(crate) run: &'a str,
    pub(crate) config_hash: &'a str,
    pub(crate) work_hash: &'a str,
}

/// A journal, of which this build has none.
pub(crate) enum Journal {}

impl Sink for Journal {}

/// The filter of completed items, of which this build has none.
pub(crate) enum SkipCompleted {}

impl SkipCompleted {
    pub(crate) fn skip_completed(
        &mut self,
        _: &Arc<str>,
        _: &mut Vec<Output>,
    ) -> (Vec<Event>, Vec<(u64, ItemKey)>) {
        match *self {}
    }

    pub(crate) fn finish(self) -> u64 {
        match self {}
    }
}

/// A journal that was opened for a run.
pub(crate) struct Opened {
    pub(crate) journal: Journal,
    pub(crate) skip: SkipCompleted,
    pub(crate) thread: JoinHandle<()>,
}

impl Journal {
    /// # Errors
    /// That this build keeps no journal.
    pub(crate) fn open(
        _: &Path,
        _: &Owner<'_>,
        _: bool,
        _: &Stream,
        _: impl FnOnce(String) + Send + 'static,
    ) -> Result<Opened, JournalError> {
        Err(NotBuilt { feature: "journal" }.into())
    }
}
