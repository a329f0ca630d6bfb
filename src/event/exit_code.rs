//! The exit codes of the program. Those of a worker process stand in docs/WIRE.md.

/// Everything that was asked for was done; of a run: every input was processed.
pub(crate) const DONE: u8 = 0;
/// The run reached its end, but some inputs failed, or a `finish` did; of `quarantine retry`
/// also: some inputs could not be tried again.
pub(crate) const SOME_FAILED: u8 = 1;
/// The journal does not know the path that `why` asks about.
pub(crate) const NOT_FOUND: u8 = 1;
/// The configuration, the command line, or what it names is wrong; nothing was done.
pub(crate) const USAGE: u8 = 2;
/// A policy, a failure or an error of drpipe's own stopped the run, or the command failed.
pub(crate) const STOPPED: u8 = 3;
/// A signal interrupted the program: 128 and the number of SIGINT, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;
