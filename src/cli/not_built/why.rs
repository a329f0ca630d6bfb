//! `drpipe why` in a build without it.

use std::process::ExitCode;

use crate::cli::not_built::{Arguments, lacks};

pub(super) type WhyArgs = Arguments;

pub(super) fn why(_: &WhyArgs) -> ExitCode {
    lacks("journal")
}
