//! Tests whether the system has room for the workers before libzmq is used: without a descriptor or
//! a thread, libzmq ends the whole program.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use memmap2::MmapOptions;
use rustix::process::{Resource, getrlimit};

use crate::base::lock::lock;

/// The most descriptors that the first socket of a context takes.
const OF_A_CONTEXT: usize = 8;
/// The descriptors that a worker thread takes in the program: its socket.
pub(crate) const OF_A_THREAD: usize = 1;
/// The descriptors that a worker process takes in the program: its lifeline (twice), its pidfd
/// and its connection.
pub(crate) const OF_A_PROCESS: usize = 4;
/// The descriptors that starting a process takes for a moment.
pub(crate) const OF_A_START: usize = 8;
/// The threads that a context starts.
const THREADS: usize = 2;
/// The address space of a worker, in bytes: its stack, its socket and a small batch.
const OF_A_WORKER: usize = 5 << 19;
/// The address space of the run itself, in bytes: the threads of a context with their stacks.
const OF_A_RUN: usize = 48 << 20;
/// The most checks whether a thread is gone; after them it counts as gone.
const MAX_CHECKS: usize = 10_000;

/// Tests whether there are threads for a context, descriptors for it and `more`, and address space
/// for that many `workers`.
///
/// # Errors
/// What the system refuses.
pub(crate) fn make_room(more: usize, workers: usize) -> io::Result<()> {
    try_address_space(workers)?;
    try_threads()?;
    try_descriptors(OF_A_CONTEXT + more)
}

/// Does nothing where address space is not limited: it is never short there.
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
        let closed = lock(&gate);
        let wait = || {
            drop(gate.lock());
            fs::read_link("/proc/thread-self")
        };
        let start = |_| thread::Builder::new().spawn_scoped(scope, wait);
        let started = (0..THREADS).map(start).collect::<io::Result<Vec<_>>>();
        drop(closed);
        started.map(|threads| threads.into_iter().filter_map(|t| t.join().ok()?.ok()).collect())
    });
    // The system still counts a thread for a moment after it has ended.
    let threads: Vec<PathBuf> = threads?;
    for entry in threads.iter().map(|thread| Path::new("/proc").join(thread)) {
        let mut checks = 0;
        while checks < MAX_CHECKS && entry.exists() {
            checks += 1;
            thread::yield_now();
        }
    }
    Ok(())
}

/// Tests whether a worker process can start and connect.
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
