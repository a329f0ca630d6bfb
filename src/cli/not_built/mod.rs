//! Commands of features that this build lacks; each names its feature.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::output::CommandError;
use crate::base::not_built::NotBuilt;

/// The arguments of a missing command.
#[derive(Debug, ClapArgs)]
pub(super) struct Arguments {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(super) fn lacks(feature: &'static str) -> ExitCode {
    CommandError::usage(NotBuilt { feature }).exit()
}
