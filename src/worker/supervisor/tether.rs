//! What the supervisor holds of a worker's process: a child of this program, or a process that the
//! caller provides. A process is signaled and its end noticed in another way in each case.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};

use super::launch::Origin;
use crate::base::prepared::wait_for;
use crate::protocol::control::Manner;
use crate::protocol::lifeline::Lifeline;
use crate::transport::wakeable::timespec;

/// How long the caller may take to tell how a process of it has ended, after its end.
const WORD: Duration = Duration::from_millis(10);

/// How long the end of a worker in the caller itself waits for word that the caller has ended: then
/// the run does not lose a worker but its caller.
const PARTING: Duration = Duration::from_millis(100);

/// How long a process may live without its lifeline: at its end, the system closes that first. So
/// long may the caller's answer take if the lifeline is closed.
const CLOSING: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub(super) enum Tether {
    /// A child of this program, the leader of its process group.
    Child {
        process: Pid,
        /// Readable when the process has ended; absent where the system has none.
        pidfd: Option<OwnedFd>,
        /// Kept for as long as the process lives.
        _origin: Origin,
    },
    /// The caller has been asked for a process. Its answer may come after the end of the lifeline,
    /// which was noticed at this time.
    Awaited { closed: Option<Instant> },
    /// A process that the caller provides.
    Attached(Attached),
}

/// A process that the caller provides.
pub(super) struct Attached {
    process: Pid,
    pidfd: OwnedFd,
    manner: Manner,
    /// How it has ended, if the caller has told.
    status: Option<ExitStatus>,
    /// When its end was noticed.
    ended: Option<Instant>,
    /// When it was noticed that the lifeline is closed.
    closed: Option<Instant>,
}

impl Attached {
    /// A process that the caller provides, with a file that tells its end if one came with it.
    ///
    /// # Errors
    /// If there is no such process.
    pub(super) fn new(pid: u32, pidfd: Option<OwnedFd>, manner: Manner) -> io::Result<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let process = number.ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = match pidfd {
            Some(pidfd) => pidfd,
            None => pidfd_open(process, PidfdFlags::empty())?,
        };
        Ok(Self { process, pidfd, manner, status: None, ended: None, closed: None })
    }

    /// Whether the process has ended. If so, also waits a moment for the word of how it did.
    fn has_ended(&mut self, now: Instant) -> bool {
        self.note_end(now);
        self.ended.is_some_and(|ended| self.status.is_some() || now - ended >= WORD)
    }

    /// Whether a worker in the caller itself has ended for this long: its lifeline, or the caller.
    fn has_parted(&mut self, lifeline: &Lifeline, now: Instant, patience: Duration) -> bool {
        self.note_end(now);
        self.note_closing(lifeline, now);
        self.closed.or(self.ended).is_some_and(|noticed| now - noticed >= patience)
    }

    fn note_end(&mut self, now: Instant) {
        if self.ended.is_none() && is_ready(&self.pidfd, PollFlags::IN) {
            self.ended = Some(now);
        }
    }

    fn note_closing(&mut self, lifeline: &Lifeline, now: Instant) {
        if self.closed.is_none() && has_closed(lifeline) {
            self.closed = Some(now);
        }
    }

    fn signal(&self, signal: Signal) {
        // One that has gone needs none, and its number may be another's.
        let is_there = self.ended.is_none() && !is_ready(&self.pidfd, PollFlags::IN);
        let _ = match self.manner {
            Manner::Group if is_there => kill_process_group(self.process, signal),
            Manner::Process if is_there => pidfd_send_signal(&self.pidfd, signal),
            _ => Ok(()),
        };
    }
}

impl Tether {
    /// The process; none if nobody has named it yet.
    pub(super) fn process(&self) -> Option<u32> {
        let process = match self {
            Self::Child { process, .. } | Self::Attached(Attached { process, .. }) => process,
            Self::Awaited { .. } => return None,
        };
        Some(process.as_raw_nonzero().get().unsigned_abs())
    }

