//! How pools end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use drpipe::pipeline::SendError;
use drpipe::pool::{Pool, TaskError};
use drpipe::prelude::*;

use super::gated;

#[test]
fn drain_does_everything_and_takes_no_more() {
    let pool = Pool::of(|number: i64| Ok(number)).workers(2).start().unwrap();
    let tasks: Vec<_> = (0..1000).map(|number| pool.submit("", number).unwrap()).collect();
    let report = pool.drain().unwrap();
    assert_eq!(report.step("WORK").unwrap().counts.done, 1000);
    assert!(tasks.iter().all(|task| task.is_done()));
    let results: Vec<_> = tasks.into_iter().map(|task| task.wait().unwrap()).collect();
    assert_eq!(results, (0..1000).collect::<Vec<_>>());
}

#[test]
fn drain_needs_no_reader_and_no_resume() {
    const SIZE: usize = 1 << 20;
    let pool = Pool::of(|_: i64| Ok("x".repeat(SIZE))).workers(2).queue(64);
    let (pool, results) = pool.queue_bytes(4 * SIZE as u64).start_with_results().unwrap();
    (0..64).for_each(|number| drop(pool.submit("", number).unwrap()));
    pool.pause().unwrap();
    assert_eq!(pool.drain().unwrap().step("WORK").unwrap().counts.done, 64);
    let lengths: Vec<_> = results.map(|finished| finished.result.unwrap().len()).collect();
    assert_eq!(lengths, [SIZE; 64]);
}

#[test]
fn a_closed_pool_takes_no_more_and_says_so() {
    let pool = Pool::of(|number: i64| Ok(number)).workers(1).start().unwrap();
    let task = pool.submit("", 1).unwrap();
    pool.close();
    let Err(SendError::Closed { value, reason, .. }) = pool.submit("", 2) else {
        panic!("it should be closed")
    };
    assert_eq!((value, reason), (2, None));
    assert_eq!(task.wait(), Ok(1));
    assert_eq!(pool.drain().unwrap().exit_code, 0);
}

#[test]
fn stop_drops_what_waits() {
    let (pool, keeper) = gated();
    let (pool, results) = pool.workers(1).start_with_results().unwrap();
    let tasks: Vec<_> = (0..3).map(|number| pool.submit("", number).unwrap()).collect();
    keeper.begun();
    // The one at work goes on while the pool ends.
    keeper.let_go(1);
    assert_eq!(pool.stop().unwrap().exit_code, 130);
    let ended: Vec<_> = tasks.into_iter().map(|task| task.wait()).collect();
    assert_eq!(ended[1..], [Err(TaskError::Dropped), Err(TaskError::Dropped)]);
    assert_eq!(results.count(), 3, "each of them is told");
}

#[test]
fn the_drop_of_a_pool_stops_it_and_ends_its_tasks() {
    let (pool, keeper) = gated();
    let pool = pool.workers(1).start().unwrap();
    let tasks: Vec<_> = (0..3).map(|number| pool.submit("", number).unwrap()).collect();
    keeper.begun();
    keeper.let_go(1);
    drop(pool);
    assert_eq!(tasks[2].wait_for(std::time::Duration::ZERO), Some(Err(TaskError::Dropped)));
    assert!(!tasks[2].cancel());
}

#[test]
fn a_submission_that_waits_ends_with_the_pool() {
    let (pool, keeper) = gated();
    let pool = pool.workers(1).queue(0).start().unwrap();
    let _first = pool.submit("", 1).unwrap();
    keeper.begun();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pool.submit("", 2));
        pool.control().stop_now();
        keeper.let_go(1);
        // What is dropped makes room a moment before the pool is closed.
        match waiting.join().unwrap() {
            Ok(task) => assert_eq!(task.wait(), Err(TaskError::Dropped)),
            Err(error) => assert!(matches!(error, SendError::Closed { value: 2, .. })),
        }
    });
}

/// Fails to begin.
#[derive(Deserialize, JsonSchema)]
struct Broken {}

impl Stage for Broken {
    type In = i64;
    type Out = i64;
    fn init(&mut self, _: &Context) -> Result<()> {
        Err(Failure::permanent("no lamp"))
    }
    fn run(&mut self, _: i64, _: &mut Emitter<'_, i64>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_stage_that_the_registry_lacks_is_refused() {
    let error = Pool::processes::<Broken>(&Registry::new()).start().err().unwrap();
    assert!(error.to_string().contains("Broken: add it with Registry::stage"), "{error}");
}

#[test]
fn a_pool_may_be_dropped_by_its_own_task() {
    let is_gone = Arc::new(AtomicBool::new(false));
    let gone = Arc::clone(&is_gone);
    let (give, given) = std::sync::mpsc::channel::<Pool<i64, i64>>();
    let given = std::sync::Mutex::new(given);
    let pool = Pool::of(move |number: i64| {
        drop(given.lock().unwrap().recv().unwrap());
        gone.store(true, Ordering::SeqCst);
        Ok(number)
    });
    let pool = pool.workers(1).start().unwrap();
    let task = pool.submit("", 1).unwrap();
    give.send(pool).unwrap();
    assert_eq!(task.wait(), Err(TaskError::Dropped));
    while !is_gone.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
}
