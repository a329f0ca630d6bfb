//! A pool takes as many tasks as it was told to, and its memory is bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use drpipe::pipeline::SendError;
use drpipe::pool::{Pool, StartError, Submission};
use drpipe::prelude::*;

use super::gated;
use crate::support::processes::eventually;

#[test]
fn a_full_queue_gives_the_value_back() {
    let (pool, keeper) = gated();
    let pool = pool.workers(1).queue(2).start().unwrap();
    let tasks: Vec<_> = (0..3).map(|number| pool.try_submit("", number).unwrap()).collect();
    let Err(SendError::Full(value)) = pool.try_submit("", 3) else { panic!("it has room") };
    assert_eq!(value, 3);
    let within = pool.submit_within("", 4, Duration::from_millis(1));
    assert!(matches!(within, Err(SendError::Full(4))));
    keeper.let_go(3);
    let results: Vec<_> = tasks.into_iter().map(|task| task.wait().unwrap()).collect();
    assert_eq!(results, [0, 1, 2]);
    keeper.let_go(1);
    assert_eq!(pool.submit_within("", 5, Duration::from_secs(600)).unwrap().wait(), Ok(5));
}

#[test]
fn submit_waits_for_room() {
    let (pool, keeper) = gated();
    let pool = pool.workers(1).queue(1).start().unwrap();
    let tasks = [pool.submit("", 0).unwrap(), pool.submit("", 1).unwrap()];
    std::thread::scope(|scope| {
        let third = scope.spawn(|| pool.submit("", 2).unwrap().wait().unwrap());
        keeper.let_go(3);
        assert_eq!(third.join().unwrap(), 2);
    });
    tasks.into_iter().for_each(|task| assert!(task.wait().is_ok()));
}

#[test]
fn tasks_of_many_bytes_wait_for_each_other_and_a_giant_passes_alone() {
    let length = |text: String| Ok(text.len() as i64);
    let pool = Pool::of(length).workers(2).queue_bytes(1000).start().unwrap();
    let text = |length| "x".repeat(length);
    let sizes = [10, 400, 5000, 400, 5000, 5000, 900, 0];
    let tasks: Vec<_> = sizes.map(|size| pool.submit("", text(size)).unwrap()).into();
    let lengths: Vec<_> = tasks.into_iter().map(|task| task.wait().unwrap()).collect();
    assert_eq!(lengths, sizes.map(|size| size as i64));
}

/// Makes a large array.
#[derive(Serialize, Deserialize)]
struct Large(Buffer<u8>);

impl Data for Large {
    const TYPE: &'static str = "tests/Large/1";
}

#[test]
fn results_that_nobody_reads_hold_the_pool_up() {
    const SIZE: usize = 1 << 20;
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let pool = Pool::of(move |_: i64| {
        counted.fetch_add(1, Ordering::SeqCst);
        // Longer than the work that a worker is given at once: it has no more than a few in hand.
        thread::sleep(Duration::from_millis(3));
        Ok(Large(vec![1; SIZE].into()))
    });
    let pool = pool.workers(2).queue(10_000).queue_bytes(8 * SIZE as u64);
    let (pool, mut results) = pool.start_with_results().unwrap();
    (0..100).for_each(|number| drop(pool.submit("", number).unwrap()));
    // It stands still: eight are unread, and each of two workers may have had more in its hands.
    eventually("the pool is full", || (pool.progress().done >= 8).then_some(()));
    for read in 0..100 {
        let made = made.load(Ordering::SeqCst);
        assert!(made <= read + 8 + 32, "{made} were made when {read} were read");
        assert_eq!(results.next().unwrap().result.unwrap().0.len(), SIZE);
    }
    drop(results);
    let task = pool.submit("", 0).unwrap();
    assert_eq!(task.wait().unwrap().0.len(), SIZE, "nobody reads: nothing is held up");
}

#[test]
fn tasks_whose_results_nobody_reads_keep_their_places() {
    let pool = Pool::of(|number: i64| Ok(number)).workers(1).queue(1);
    let (pool, mut results) = pool.start_with_results().unwrap();
    (0..2).for_each(|number| drop(pool.submit("", number).unwrap()));
    eventually("both have ended", || (pool.progress().done == 2).then_some(()));
    assert!(matches!(pool.try_submit("", 2), Err(SendError::Full(2))));
    assert!(results.next().is_some());
    assert!(pool.try_submit("", 2).is_ok());
}

#[test]
fn limits_that_threads_cannot_keep_are_refused() {
    let second = Duration::from_secs(1);
    let of = || Pool::of(|number: i64| Ok(number)).workers(1);
    for pool in [of().timeout(second), of().memory_limit(1 << 30), of().grace(second)] {
        let Err(error) = pool.start() else { panic!("it should refuse") };
        assert!(matches!(error, StartError::NeedsProcesses { .. }), "{error}");
    }
    let pool = of().start().unwrap();
    let refused = pool.submit_with(Submission::new(1).timeout(second)).err().unwrap();
    assert!(refused.to_string().contains("a timeout needs workers in processes"), "{refused}");
    let none = of().workers(0).start().err().unwrap();
    assert!(none.to_string().contains("found 0 workers"), "{none}");
}
