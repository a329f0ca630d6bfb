//! `drpipe monitor`, and `drpipe run --monitor`, in a build without the monitor.

use std::process::ExitCode;

use crate::base::not_built::NotBuilt;
use crate::cli::not_built::{Arguments, lacks};
use crate::cli::run::args::RunArgs;
use crate::pipeline::Handle;
use crate::plan::Plan;

pub(super) type MonitorArgs = Arguments;

/// A run that is shown; this build has none.
pub(super) enum Monitor {}

impl Monitor {
    pub(super) fn stop(self) {
        match self {}
    }
}

pub(super) fn show_all(_: MonitorArgs) -> ExitCode {
    lacks("monitor")
}

/// Reads where to show the run.
///
/// # Errors
/// If the options ask to show it.
pub(super) fn options(args: &RunArgs, _: &Plan) -> Result<(), NotBuilt> {
    match args.monitor {
        Some(_) => Err(NotBuilt { feature: "monitor" }),
        None => Ok(()),
    }
}

pub(super) fn start(_: &Handle, (): ()) -> Option<Monitor> {
    None
}
