//! Standard input as the socket that another program has left there.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Takes the socket, so that no program that this one starts can reach it.
///
/// # Errors
/// If there is none, or the system refuses a file descriptor.
pub(super) fn take() -> io::Result<OwnedFd> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(OpenOptions::new().read(true).open("/dev/null")?)?;
    Ok(socket)
}
