//! The `drpipe` program: the command line over the built-in stages.

use std::process::ExitCode;

fn main() -> ExitCode {
    drpipe::cli::Cli::new().builtin_stages().run()
}
