//! The commands that other threads send to the router's loop.

use std::io;
use std::sync::mpsc;

use crate::router::{Cancelled, ControlRequest, Refusal, Stop};
use crate::transport::wakeable::{self, Sender, Wakeable};
use crate::worker::WorkerEvent;

/// A command from another thread to the loop.
pub(crate) enum Command {
    /// Ends the run early.
    Stop(Stop),
    /// Something that the run depends on has failed.
    Halt(String),
    /// The run cannot go on and stops at once.
    Abandon(String),
    /// What a worker's thread or supervisor reports.
    Worker(WorkerEvent),
    /// An operator's request; the answer says whether it was carried out.
    Control(ControlRequest, mpsc::Sender<Result<Option<Cancelled>, ControlError>>),
}

/// Why the loop refuses an operator's request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the system refuses more workers: {0}")]
    NoRoom(io::Error),
}

/// Sends commands to the loop, from any thread; has no effect after the end of the run.
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
