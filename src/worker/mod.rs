//! What runs the code of a step: the calls of a stage with panics caught (`executor`), on a
//! thread of its own (`thread`) or in a process of its own (`process`, with its `supervisor`).
//! What calls have done waits in an `outbox` until it is reported.

pub(crate) mod catch;
pub(crate) mod executor;
pub(crate) mod liveness;
pub(crate) mod log_pipe;
pub(crate) mod outbox;
pub(crate) mod page;
pub(crate) mod process;
pub(crate) mod reaper;
pub(crate) mod reexec;
pub(crate) mod reporter;
pub(crate) mod serve;
pub(crate) mod supervisor;
pub(crate) mod tally;
pub(crate) mod thread;
pub(crate) mod usage;

use std::sync::Arc;

use crate::event::Event;
use crate::protocol::report::Loss;
use crate::transport::Place;

/// What a worker's thread or supervisor reports of it, besides what it says itself over its
/// link.
pub(crate) enum WorkerEvent {
    /// Its thread or process has ended; more comes from it only if it was sent before.
    Lost { place: Place, loss: Loss },
    /// Threads of the worker, which has ended, wanted to send after their call had returned.
    SentLate { place: Place },
    /// What the worker printed or logged, or what is to be said of it.
    Said(Event),
}

/// Takes what is reported of workers. It never blocks, and any thread may call it.
pub(crate) type ReportWorker = Arc<dyn Fn(WorkerEvent) + Send + Sync>;
