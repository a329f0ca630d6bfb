//! The program that drives a run, such as a script in Python. A run must not go on without it:
//! it ends when that program has died, for whatever reason.

use std::io;
use std::num::NonZeroI32;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::standard_input;
use crate::base::prepared::Prepared;

/// The options by which a driver starts a run.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct DriverArgs {
    /// The process that drives the run: the run ends with it
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) driver: Option<NonZeroI32>,
    /// The driver's directory, which the run removes when the driver has died
    #[arg(long, value_name = "DIR", hide = true, requires = "driver")]
    pub(crate) driver_directory: Option<PathBuf>,
    /// Standard input is the line to a child that the driver has forked from itself; it forks the
    /// workers in Python
    #[arg(long, hide = true, requires = "driver")]
    driver_fork: bool,
}

impl DriverArgs {
    /// The process that forks the workers in Python, if the driver has left one.
    ///
    /// # Errors
    /// If it does not answer.
    pub(crate) fn fork(&self) -> io::Result<Option<Prepared>> {
        self.driver_fork.then(|| Prepared::of_child(standard_input::take()?)).transpose()
    }
}

/// The process that drives this run.
pub(crate) struct DrivingProgram {
    /// Readable once the process has ended; none if it had ended before.
    pidfd: Option<OwnedFd>,
    /// The directory that the driver can no longer remove.
    directory: Option<PathBuf>,
}

impl DrivingProgram {
    /// The driver that the arguments name, if they name one.
    ///
    /// # Errors
    /// If the system cannot watch it.
    pub(crate) fn of(args: &DriverArgs) -> io::Result<Option<Self>> {
        let Some(pid) = args.driver.and_then(|pid| Pid::from_raw(pid.get())) else {
            return Ok(None);
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Some(pidfd),
            Err(Errno::SRCH) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Self { pidfd, directory: args.driver_directory.clone() }))
    }

    /// Blocks until the driver has died, then removes its directory.
    pub(crate) fn outlive(self) {
        if let Some(pidfd) = &self.pidfd {
            while poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None) == Err(Errno::INTR) {}
        }
        if let Some(directory) = self.directory {
            // If that fails, the next run that this user drives removes it.
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}
