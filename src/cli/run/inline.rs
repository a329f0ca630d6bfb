//! `drpipe run --inline`: this process becomes the Python interpreter. The interpreter starts the
//! program again for everything else, and runs the Python steps itself.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::cli::output::complain;
use crate::cli::source::Source;
use crate::event::exit_code::{STOPPED, USAGE};
use crate::pipeline::Pipeline;

/// Becomes the interpreter; returns only if that fails.
pub(crate) fn become_interpreter(pipeline: &mut Pipeline, source: &Source) -> ExitCode {
    pipeline.end_interpreters();
    if source.is_standard_input() {
        return complain(
            USAGE,
            "error: with --inline the steps read standard input: give the configuration as a file",
        );
    }
    let (interpreters, main) = pipeline.interpreters().unwrap_or_default();
    let mut found = interpreters.into_iter();
    let interpreter = match (found.next(), found.next()) {
        (Some(interpreter), None) => interpreter,
        (Some(one), Some(another)) => {
            let (one, another) = (one.display(), another.display());
            return complain(
                USAGE,
                format_args!(
                    "error: --inline runs all steps in Python in one interpreter, but they name \
                     {one} and {another}: choose one with --set python=PROGRAM"
                ),
            );
        }
        (None, _) => {
            return complain(
                USAGE,
                "error: --inline is for steps in Python, and this pipeline has none; \
                 --mode sequential runs its steps one after the other",
            );
        }
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            return complain(
                STOPPED,
                format_args!("error: drpipe cannot find its own program file: {error}"),
            );
        }
    };
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--inline");
    let error =
        Command::new(interpreter).arg(main).arg("--inline").arg(program).args(arguments).exec();
    let interpreter = interpreter.display();
    complain(STOPPED, format_args!("error: cannot start {interpreter}: {error}"))
}
