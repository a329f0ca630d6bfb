//! ZMTP 3.0, the protocol of ZeroMQ, over UNIX sockets: between the router's loop and worker
//! processes.
//!
//! libzmq would have a thread of its own do this on either side, which costs four changes of thread
//! for each message. The other side may be any DEALER or ROUTER socket of ZeroMQ.

mod connection;
mod frames;
mod link;
mod processes;

use std::path::{Path, PathBuf};

pub(crate) use link::ZmtpLink;
pub(crate) use processes::Processes;

/// Where the router of a run listens, in the run's private directory.
pub(crate) fn endpoint(directory: &Path) -> PathBuf {
    directory.join("router")
}
