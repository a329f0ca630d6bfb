//! The only place that names zmq: frames, the wire format, the hub that
//! drives the router, and a worker's link to it.
//!
//! Rules: every socket has no high-water mark (the router's grants and work are
//! the limit) and linger 0, or a second in a worker process, is used by one
//! thread at a time (a worker's under a lock), and the hub's socket reports
//! unknown peers instead of dropping silently.

mod frames;
pub(crate) mod hub;
pub(crate) mod lifeline;
pub(crate) mod link;
mod room;
pub(crate) mod wire;

use std::path::Path;

pub(crate) use room::make_room_for_a_process;

/// Within a run's own context, so that two runs never meet.
const ENDPOINT: &str = "inproc://router";

/// What the hub and the workers of one run share within the process.
#[derive(Clone)]
pub(crate) struct Inproc(zmq::Context);

impl Inproc {
    pub(crate) fn new() -> Self {
        Self(zmq::Context::new())
    }
}

/// The endpoint of worker processes, in a run's private directory.
fn ipc(directory: &Path) -> String {
    format!("ipc://{}/router", directory.display())
}
