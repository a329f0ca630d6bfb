//! A limited address space (`ulimit -v`, as batch systems set it).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{Resource, getrlimit};
use signal_hook::consts::SIGABRT;

use crate::event::exit_code::STOPPED;

/// The number of heaps of the C library. By default it has eight for each core and reserves
/// 128 MiB of address space for each: more than the limit allows.
const HEAPS: i32 = 2;

/// Uses less address space where it is limited. Call it before any thread starts.
pub(crate) fn spare_address_space() {
    if getrlimit(Resource::As).current.is_none() {
        return;
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call changes a number of the C library's allocator; it takes no pointer and
    // may be made at any time.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS) };
}

/// Ends the program with code 3 if it runs out of memory within the limit: in that case Rust's
/// allocator and libzmq print the reason and abort. Without a limit, an abort is a fault of the
/// program and leaves a core dump for a debugger.
pub(crate) fn end_in_order_without_memory() {
    if getrlimit(Resource::As).current.is_some() {
        let always = Arc::new(AtomicBool::new(true));
        // If the system refuses, an abort stays an abort.
        let _ = signal_hook::flag::register_conditional_shutdown(SIGABRT, STOPPED.into(), always);
    }
}
