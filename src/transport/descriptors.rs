//! What the system must have left before libzmq is asked for anything.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use memmap2::MmapOptions;
use rustix::process::{Resource, getrlimit};

/// The descriptors that the first socket of a context takes at most.
const OF_A_CONTEXT: usize = 8;
/// Those that a worker takes in the program: its socket if it is a thread; its
/// lifeline (twice), its end and its connection if it is a process.
pub(crate) const OF_A_THREAD: usize = 1;
pub(crate) const OF_A_PROCESS: usize = 4;
/// What starting a process takes for a moment.
pub(crate) const OF_A_START: usize = 8;
/// The threads that a context starts.
const THREADS: usize = 2;
/// The address space that a worker takes: its stack, its socket and what it has in hand
/// when it is small.
const OF_A_WORKER: usize = 5 << 19;
/// The address space of the run itself: the threads of a context with their stacks.
const OF_A_RUN: usize = 48 << 20;
/// How often it is looked whether a thread has gone.
const MOST_LOOKS: usize = 10_000;

/// Tries whether there are threads and descriptors for a context and `more`, and address
/// space for that many `workers` as well: where libzmq finds none, for its threads or for a
/// connection that a worker makes, it ends the whole program.
///
/// # Errors
/// What the system refuses.
pub(crate) fn make_room(more: usize, workers: usize) -> io::Result<()> {
    try_address_space(workers)?;
    try_threads()?;
    try_descriptors(OF_A_CONTEXT + more)
}

/// Address space is short only where it is limited; elsewhere nothing is tried.
fn try_address_space(workers: usize) -> io::Result<()> {
    let limit = getrlimit(Resource::As).current;
    let Some(limit) = limit else { return Ok(()) };
    let wanted = OF_A_RUN + workers * OF_A_WORKER;
    MmapOptions::new().len(wanted).map_anon().map(drop).map_err(|error| {
        let mib = |bytes: u64| bytes >> 20;
        io::Error::new(
            error.kind(),
            format!(
                "{workers} workers need {} MiB more than the {} MiB of address space allow",
                mib(wanted as u64),
                mib(limit)
            ),
        )
    })
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
