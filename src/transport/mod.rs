//! The only place that names zmq: frames, the wire format, the hub that
//! drives the router, and a worker's link to it.
//!
//! Rules: every socket has linger 0 and no high-water mark (the router's
//! grants and work are the limit), is made and used on one thread, and the
//! hub's socket reports unknown peers instead of dropping silently.

mod frames;
pub(crate) mod hub;
pub(crate) mod lifeline;
pub(crate) mod link;
pub(crate) mod wire;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

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

/// The descriptors that the first socket of a context takes at most.
const OF_A_CONTEXT: usize = 8;
/// Those that a worker takes in the program: its socket if it is a thread; its
/// lifeline (twice), its end and its connection if it is a process.
const OF_A_THREAD: usize = 1;
const OF_A_PROCESS: usize = 4;
/// What starting a process takes for a moment.
const OF_A_START: usize = 8;
/// The threads that a context starts.
const THREADS: usize = 2;
/// How often it is looked whether a thread has gone.
const MOST_LOOKS: usize = 10_000;

/// Tries whether there are threads and descriptors for a context and `more`:
/// where libzmq finds none, for its threads or for a connection that a worker
/// makes, it ends the whole program.
///
/// # Errors
/// What the system refuses.
fn make_room(more: usize) -> io::Result<()> {
    try_threads()?;
    try_descriptors(OF_A_CONTEXT + more)
}

fn try_threads() -> io::Result<()> {
    let gate = Mutex::new(());
    let threads = thread::scope(|scope| {
        // None of the threads ends before all of them have been started.
        let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = || {
            drop(gate.lock());
            fs::read_link("/proc/thread-self")
        };
        let start = |_| thread::Builder::new().spawn_scoped(scope, wait);
        let started = (0..THREADS).map(start).collect::<io::Result<Vec<_>>>();
        drop(closed);
        started.map(|threads| threads.into_iter().filter_map(|t| t.join().ok()?.ok()).collect())
    });
    // The system counts one that has ended for a moment longer.
    let threads: Vec<PathBuf> = threads?;
    for entry in threads.iter().map(|thread| Path::new("/proc").join(thread)) {
        let mut looks = 0;
        while looks < MOST_LOOKS && entry.exists() {
            looks += 1;
            thread::yield_now();
        }
    }
    Ok(())
}

/// Tries whether a worker process can be started and connect itself.
///
/// # Errors
/// If the process has too few descriptors left.
pub(crate) fn make_room_for_a_process() -> io::Result<()> {
    try_descriptors(OF_A_PROCESS + OF_A_START)
}

fn try_descriptors(count: usize) -> io::Result<()> {
    let (file, _) = io::pipe()?;
    (0..count).map(|_| file.try_clone()).collect::<io::Result<Vec<_>>>().map(drop)
}

/// The endpoint of worker processes, in a run's private directory.
fn ipc(directory: &Path) -> String {
    format!("ipc://{}/router", directory.display())
}
