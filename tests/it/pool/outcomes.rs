//! Every task ends once, and as its function says.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use drpipe::pool::{Pool, Submission, TaskError};
use drpipe::prelude::*;

use super::gated;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Frame {
    name: String,
    counts: Buffer<f32>,
}

impl Data for Frame {
    const TYPE: &'static str = "tests/Frame/1";
    fn origin(&self) -> Option<String> {
        Some(self.name.clone())
    }
}

#[test]
fn a_task_returns_what_its_function_returns() {
    let pool = Pool::of(|number: i64| Ok(number * number)).workers(2).start().unwrap();
    let tasks: Vec<_> = (0..100).map(|number| pool.submit("", number).unwrap()).collect();
    let squares: Vec<i64> = tasks.into_iter().map(|task| task.wait().unwrap()).collect();
    assert_eq!(squares, (0..100).map(|number| number * number).collect::<Vec<_>>());
    let report = pool.drain().unwrap();
    assert_eq!((report.exit_code, report.step("WORK").unwrap().counts.done), (0, 100));
}

#[test]
fn falsy_and_unit_results_are_results() {
    let numbers = Pool::of(|number: i64| Ok(number)).workers(1).start().unwrap();
    assert_eq!(numbers.submit("", 0).unwrap().wait(), Ok(0));
    let texts = Pool::of(|_: ()| Ok(String::new())).workers(1).start().unwrap();
    assert_eq!(texts.submit("", ()).unwrap().wait(), Ok(String::new()));
    let nothing = Pool::of(|_: String| Ok(())).workers(1).start().unwrap();
    assert_eq!(nothing.submit("", String::new()).unwrap().wait(), Ok(()));
}

#[test]
fn arrays_go_and_come_back() {
    let double = |frame: Frame| {
        let counts: Vec<f32> = frame.counts.iter().map(|count| count * 2.0).collect();
        Ok(Frame { name: frame.name, counts: counts.into() })
    };
    let pool = Pool::of(double).workers(1).start().unwrap();
    let frame = Frame { name: "a.fits".into(), counts: vec![1.5; 500_000].into() };
    let task = pool.submit("", frame).unwrap();
    assert_eq!(task.name(), Some("a.fits"), "the value names it");
    let doubled = task.wait().unwrap();
    assert_eq!(doubled.counts.len(), 500_000);
    assert!(doubled.counts.iter().all(|count| *count == 3.0));
}

#[test]
fn a_failure_is_the_tasks_own() {
    let pool = Pool::of(|text: String| -> Result<i64> { Ok(text.parse()?) });
    let pool = pool.workers(1).start().unwrap();
    let (bad, good) = (pool.submit("b", "x".into()).unwrap(), pool.submit("", "7".into()).unwrap());
    assert_eq!(bad.name(), Some("b"));
    let Err(TaskError::Failed(failure)) = bad.wait() else { panic!("it should have failed") };
    assert_eq!(failure.to_string(), "invalid digit found in string");
    assert_eq!(good.wait(), Ok(7));
    assert_eq!(pool.drain().unwrap().exit_code, 1);
}

#[test]
fn a_panic_costs_its_own_task_only() {
    let pool = Pool::of(|number: i64| {
        assert!(number != 3, "three");
        Ok(number)
    });
    let pool = pool.workers(1).start().unwrap();
    let tasks: Vec<_> = (1..=5).map(|number| pool.submit("", number).unwrap()).collect();
    for (number, task) in (1..).zip(tasks) {
        match task.wait() {
            Err(TaskError::Panicked(failure)) => {
                assert_eq!(number, 3);
                assert!(failure.to_string().contains("three"), "{failure}");
            }
            result => assert_eq!(result, Ok(number)),
        }
    }
}

