//! How a worker process is started.

use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::process::Pid;

use crate::base::prepared::{Prepared, files_of};
use crate::protocol::lifeline::Lifeline;
use crate::worker::reexec::{Environment, ITSELF, explain, own_name, worker_environment};

/// Everything that starting a process needs, prepared in advance: the supervisor knows no
/// languages.
pub(crate) struct Launch {
    /// Where the process comes from, if it need not be started anew.
    pub(crate) origin: Origin,
    pub(crate) program: PathBuf,
    /// What lists of processes show; the worker does not read them.
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Environment,
    /// Whether the reaper must end what the worker has started, because the worker itself may be
    /// unable to.
    pub(crate) needs_reaper: bool,
    /// The subject of the message that ends with "did not become a worker".
    pub(crate) who: String,
    /// The advice in that message; begins with ": ", or is empty.
    pub(crate) advice: &'static str,
}

/// Where a worker process comes from.
#[derive(Clone, Default)]
pub(crate) enum Origin {
    /// It is started.
    #[default]
    New,
    /// It is forked from a prepared process.
    ForkOf(Arc<Prepared>),
    /// It is a prepared process itself.
    Is(Arc<Prepared>),
}

/// A process that was started for a worker, with its output.
pub(super) struct Started {
    pub(super) process: Pid,
    pub(super) output: PipeReader,
    pub(super) complaints: PipeReader,
}

impl Launch {
    /// Starts this program again, as a worker of the run with this private `directory`.
    pub(crate) fn of_this_program(step: &str, worker: usize, directory: &std::path::Path) -> Self {
        Self {
            origin: Origin::New,
            program: ITSELF.into(),
            arguments: vec!["worker".into(), step.into(), worker.to_string().into()],
            environment: worker_environment(directory),
            needs_reaper: false,
            who: std::env::current_exe().unwrap_or_default().display().to_string(),
            advice: ": its main must call drpipe::pipeline::serve_worker first",
        }
    }

    /// Starts the process, as the leader of a process group of its own, with the worker's end of
    /// its lifeline as standard input and its output in pipes.
    ///
    /// # Errors
    /// If the system refuses a process or a file descriptor.
    pub(super) fn start(&self, lifeline: Lifeline) -> io::Result<Started> {
        let (output, its_output) = io::pipe()?;
        let (complaints, its_complaints) = io::pipe()?;
        let files = files_of(&lifeline, &its_output, &its_complaints);
        let found = match &self.origin {
            Origin::New => None,
            Origin::ForkOf(prepared) => prepared.fork(&files)?,
            // One that has ended meanwhile is not missed.
            Origin::Is(prepared) => prepared.become_worker(&files).ok(),
        };
        let process = match found {
            Some(process) => process,
            None => self.spawn(lifeline, its_output, its_complaints)?,
        };
        Ok(Started { process, output, complaints })
    }

    fn spawn(&self, input: Lifeline, output: PipeWriter, error: PipeWriter) -> io::Result<Pid> {
        let mut command = Command::new(&self.program);
        command.arg0(own_name()).args(&self.arguments);
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let command = command.process_group(0).stdin(Stdio::from(OwnedFd::from(input)));
        let child = command.stdout(output).stderr(error).spawn().map_err(explain)?;
        Ok(Pid::from_child(&child))
    }
}
