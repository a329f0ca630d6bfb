//! What pools leave behind when they have ended: nothing.

use std::fs;

use drpipe::pool::Pool;

/// The number of descriptors and threads of this process.
fn held() -> (usize, usize) {
    let count = |what: &str| fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    (count("fd"), count("task"))
}

/// The memory of this process in KiB.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn use_pools(count: i64) {
    for number in 0..count {
        let pool = Pool::of(|number: i64| Ok(number)).workers(2);
        let (pool, mut results) = pool.start_with_results().unwrap();
        let task = pool.submit("", number).unwrap();
        assert_eq!(results.next().unwrap().result, Ok(number));
        match number % 3 {
            0 => drop(pool.drain().unwrap()),
            1 => drop(pool.stop().unwrap()),
            _ => drop(pool),
        }
        assert_eq!(task.wait(), Ok(number));
    }
}

#[test]
fn a_thousand_pools_leave_descriptors_threads_and_memory_flat() {
    use_pools(100);
    let (before, memory_before) = (held(), memory());
    use_pools(1000);
    let after = held();
    assert!(after.0 <= before.0 && after.1 <= before.1, "{before:?}, {after:?}");
    let grown = memory().saturating_sub(memory_before);
    assert!(grown < 8 << 10, "{grown} KiB more than {memory_before} KiB");
}
