//! Tasks are cancelled, pools paused and resized while they work.

use drpipe::pool::{Pool, TaskError};

use super::gated;
use crate::support::processes::eventually;

#[test]
fn a_task_that_waits_is_cancelled_and_one_that_a_worker_has_is_not() {
    let (pool, keeper) = gated();
    let pool = pool.workers(1).start().unwrap();
    let tasks: Vec<_> = (0..3).map(|number| pool.submit("", number).unwrap()).collect();
    assert_eq!(keeper.begun(), 0);
    assert!(!tasks[0].cancel());
    assert!(tasks[2].cancel());
    assert!(tasks[2].cancel(), "it stays so");
    keeper.let_go(2);
    let results: Vec<_> = tasks.into_iter().map(|task| task.wait()).collect();
    assert_eq!(results, [Ok(0), Ok(1), Err(TaskError::Cancelled)]);
    assert_eq!(pool.progress().cancelled, 1);
}

#[test]
fn a_task_that_has_ended_is_not_cancelled() {
    let pool = Pool::of(|number: i64| Ok(number)).workers(1).start().unwrap();
    let task = pool.submit("", 1).unwrap();
    eventually("it ends", || task.is_done().then_some(()));
    assert!(!task.cancel());
    task.cancel_running();
    assert_eq!(task.wait(), Ok(1));
}

#[test]
fn a_thread_goes_on_with_a_cancelled_task_and_its_result_is_not_taken() {
    let (pool, keeper) = gated();
    let pool = pool.workers(1).start().unwrap();
    let task = pool.submit("", 1).unwrap();
    assert_eq!(keeper.begun(), 1);
    task.cancel_running();
    assert!(!task.is_done());
    keeper.let_go(2);
    assert_eq!(task.wait(), Err(TaskError::Cancelled));
    assert_eq!(pool.submit("", 2).unwrap().wait(), Ok(2));
}

#[test]
fn a_paused_pool_takes_tasks_and_begins_none() {
    let (pool, keeper) = gated();
    let pool = pool.workers(2).start().unwrap();
    let first = pool.submit("", 1).unwrap();
    assert_eq!(keeper.begun(), 1);
    pool.pause().unwrap();
    let second = pool.submit("", 2).unwrap();
    keeper.let_go(1);
    assert_eq!(first.wait(), Ok(1), "what a worker has goes on");
    // The answer comes from the router: what it begins it has begun.
    assert!(second.cancel(), "no worker has it");
    let third = pool.submit("", 3).unwrap();
    pool.resume().unwrap();
    assert_eq!(keeper.begun(), 3);
    keeper.let_go(1);
    assert_eq!(third.wait(), Ok(3));
}

#[test]
fn workers_are_added_and_leave() {
    let (pool, keeper) = gated();
    let pool = pool.workers(1).start().unwrap();
    let tasks: Vec<_> = (0..6).map(|number| pool.submit("", number).unwrap()).collect();
    keeper.begun();
    pool.set_workers(4).unwrap();
    // All four are at work at the same time.
    (0..3).for_each(|_| assert!(keeper.begun() > 0));
    pool.set_workers(1).unwrap();
    keeper.let_go(6);
    tasks.into_iter().for_each(|task| assert!(task.wait().is_ok()));
    let report = pool.drain().unwrap();
    assert_eq!(report.step("WORK").unwrap().workers, 4);
    assert_eq!(report.exit_code, 0);
}

#[test]
fn a_pool_grows_by_itself_when_tasks_wait() {
    let (pool, keeper) = gated();
    let pool = pool.workers(1..=3).start().unwrap();
    let tasks: Vec<_> = (0..3).map(|number| pool.submit("", number).unwrap()).collect();
    // Each of them begins although none has ended.
    let mut begun = [keeper.begun(), keeper.begun(), keeper.begun()];
    begun.sort_unstable();
    assert_eq!(begun, [0, 1, 2]);
    keeper.let_go(3);
    tasks.into_iter().for_each(|task| assert!(task.wait().is_ok()));
}

#[test]
fn a_number_of_workers_that_cannot_be_is_refused() {
    let pool = Pool::of(|number: i64| Ok(number)).workers(1).start().unwrap();
    pool.submit("", 1).unwrap().wait().unwrap();
    let error = pool.set_workers(0).err().unwrap().to_string();
    assert!(error.contains("expected 1 to 256 workers, found 0"), "{error}");
}