#[test]
fn a_failed_task_is_tried_again_and_a_permanent_failure_is_not() {
    let calls = Arc::new(AtomicI64::new(0));
    let counted = Arc::clone(&calls);
    let pool = Pool::of(move |is_permanent: i64| {
        let calls = counted.fetch_add(1, Ordering::SeqCst) + 1;
        match is_permanent {
            1 => Err(Failure::permanent("never")),
            _ if calls < 3 => Err(Failure::retryable("not yet")),
            _ => Ok(calls),
        }
    });
    let pool = pool.workers(1).retries(2, Duration::ZERO).start().unwrap();
    assert_eq!(pool.submit("", 0).unwrap().wait(), Ok(3));
    let never = pool.submit("", 1).unwrap().wait();
    assert_eq!(never, Err(TaskError::Failed(Failure::permanent("never"))));
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

#[test]
fn results_come_in_the_order_of_completion() {
    let order = [2, 0, 3, 1];
    let barriers: Arc<[Barrier]> = (0..4).map(|_| Barrier::new(2)).collect();
    let passed = Arc::clone(&barriers);
    let pool = Pool::of(move |number: i64| {
        passed[number as usize].wait();
        Ok(number)
    });
    let (pool, mut results) = pool.workers(4).start_with_results().unwrap();
    for number in 0..4 {
        pool.submit(format!("task {number}"), number).unwrap();
    }
    for number in order {
        barriers[number as usize].wait();
        let finished = results.next().unwrap();
        assert_eq!(finished.name.as_deref(), Some(format!("task {number}").as_str()));
        assert_eq!(finished.result, Ok(number));
    }
    pool.close();
    assert_eq!(results.next(), None);
}

#[test]
fn a_task_may_be_waited_for_although_its_result_was_read() {
    let (pool, mut results) = Pool::of(|n: i64| Ok(n)).workers(1).start_with_results().unwrap();
    let task = pool.submit("", 7).unwrap();
    assert_eq!(results.next().unwrap().result, Ok(7));
    assert!(task.is_done());
    assert_eq!(task.wait_for(Duration::ZERO), Some(Ok(7)));
    assert_eq!(task.wait(), Ok(7));
}

#[test]
fn a_wait_ends_after_its_time_and_the_task_goes_on() {
    let (pool, keeper) = gated();
    let pool = pool.workers(1).start().unwrap();
    let task = pool.submit("", 1).unwrap();
    assert_eq!(task.wait_for(Duration::from_millis(1)), None);
    assert!(!task.is_done());
    keeper.let_go(1);
    assert_eq!(task.wait(), Ok(1));
}

#[test]
fn a_dropped_task_goes_on() {
    let (pool, keeper) = gated();
    let (pool, mut results) = pool.workers(1).start_with_results().unwrap();
    drop(pool.submit("dropped", 1).unwrap());
    assert_eq!(keeper.begun(), 1);
    keeper.let_go(1);
    assert_eq!(results.next().unwrap().name.as_deref(), Some("dropped"));
    assert_eq!(pool.progress().done, 1);
}

#[test]
fn eight_threads_submit_and_each_task_ends_once() {
    const EACH: i64 = 2_500;
    let fails = |number: i64| number % 7 == 0;
    let pool = Pool::of(move |number: i64| {
        if fails(number) { Err(Failure::permanent(number.to_string())) } else { Ok(-number) }
    });
    let (pool, results) = pool.workers(2..=3).queue(100).start_with_results().unwrap();
    let pool = &pool;
    let ended = std::thread::scope(|scope| {
        let submit = |first: i64| {
            scope.spawn(move || {
                let of = |number: i64| Submission::new(number).name(number.to_string());
                let mine = first * EACH..(first + 1) * EACH;
                mine.for_each(|number| drop(pool.submit_with(of(number)).unwrap()));
            })
        };
        let threads: Vec<_> = (0..8).map(submit).collect();
        let reader = scope.spawn(move || {
            let mut ended = BTreeMap::new();
            for finished in results {
                let number: i64 = finished.name.unwrap().parse().unwrap();
                assert_eq!(finished.result.is_err(), fails(number));
                assert_eq!(finished.result.unwrap_or(-number), -number);
                assert_eq!(ended.insert(number, ()), None, "{number} has ended twice");
            }
            ended.len()
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        pool.close();
        reader.join().unwrap()
    });
    assert_eq!(ended as i64, 8 * EACH);
    let progress = pool.progress();
    assert_eq!((progress.submitted, progress.open), (8 * EACH as u64, 0));
    assert_eq!(progress.failed, (0..8 * EACH).filter(|number| fails(*number)).count() as u64);
    assert_eq!(progress.done + progress.failed, progress.submitted);
}
