//! Worker processes of a running program, seen and ended from outside.

use std::fs;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// No test takes this long unless something hangs.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The processes that a process has started and that have not ended.
pub fn children(of: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{of}/task")) else { return Vec::new() };
    let lists = threads.flatten().map(|thread| fs::read_to_string(thread.path().join("children")));
    let lists: Vec<String> = lists.flatten().collect();
    let numbers = lists.iter().flat_map(|list| list.split_whitespace());
    numbers.filter_map(|number| number.parse().ok()).filter(|pid| is_alive(*pid)).collect()
}

/// Whether the process runs; one that has ended and is not waited for does not.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// One that has gone already needs no signal.
pub fn signal(pid: u32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid as i32).unwrap(), signal);
}

/// Waits until `done` gives something, and fails if it never does.
pub fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(start.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Calls `disturb` every so often until the program has ended.
pub fn disturb_until_end(
    program: &mut Child,
    every: Duration,
    mut disturb: impl FnMut(u32),
) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = program.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > LIMIT {
            let _ = program.kill();
            panic!("the program hangs");
        }
        disturb(program.id());
        std::thread::sleep(every);
    }
}
