//! The process that drives a run, such as a script in Python. A run that nobody attends
//! to must not go on: it ends when its driver has died, however that died.

use std::io;
use std::num::NonZeroI32;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Whose run it is, if a program has started it.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct DriverArgs {
    /// The process that drives the run: the run ends with it
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) driver: Option<NonZeroI32>,
    /// What the driver would remove at its end, if it can no longer do so
    #[arg(long, value_name = "DIR", hide = true, requires = "driver")]
    pub(crate) driver_directory: Option<PathBuf>,
}

/// See the module's documentation.
pub(crate) struct Driver {
    /// Readable when the process has ended; none if it had before.
    pidfd: Option<OwnedFd>,
    /// What it would have removed itself.
    directory: Option<PathBuf>,
}

impl Driver {
    /// The driver that the arguments name, if they do.
    ///
    /// # Errors
    /// If the system cannot tell of its end.
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

    /// Returns when the driver has died, and its directory is gone.
    pub(crate) fn outlive(self) {
        if let Some(pidfd) = &self.pidfd {
            while poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None) == Err(Errno::INTR) {}
        }
        if let Some(directory) = self.directory {
            // What cannot be removed now is by the next run that this user drives.
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}
