//! What every worker does, on its thread or in its process: what the router
//! says, until it says stop.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::executor::Worker;
use super::outbox::{Outbox, REPORT_AFTER};
use super::page::Page;
use super::{reporter, usage};
use crate::protocol::wire::{FromWorker, ToWorker};
use crate::stage::Context;
use crate::stage::registry::Build;
use crate::transport::{Link, LinkError, ready};

/// How a worker is stopped before its time, and where it says what it is at.
pub(crate) enum Watch {
    /// Set when the run is stopped at once: what is left of a batch is not begun.
    Thread(Arc<AtomicBool>),
    /// A process is ended from outside, by those who read its page; it ends by
    /// itself before a message that it has no memory left for.
    Process { page: Arc<Page>, memory_limit: Option<u64>, full: Cell<bool> },
}

impl Watch {
    fn begin(&self, message: u64) -> bool {
        match self {
            Self::Thread(cancelled) => !cancelled.load(Ordering::Relaxed),
            Self::Process { page, memory_limit, full } => {
                let over = |limit: &u64| usage::memory_here().is_some_and(|u| u > *limit);
                full.set(memory_limit.as_ref().is_some_and(over));
                if !full.get() {
                    page.begin(message);
                }
                !full.get()
            }
        }
    }

    fn rest(&self) {
        if let Self::Process { page, .. } = self {
            page.rest();
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Thread(cancelled) => cancelled.load(Ordering::Relaxed),
            Self::Process { .. } => self.is_full(),
        }
    }

    /// Whether it has ended itself because of its memory.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Process { full, .. } if full.get())
    }
}

/// # Errors
/// If the router can no longer be talked to.
pub(crate) fn serve(
    mut link: impl Link + Send + 'static,
    build: &Build,
    context: Context,
    watch: &Watch,
) -> Result<(), LinkError> {
    let mut worker = match Worker::new(build, context) {
        Ok(worker) => worker,
        Err(failure) => return link.send(FromWorker::InitFailed(failure)),
    };
    link.send(ready())?;
    let notes = worker.first_notes();
    if !notes.is_empty() {
        link.send(FromWorker::Notes(notes))?;
    }
    let desk = Arc::new(Outbox::new(link));
    let _watched = reporter::watch(&desk);
    while !watch.is_over() {
        match desk.sink(|link| link.receive())? {
            ToWorker::Grant { count } => worker.produce(count, REPORT_AFTER, &desk)?,
            ToWorker::Work(batches) => {
                worker.work(batches, &desk, |message| watch.begin(message), || watch.rest())?;
            }
            ToWorker::Finish => worker.finish(&desk)?,
            ToWorker::Stop => break,
        }
    }
    Ok(())
}
