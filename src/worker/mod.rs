//! Workers, which run the code of a step.
//!
//! The `executor` calls a stage with panics caught (`catch`). The results wait in an `outbox`,
//! counted in a `tally`, until the worker or the `reporter` sends them. `serve` is the worker's
//! loop, on a `thread` or in a `process`. On the program's side the `supervisor` starts and ends
//! processes: it reads their `page`, `usage`, `liveness` and `log_pipe`, and has a `reaper` where
//! processes cannot clean up after themselves. `reexec` starts the program again in another role.

pub(crate) mod catch;
pub(crate) mod executor;
pub(crate) mod liveness;
pub(crate) mod log_pipe;
pub(crate) mod outbox;
pub(crate) mod page;
pub(crate) mod process;
mod process_log;
pub(crate) mod reaper;
pub(crate) mod reexec;
pub(crate) mod reporter;
pub(crate) mod serve;
pub(crate) mod supervisor;
pub(crate) mod tally;
pub(crate) mod thread;
pub(crate) mod usage;

use std::sync::Arc;

use crate::base::ids::WorkerId;
use crate::event::Event;
use crate::protocol::report::Loss;

/// What a worker's thread or supervisor reports about it; the worker's own reports come over its
/// link.
pub(crate) enum WorkerEvent {
    /// Its thread or process has ended; more comes from it only if it was sent before.
    Lost { worker: WorkerId, loss: Loss },
    /// Threads of the worker, which has ended, tried to send after their call had returned.
    SentLate { worker: WorkerId },
    /// What the worker printed or logged, or a remark about it.
    Said(Event),
}

/// Receives reports about workers. It never blocks, and any thread may call it.
pub(crate) type ReportWorker = Arc<dyn Fn(WorkerEvent) + Send + Sync>;
