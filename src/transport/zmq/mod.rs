//! The only place that names zmq: frames without a copy, and a worker's link to the router.
//!
//! Rules: every socket has no high-water mark (the router's grants and work are
//! the limit) and linger 0, or a second in a worker process, is used by one
//! thread at a time (a worker's under a lock), and the hub's socket reports
//! unknown peers instead of dropping silently.

pub(crate) mod frames;
pub(crate) mod link;

use std::path::Path;

/// Within a run's own context, so that two runs never meet.
pub(crate) const ENDPOINT: &str = "inproc://router";

/// What the hub and the workers of one run share within the process.
#[derive(Clone)]
pub(crate) struct Inproc(pub(crate) zmq::Context);

impl Inproc {
    pub(crate) fn new() -> Self {
        Self(zmq::Context::new())
    }
}

/// The endpoint of worker processes, in a run's private directory.
pub(crate) fn ipc(directory: &Path) -> String {
    format!("ipc://{}/router", directory.display())
}
