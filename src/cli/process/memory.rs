//! A limited address space (`ulimit -v`, as batch systems set it).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{Resource, getrlimit};
use signal_hook::consts::SIGABRT;

use crate::cli::output::STOPPED;

/// The heaps that the C library keeps for all threads. By default it keeps eight for each
/// core and sets 128 MiB of address space aside for each: more than the limit allows.
const HEAPS: i32 = 2;

/// Spares address space where it is limited. To be called before there are threads.
pub(crate) fn spare_address_space() {
    if getrlimit(Resource::As).current.is_none() {
        return;
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call changes a number of the C library's allocator; it takes no pointer and
    // may be made at any time.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS) };
}

/// Ends the program with code 3 where memory cannot be had within the limit: neither Rust's
/// allocator nor libzmq has another way than to abort, and both have said why by then.
/// Without a limit an abort is a fault of the program, and leaves what a debugger reads.
pub(crate) fn end_in_order_without_memory() {
    if getrlimit(Resource::As).current.is_some() {
        let always = Arc::new(AtomicBool::new(true));
        // Where it is refused an abort stays an abort.
        let _ = signal_hook::flag::register_conditional_shutdown(SIGABRT, STOPPED.into(), always);
    }
}