    /// Whether a signal can end it.
    pub(super) fn can_be_ended(&self) -> bool {
        match self {
            Self::Child { .. } => true,
            Self::Awaited { .. } => false,
            Self::Attached(attached) => attached.manner != Manner::Caller,
        }
    }

    /// Whether it is a child of this program.
    pub(super) fn is_child(&self) -> bool {
        matches!(self, Self::Child { .. })
    }

    /// Signals the process, and its group if it leads one; those that have gone need no signal.
    pub(super) fn signal(&self, signal: Signal) {
        match self {
            Self::Child { process, .. } => drop(kill_process_group(*process, signal)),
            Self::Awaited { .. } => {}
            Self::Attached(attached) => attached.signal(signal),
        }
    }

    /// Whether the worker has ended. One in the caller itself ends with its lifeline, of which
    /// this is the program's end. No worker is needed any more if the run `is_over`.
    pub(super) fn has_ended(&mut self, lifeline: &Lifeline, now: Instant, is_over: bool) -> bool {
        match self {
            Self::Child { process, .. } => {
                // It stays to be waited for. An error means that there is no such child.
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
                !matches!(waitid(WaitId::Pid(*process), options), Ok(None))
            }
            Self::Awaited { closed } => {
                if closed.is_none() && has_closed(lifeline) {
                    *closed = Some(now);
                }
                closed.is_some_and(|closed| now - closed >= CLOSING)
            }
            Self::Attached(attached) if attached.manner == Manner::Caller => {
                let patience = if is_over { Duration::ZERO } else { PARTING };
                attached.has_parted(lifeline, now, patience)
            }
            Self::Attached(attached) => attached.has_ended(now),
        }
    }

    /// Whether a process lives on that has closed its lifeline.
    pub(super) fn has_let_go(&mut self, lifeline: &Lifeline, now: Instant) -> bool {
        let Self::Attached(attached) = self else { return false };
        if attached.manner == Manner::Caller || attached.ended.is_some() {
            return false;
        }
        attached.note_closing(lifeline, now);
        attached.closed.is_some_and(|closed| now - closed >= CLOSING)
    }

    /// Whether the closing of its lifeline is still to be noticed.
    pub(super) fn is_tied(&self) -> bool {
        match self {
            Self::Child { .. } => false,
            Self::Awaited { closed } => closed.is_none(),
            Self::Attached(attached) => attached.closed.is_none() && attached.ended.is_none(),
        }
    }

    /// Takes the caller's word for how the process has ended.
    pub(super) fn told(&mut self, status: i32) {
        if let Self::Attached(attached) = self {
            attached.status = Some(ExitStatus::from_raw(status));
        }
    }

    /// Ends what is left of it, and returns how it has ended, if that is known.
    pub(super) fn reap(&mut self) -> Option<ExitStatus> {
        match self {
            Self::Child { process, .. } => {
                // Until it is waited for, the number of its group is no other's.
                let _ = kill_process_group(*process, Signal::KILL);
                wait_for(*process).ok()
            }
            Self::Awaited { .. } => None,
            Self::Attached(attached) => attached.status,
        }
    }

    /// The file that is readable at its end, if that has not been noticed yet.
    pub(super) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Child { pidfd, .. } => pidfd.as_ref().map(AsFd::as_fd),
            Self::Awaited { .. } => None,
            Self::Attached(attached) => {
                Some(attached.pidfd.as_fd()).filter(|_| attached.ended.is_none())
            }
        }
    }

    /// Whether its end shows only if it is looked at often.
    pub(super) fn needs_attention(&self) -> bool {
        match self {
            Self::Child { pidfd, .. } => pidfd.is_none(),
            Self::Awaited { closed } => closed.is_some(),
            Self::Attached(attached) => attached.ended.is_some() || attached.closed.is_some(),
        }
    }
}

fn has_closed(lifeline: &Lifeline) -> bool {
    is_ready(lifeline, PollFlags::empty())
}

fn is_ready(file: &impl AsFd, flags: PollFlags) -> bool {
    let now = timespec(Duration::ZERO);
    poll(&mut [PollFd::new(file, flags)], Some(&now)).is_ok_and(|count| count > 0)
}
