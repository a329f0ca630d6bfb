//! `drpipe ctl` in a build without the monitor.

use std::process::ExitCode;

use crate::cli::not_built::{Arguments, lacks};

pub(super) type CtlArgs = Arguments;

pub(super) fn ctl(_: CtlArgs) -> ExitCode {
    lacks("monitor")
}
