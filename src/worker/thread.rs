//! A worker on a thread of its own.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};

use super::serve::{Host, serve};
use super::{ReportWorker, WorkerEvent};
use crate::base::ids::WorkerId;
use crate::memory::segment;
use crate::protocol::report::Loss;
use crate::stage::Context;
use crate::stage::registry::Build;
use crate::transport::LinkError;
use crate::transport::zmq::ZmqContext;

/// What a worker thread runs, and where it finds the router.
pub(crate) struct Assignment {
    pub(crate) sockets: ZmqContext,
    pub(crate) worker: WorkerId,
    pub(crate) build: Build,
    pub(crate) context: Context,
    /// Whether a next step runs in processes.
    pub(crate) shares: bool,
    /// Set when the run is stopped at once.
    pub(crate) cancelled: Arc<AtomicBool>,
    pub(crate) report: ReportWorker,
    /// Dropped when the thread ends.
    pub(crate) alive: mpsc::Sender<()>,
}

/// Starts the worker.
///
/// # Errors
/// If the system has no thread left.
pub(crate) fn spawn(assignment: Assignment) -> io::Result<JoinHandle<()>> {
    let name = format!("{} {}", assignment.context.step(), assignment.context.worker());
    Builder::new().name(name).spawn(move || {
        let (worker, report) = (assignment.worker, Arc::clone(&assignment.report));
        let alive = assignment.alive.clone();
        // Stages are guarded call by call; this catches any other panic.
        let ended = catch_unwind(AssertUnwindSafe(|| run(assignment)));
        let reason = match ended {
            Ok(Ok(()) | Err(LinkError::Closed)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("its thread panicked".to_owned()),
        };
        if let Some(reason) = reason {
            report(WorkerEvent::Lost { worker, loss: Loss::unexplained(reason) });
        }
        drop(alive);
    })
}

fn run(assignment: Assignment) -> Result<(), LinkError> {
    let Assignment { sockets, worker, build, context, shares, cancelled, .. } = assignment;
    if shares {
        segment::share_from_here();
    }
    let link = sockets.link(worker, shares)?;
    serve(link, &build, context, &Host::Thread(cancelled))
}
