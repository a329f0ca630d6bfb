//! One worker process, as the supervisor sees it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};

use super::super::liveness::describe;
use super::super::log_pipe::LogPipe;
use super::super::page::Page;
use super::super::reexec::{EXIT_FULL, EXIT_LATE};
use super::launch::{Launch, Origin, Started};
use super::limits::{Limits, Watch, loss_at};
use crate::base::ids::WorkerId;
use crate::base::prepared::wait_for;
use crate::event::{Event, Level};
use crate::protocol::lifeline::Lifeline;
use crate::protocol::report::{Blame, Loss};

/// The time between asking a worker to end and ending it by force.
const GRACE: Duration = Duration::from_secs(2);

/// Everything that the supervisor needs to start a worker.
pub(crate) struct NewWorker {
    pub(crate) id: WorkerId,
    pub(crate) step: String,
    /// The worker's number within its step.
    pub(crate) number: usize,
    pub(crate) launch: Launch,
    /// What the worker reads first, as JSON.
    pub(crate) assignment: Vec<u8>,
    pub(crate) limits: Limits,
}

/// See the module's documentation.
pub(super) struct WorkerProcess {
    step: Arc<str>,
    number: usize,
    process: Pid,
    /// Kept for as long as the process lives.
    _origin: Origin,
    /// Readable when the process has ended; absent where the system has none.
    pub(super) pidfd: Option<OwnedFd>,
    page: Page,
    watch: Watch,
    /// Why it is being ended, and when it will be by force.
    ended: Option<(Loss, Instant)>,
    pub(super) logs: Vec<LogPipe>,
    /// Kept open for as long as the worker lives.
    _lifeline: Lifeline,
}

impl WorkerProcess {
    /// Starts the worker. It gets one end of its lifeline, `theirs`.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn start(worker: &NewWorker, ours: Lifeline, theirs: Lifeline) -> io::Result<Self> {
        let NewWorker { step, number, launch, assignment, limits, .. } = worker;
        let (page, file) = Page::create()?;
        let Started { process, output, complaints } = launch.start(theirs)?;
        let logs = vec![
            LogPipe::stdout(output, step, *number)?,
            LogPipe::stderr(complaints, step, *number)?,
        ];
        let pidfd = pidfd_open(process, PidfdFlags::empty()).ok();
        // If it has died already, its exit status explains why.
        let _ = ours.send_assignment(assignment, file.as_fd());
        Ok(Self {
            step: step.as_str().into(),
            number: *number,
            process,
            _origin: launch.origin.clone(),
            pidfd,
            page,
            watch: Watch::new(*limits, &launch.who, launch.advice),
            ended: None,
            logs,
            _lifeline: ours,
        })
    }

    /// The process, which is also its process group.
    pub(super) fn id(&self) -> u32 {
        self.process.as_raw_nonzero().get().unsigned_abs()
    }

    pub(super) fn is_at_work(&self) -> bool {
        self.page.at_work().is_some()
    }

    /// Whether it must be looked at often.
    pub(super) fn needs_attention(&self) -> bool {
        self.watch.is_limited()
            || self.ended.is_some()
            || self.pidfd.is_none()
            || self.logs.iter().any(LogPipe::is_paused)
    }

    /// Whether it has been asked to end. One whose time for that is over is ended by force.
    pub(super) fn is_ending(&self, now: Instant) -> bool {
        if self.ended.as_ref().is_some_and(|(_, by_force)| *by_force <= now) {
            self.kill();
        }
        self.ended.is_some()
    }

    /// Why the worker must be ended, if it must.
    pub(super) fn check(&mut self, now: Instant) -> Option<Loss> {
        self.watch.check(&self.page, self.id(), now)
    }

    /// Ignores a time in which the whole program was suspended.
    pub(super) fn forgive(&mut self, time: Duration, now: Instant) {
        self.watch.forgive(&self.page, time, now);
    }

    /// Asks the worker to end; `loss` says why.
    pub(super) fn end(&mut self, loss: Loss, now: Instant) {
        self.signal(Signal::TERM);
        self.ended = Some((loss, now + GRACE));
    }

    /// Ends the worker and all that it has started.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends a signal to the worker's process group; those that have gone need none.
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.process, signal);
    }

    /// Whether the process has ended; it stays to be waited for.
    pub(super) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // An error means that there is no such child any more.
        !matches!(waitid(WaitId::Pid(self.process), options), Ok(None))
    }

    /// Waits for the process, which has ended, and returns how.
    pub(super) fn reap(&mut self) -> Option<ExitStatus> {
        // Until it is waited for, the number of its group is no other's.
        self.kill();
        wait_for(self.process).ok()
    }

    /// Describes the loss of a worker that ended with this status.
    pub(super) fn into_loss(mut self, status: Option<ExitStatus>) -> Loss {
        if let Some((loss, _)) = self.ended.take() {
            return loss;
        }
        let reason = status.map_or_else(|| "its process is gone".to_owned(), describe);
        let blame = match status {
            Some(status) if status.signal() == Some(Signal::TERM.as_raw()) => Blame::Request,
            Some(status) if status.code() == Some(EXIT_FULL.into()) => Blame::Limit,
            _ => Blame::Death,
        };
        loss_at(&self.page, blame, reason)
    }

    /// An event with a line of text about this worker.
    pub(super) fn says(&self, level: Level, text: String) -> Event {
        let (step, worker) = (Arc::clone(&self.step), self.number);
        Event::Said { step, worker, level, logger: String::new(), text }
    }
}

/// Whether the worker's threads tried to send after their call had returned.
pub(super) fn sent_late(status: Option<ExitStatus>) -> bool {
    status.and_then(|status| status.code()) == Some(EXIT_LATE.into())
}
