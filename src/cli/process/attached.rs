//! The program that has started this run and stays attached to it, over the socket that is this
//! program's standard input.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::MemfdFlags;

use super::standard_input;
use crate::cli::output::CommandError;
use crate::event::Report;
use crate::pipeline::{Caller, Farewell};

/// A caller that has said HELLO, and what tells it how the run has ended.
pub(crate) struct AttachedCaller {
    /// None once the run has it.
    pub(crate) caller: Option<Caller>,
    farewell: Farewell,
}

impl AttachedCaller {
    /// Takes the socket and waits for the caller's HELLO.
    ///
    /// # Errors
    /// If there is no socket, or the program at its other end cannot be the caller.
    pub(crate) fn accept() -> Result<Self, CommandError> {
        let accepted = standard_input::take().map_err(Into::into).and_then(Caller::accept);
        let caller = accepted.map_err(CommandError::usage)?;
        let farewell = caller.farewell().map_err(CommandError::stopped)?;
        Ok(Self { caller: Some(caller), farewell })
    }

    /// There is no run, for this reason.
    pub(crate) fn refuse(&self, reason: impl ToString) {
        self.farewell.refuse(reason.to_string());
    }

    /// The run has ended. It is not worth an error of its own if the report has no room.
    pub(crate) fn over(&self, exit_code: u8, report: Option<&Report>) {
        self.farewell.over(exit_code, report.and_then(|report| in_memory(report).ok()));
    }
}

fn in_memory(report: &Report) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("drpipe-report", MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    serde_json::to_writer(&mut file, report)?;
    Ok(file.into())
}
