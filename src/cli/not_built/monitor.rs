//! `drpipe monitor`, and `drpipe run --monitor`, in a build without the monitor.

use std::process::ExitCode;

use crate::base::not_built::NotBuilt;
use crate::cli::not_built::{Arguments, lacks};
use crate::cli::run::args::RunArgs;
use crate::pipeline::Handle;
use crate::plan::Plan;

pub(super) type MonitorArgs = Arguments;

/// A run that is shown, of which there is none.
pub(super) enum Monitor {}

impl Monitor {
    pub(super) fn stop(self) {
        match self {}
    }
}

pub(super) fn show_all(_: MonitorArgs) -> ExitCode {
    lacks("monitor")
}

/// How the run is to be shown.
///
/// # Errors
/// If it is to be shown to browsers.
pub(super) fn options(args: &RunArgs, _: &Plan) -> Result<(), NotBuilt> {
    match args.monitor {
        Some(_) => Err(NotBuilt { feature: "monitor" }),
        None => Ok(()),
    }
}

pub(super) fn start(_: &Handle, (): ()) -> Option<Monitor> {
    None
}
