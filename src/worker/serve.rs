//! The loop of every worker, on a thread or in a process: it does what the router says until the
//! router says stop.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::executor::Worker;
use super::outbox::{Outbox, REPORT_AFTER};
use super::page::Page;
use super::{reporter, usage};
use crate::base::ids::MessageId;
use crate::protocol::wire::{FromWorker, ToWorker};
use crate::stage::Context;
use crate::stage::registry::Build;
use crate::transport::{Link, LinkError, ready};

/// What a worker runs on or in: how it is stopped early there, and where it says what it is
/// working on.
pub(crate) enum Host {
    /// A thread begins nothing more of a batch once this is set: the run is stopped at once.
    Thread(Arc<AtomicBool>),
    /// A process is ended from outside, by its supervisor, which reads its page. It ends itself
    /// before a message if it is over its memory limit.
    Process { page: Arc<Page>, memory_limit: Option<u64>, full: Cell<bool> },
}

impl Host {
    /// Records which message the worker begins, and its own time limit. Returns false if it must not begin it.
    fn begin(&self, message: MessageId, limit: Option<Duration>) -> bool {
        match self {
            Self::Thread(cancelled) => !cancelled.load(Ordering::Relaxed),
            Self::Process { page, memory_limit, full } => {
                let over = |limit: &u64| usage::memory_here().is_some_and(|u| u > *limit);
                full.set(memory_limit.as_ref().is_some_and(over));
                if !full.get() {
                    page.begin(message, limit);
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

    /// Whether the process ended itself because of its memory.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Process { full, .. } if full.get())
    }
}

/// Builds the stage and works until the router says stop.
///
/// # Errors
/// If the connection to the router has ended or failed.
pub(crate) fn serve(
    mut link: impl Link + Send + 'static,
    build: &Build,
    context: Context,
    host: &Host,
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
    let outbox = Arc::new(Outbox::new(link));
    let _watched = reporter::watch(&outbox);
    while !host.is_over() {
        let message = match outbox.arrived()? {
            Some(message) => message,
            None => outbox.sink(|link| link.receive())?,
        };
        match message {
            ToWorker::Grant { count } => worker.produce(count, REPORT_AFTER, &outbox)?,
            ToWorker::Work(batches) => {
                worker.work(
                    batches,
                    &outbox,
                    |message, limit| host.begin(message, limit),
                    || host.rest(),
                )?;
            }
            ToWorker::Acknowledged(items) => worker.acknowledge(items, &outbox)?,
            // Producers in Rust cancel nothing.
            ToWorker::NotCancelled { .. } => {}
            ToWorker::Finish => worker.finish(&outbox)?,
            ToWorker::Stop => break,
            // Only a feed hears what workers say aside.
            ToWorker::Told(_) => {}
        }
    }
    Ok(())
}
