//! Why a pipeline cannot be loaded or run.

use std::io;
use std::path::PathBuf;

use super::private_directory::LONGEST_PRIVATE;
use crate::plan::diagnostic::ConfigError;
use crate::sinks::journal::JournalError;
use crate::transport::TransportError;

/// Why a configuration cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}; name the configuration with --config FILE", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// The configuration is wrong.
    #[error(transparent)]
    Wrong(#[from] ConfigError),
}

/// Why a run could not start or could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The system refused a thread, a file descriptor or memory.
    #[error(
        "the system refused a thread, a file descriptor or memory: {0}; the limits are those of \
         ulimit -u, ulimit -n and ulimit -v"
    )]
    System(#[from] io::Error),
    /// The private directory of worker processes cannot be created.
    #[error(
        "cannot make a private directory for the worker processes: {0}; set TMPDIR to a writable \
         directory whose path is shorter than {LONGEST_PRIVATE} bytes"
    )]
    NoPrivateDirectory(io::Error),
    /// This process is a worker of another run, because its main did not call
    /// [`serve_worker`](super::serve_worker) first.
    #[error(
        "this process was started as a worker and must not start worker processes itself: main \
         must call drpipe::pipeline::serve_worker first"
    )]
    InWorker,
    /// The producer is the program itself.
    #[error(
        "the producer {step:?} is a part of the program: start the pipeline with \
         Pipeline::start_with_feed"
    )]
    NotFed {
        /// The name of the producer.
        step: String,
    },
    /// A program would have to be attached to the run.
    #[error(
        "a caller provides the workers of {step:?}: start the run from it, with drpipe run --attach"
    )]
    NoCaller {
        /// The name of the step.
        step: String,
    },
    /// The producer brings its own items.
    #[error(
        "the producer {step:?} ({class}) brings its own items: to feed the pipeline, add its \
         producer with Builder::feed, or give it the class Caller"
    )]
    NoFeed {
        /// The name of the producer.
        step: String,
        /// The name of its class.
        class: String,
    },
    /// The program and a step that it feeds, or that gives back results, disagree on the type.
    #[error("the step {step:?} {verb} {found}; the program said {expected}")]
    OtherType {
        /// The name of the step.
        step: String,
        /// Whether it takes or gives back values.
        verb: &'static str,
        /// The type that the step has.
        found: &'static str,
        /// The type that the program has.
        expected: &'static str,
    },
    /// The file named by [`Pipeline::set_journal`](super::Pipeline::set_journal) cannot serve; nothing was run.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The file named by [`Pipeline::set_trace`](super::Pipeline::set_trace) cannot be written; nothing was run.
    #[error("cannot write the trace {}: {error}; name another file with --trace FILE", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// The router's socket failed.
    #[error("{0}")]
    Transport(String),
    /// A bug in drpipe.
    #[error("internal error: the run's thread panicked")]
    Panicked,
}

impl From<TransportError> for RunError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error.to_string())
    }
}
