//! What other threads tell the router's loop.

use std::io;
use std::sync::mpsc;

use crate::router::{ControlRequest, Refusal, Stop};
use crate::transport::wakeable::{self, Sender, Wakeable};
use crate::worker::WorkerEvent;

/// What other threads tell the loop.
pub(crate) enum Command {
    /// The run shall end early.
    Stop(Stop),
    /// What the run depends on has failed.
    Halt(String),
    /// What a worker's thread or supervisor reports.
    Worker(WorkerEvent),
    /// What an operator wants; the answer says whether it was done.
    Control(ControlRequest, mpsc::Sender<Result<(), ControlError>>),
}

/// Why the loop does not do what an operator wants.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the system refuses more workers: {0}")]
    NoRoom(io::Error),
}

/// Tells the loop something, from any thread; after the end of the run it does nothing.
pub(crate) type Commander = Sender<Command>;

/// The receiving end of all [`Commander`]s. The driver waits on its `wakeup`.
pub(crate) type Commands = Wakeable<Command>;

/// Creates the queue of commands.
///
/// # Errors
/// If the process has no file descriptor left.
pub(crate) fn commands() -> io::Result<(Commander, Commands)> {
    wakeable::queue()
}
