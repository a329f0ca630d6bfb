//! `drpipe top` in a build without it.

use std::process::ExitCode;

use crate::cli::not_built::{Arguments, lacks};

pub(super) type TopArgs = Arguments;

pub(super) fn top(_: &TopArgs) -> ExitCode {
    lacks("top")
}
