//! Starts the program again, as a worker or as the reaper: how it starts, how it recognizes its
//! role, and its exit codes.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// This program, even if its file has been replaced.
pub(crate) const ITSELF: &str = "/proc/self/exe";

/// The variable that makes the program a worker or the reaper; its value is the process that
/// started it.
pub(crate) const STARTER: &str = "DRPIPE_WORKER";
/// The variable that makes the program the reaper; its value is the run's private directory.
pub(crate) const REAPER: &str = "DRPIPE_REAPER";
/// The variable that marks every process that a worker starts, whatever its group or session; its
/// value is the run's private directory, whose name no other run has.
pub(crate) const MARK: &str = "DRPIPE_PRIVATE";
/// The variables that make a worker one in Python: the interpreter, and the script that it runs.
pub(crate) const INTERPRETER: &str = "DRPIPE_PYTHON";
pub(crate) const MAIN: &str = "DRPIPE_PYTHON_MAIN";

/// The exit code of a worker that can no longer talk to the router.
pub(crate) const EXIT_LOST: u8 = 113;
/// The exit code of a worker that ends itself because it uses more memory than its limit
/// between two messages.
pub(crate) const EXIT_FULL: u8 = 114;
/// The exit code of a worker whose threads tried to send after their call had returned.
pub(crate) const EXIT_LATE: u8 = 115;
/// The exit code of a worker that has done as many messages as its caller lets it do.
pub(crate) const EXIT_RETIRED: u8 = 116;

/// The time between two heartbeats of a worker process.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);

/// Variables to set in the environment of a process, or to remove from it.
pub(crate) type Environment = Vec<(&'static str, Option<OsString>)>;

/// The environment of a worker of the run with this private directory.
pub(crate) fn worker_environment(directory: &Path) -> Environment {
    vec![
        (STARTER, Some(std::process::id().to_string().into())),
        (MARK, Some(directory.into())),
        (REAPER, None),
        // A step may print its environment into a log that every user can read.
        ("DRPIPE_MONITOR_TOKEN", None),
        ("DRPIPE_TOKEN", None),
    ]
}

/// The name by which this program was called.
pub(crate) fn own_name() -> OsString {
    std::env::args_os().next().unwrap_or_else(|| "drpipe".into())
}

/// Explains why the program could not be started again, if the reason is that it cannot find
/// itself.
pub(crate) fn explain(error: io::Error) -> io::Error {
    if Path::new(ITSELF).exists() {
        return error;
    }
    let message = format!(
        "{ITSELF} is missing, and worker processes are started through it: mount /proc, or use \
         nb_thread instead of nb_process"
    );
    io::Error::new(error.kind(), message)
}

/// Lets lists of processes show this process under the program's name.
pub(crate) fn name_after_the_program() {
    let program = PathBuf::from(own_name());
    // Only a name: nothing depends on it.
    let name = program.file_name().unwrap_or_default();
    let _ = std::fs::write("/proc/self/comm", name.as_encoded_bytes());
}
