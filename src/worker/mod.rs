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
pub(crate) mod reporter;
pub(crate) mod serve;
pub(crate) mod supervisor;
pub(crate) mod tally;
pub(crate) mod thread;
pub(crate) mod usage;
