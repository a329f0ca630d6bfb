//! One worker process, as the supervisor sees it.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{PidfdFlags, Signal, pidfd_open};

use super::super::liveness::describe;
use super::super::log_pipe::LogPipe;
use super::super::page::Page;
use super::super::reexec::{EXIT_FULL, EXIT_LATE, EXIT_RETIRED};
use super::launch::{Launch, Started};
use super::limits::{Limits, Watch, loss_at};
use super::tether::{Attached, Tether};
use crate::base::ids::{MessageId, WorkerId};
use crate::event::{Event, Level};
use crate::protocol::lifeline::Lifeline;
use crate::protocol::report::{Blame, Loss};

/// Everything that the supervisor needs to know of a new worker.
pub(crate) struct NewWorker {
    pub(crate) id: WorkerId,
    pub(crate) step: String,
    /// The worker's number within its step.
    pub(crate) number: usize,
    /// What the worker reads first, as JSON.
    pub(crate) assignment: Vec<u8>,
    pub(crate) limits: Limits,
}

/// See the module's documentation.
pub(super) struct WorkerProcess {
    step: Arc<str>,
    number: usize,
    pub(super) tether: Tether,
    page: Page,
    watch: Watch,
    limits: Limits,
    /// Why it is being ended, and when it will be by force.
    ended: Option<(Loss, Instant)>,
    /// The message that was last said to take too long, where that is all that can be done.
    overdue: Option<MessageId>,
    pub(super) logs: Vec<LogPipe>,
    /// Kept open for as long as the worker lives.
    lifeline: Lifeline,
}

impl WorkerProcess {
    /// Starts the worker. It gets one end of its lifeline, `theirs`.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn start(
        worker: &NewWorker,
        launch: &Launch,
        ours: Lifeline,
        theirs: Lifeline,
    ) -> io::Result<Self> {
        let (page, file) = Page::create()?;
        let Started { process, output, complaints } = launch.start(theirs)?;
        let NewWorker { step, number, assignment, limits, .. } = worker;
        let logs = vec![
            LogPipe::stdout(output, step, *number)?,
            LogPipe::stderr(complaints, step, *number)?,
        ];
        let pidfd = pidfd_open(process, PidfdFlags::empty()).ok();
        // If it has died already, its exit status explains why.
        let _ = ours.send_assignment(assignment, file.as_fd());
        let tether = Tether::Child { process, pidfd, _origin: launch.origin.clone() };
        let watch = Watch::new(*limits, &launch.who, launch.advice);
        Ok(Self { logs, ..Self::new(worker, tether, page, watch, ours) })
    }

    /// A worker whose process the caller is asked for.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn await_caller(worker: &NewWorker, ours: Lifeline) -> io::Result<Self> {
        let (page, file) = Page::create()?;
        ours.send_assignment(&worker.assignment, file.as_fd())?;
        let watch = Watch::new(worker.limits, "the process that the caller provides", "");
        Ok(Self::new(worker, Tether::Awaited { closed: None }, page, watch, ours))
    }

    fn new(
        worker: &NewWorker,
        tether: Tether,
        page: Page,
        watch: Watch,
        lifeline: Lifeline,
    ) -> Self {
        let NewWorker { step, number, limits, .. } = worker;
        Self {
            step: step.as_str().into(),
            number: *number,
            tether,
            page,
            watch,
            limits: *limits,
            ended: None,
            overdue: None,
            logs: Vec::new(),
            lifeline,
        }
    }

    /// Takes the process that the caller provides; one that has come already stays.
    pub(super) fn adopt(&mut self, attached: Attached) -> Option<Event> {
        if !matches!(self.tether, Tether::Awaited { .. }) {
            return None;
        }
        self.tether = Tether::Attached(attached);
        self.watch.begin();
        let (step, worker) = (Arc::clone(&self.step), self.number);
        self.tether.process().map(|pid| Event::Attached { step, worker, pid })
    }

    pub(super) fn is_at_work(&self) -> bool {
        self.page.at_work().is_some()
    }

    /// Whether it must be looked at often while it is at work.
    pub(super) fn is_limited(&self) -> bool {
        self.limits.need_looks()
    }

    /// Whether it must be looked at often, whatever it does.
    pub(super) fn needs_attention(&self) -> bool {
        self.ended.is_some()
            || self.watch.has_cancelled()
            || self.tether.needs_attention()
            || self.logs.iter().any(LogPipe::is_paused)
    }

    /// The end of the lifeline, where its closing is not noticed otherwise.
    pub(super) fn lifeline(&self) -> Option<&Lifeline> {
        self.tether.is_tied().then_some(&self.lifeline)
    }

    /// Whether it has ended, in a run that `is_over` or not.
    pub(super) fn has_ended(&mut self, now: Instant, is_over: bool) -> bool {
        self.tether.has_ended(&self.lifeline, now, is_over)
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
        if self.tether.has_let_go(&self.lifeline, now) {
            let reason = "its process has closed the lifeline".to_owned();
            return Some(loss_at(&self.page, Blame::Death, reason));
        }
        let process = self.tether.process().filter(|_| self.tether.can_be_ended())?;
        self.watch.check(&self.page, process, now)
    }

    /// Says once that a message takes too long on a worker that nobody can end.
    pub(super) fn overdue(&mut self) -> Option<Event> {
        let watch = Some(&self.watch).filter(|_| !self.tether.can_be_ended())?;
        let (message, limit) = watch.passed(&self.page)?;
        if self.overdue.replace(message) == Some(message) {
            return None;
        }
        let (step, worker) = (Arc::clone(&self.step), self.number);
        Some(Event::Overdue { step, worker, message: message.0, limit })
    }

    /// Ignores a time in which the whole program was suspended.
    pub(super) fn forgive(&mut self, time: Duration, now: Instant) {
        self.watch.forgive(&self.page, time, now);
    }

    /// Has the worker ended when it is at this message.
    pub(super) fn end_at(&mut self, message: MessageId) {
        self.watch.end_at(message);
    }

    /// Asks the worker to end; `loss` says why.
    pub(super) fn end(&mut self, loss: Loss, now: Instant) {
        self.tether.signal(Signal::TERM);
        self.ended = Some((loss, now + self.limits.grace));
    }

    /// Ends the worker and all that it has started.
    pub(super) fn kill(&self) {
        self.tether.signal(Signal::KILL);
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
            // A message during which this code is returned has ended its worker.
            Some(status)
                if status.code() == Some(EXIT_RETIRED.into()) && self.page.at_work().is_none() =>
            {
                Blame::Plan
            }
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
