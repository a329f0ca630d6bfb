//! Task pools against the loops that one would write by hand.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use drpipe::pool::Pool;

use crate::processes::{Same, registry};
use crate::{Line, medians, peers, rate};

const WORKERS: usize = 2;
const TASKS: usize = 200_000;
const ROUND_TRIPS: usize = 5_000;

fn threads() -> Pool<i64, i64> {
    Pool::of(|number: i64| Ok(number)).workers(WORKERS).start().unwrap()
}

fn processes() -> Pool<i64, i64> {
    Pool::processes::<Same>(&registry()).workers(WORKERS).start().unwrap()
}

/// Tasks a second: all are submitted one by one, then each is waited for.
fn tasks(pool: &Pool<i64, i64>) -> f64 {
    let start = Instant::now();
    let tasks: Vec<_> = (0..TASKS as i64).map(|n| pool.submit("", n).unwrap()).collect();
    for (number, task) in (0..).zip(tasks) {
        assert_eq!(task.wait(), Ok(number));
    }
    rate(TASKS, start.elapsed())
}

/// The time of one task at a time, in microseconds.
fn round_trip(pool: &Pool<i64, i64>) -> f64 {
    median((0..ROUND_TRIPS as i64).map(|number| {
        let start = Instant::now();
        assert_eq!(pool.submit("", number).unwrap().wait(), Ok(number));
        start.elapsed()
    }))
}

fn median(times: impl Iterator<Item = Duration>) -> f64 {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

/// Rayon's threads as a pool: each task is spawned, and sends its result to a channel of its own.
fn rayon_tasks(pool: &rayon::ThreadPool) -> f64 {
    let start = Instant::now();
    let tasks: Vec<_> = (0..TASKS as i64).map(|number| spawned(pool, number)).collect();
    for (number, task) in (0..).zip(tasks) {
        assert_eq!(task.recv(), Ok(number));
    }
    rate(TASKS, start.elapsed())
}

fn spawned(pool: &rayon::ThreadPool, number: i64) -> mpsc::Receiver<i64> {
    let (sender, receiver) = mpsc::channel();
    pool.spawn(move || sender.send(number).unwrap());
    receiver
}

fn rayon_round_trip(pool: &rayon::ThreadPool) -> f64 {
    median((0..ROUND_TRIPS as i64).map(|number| {
        let start = Instant::now();
        assert_eq!(spawned(pool, number).recv(), Ok(number));
        start.elapsed()
    }))
}

/// One message at a time to a thread and back.
fn crossbeam_round_trip() -> f64 {
    let (to_worker, inputs) = crossbeam_channel::bounded::<i64>(1);
    let (to_end, outputs) = crossbeam_channel::bounded::<i64>(1);
    std::thread::scope(|scope| {
        scope.spawn(move || inputs.iter().for_each(|number| to_end.send(number).unwrap()));
        let trip = |number| {
            let start = Instant::now();
            to_worker.send(number).unwrap();
            assert_eq!(outputs.recv(), Ok(number));
            start.elapsed()
        };
        let time = median((0..ROUND_TRIPS as i64).map(trip));
        drop(to_worker);
        time
    })
}

pub(crate) fn pool() -> Vec<Line> {
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build().unwrap();
    let (on_threads, in_processes) = (threads(), processes());
    let channel = || peers::crossbeam(TASKS, WORKERS, |number| number as i64, |number| number);
    let [threads, processes, by_rayon, by_channel] = medians([
        &|| tasks(&on_threads),
        &|| tasks(&in_processes),
        &|| rayon_tasks(&rayon),
        &channel,
    ]);
    let [thread_trip, process_trip, rayon_trip, channel_trip] = medians([
        &|| round_trip(&on_threads),
        &|| round_trip(&in_processes),
        &|| rayon_round_trip(&rayon),
        &crossbeam_round_trip,
    ]);
    vec![
        Line::new("2 threads, submitted one by one", threads, "tasks/s").at_least(100_000.0),
        Line::new("2 processes, submitted one by one", processes, "tasks/s").at_least(50_000.0),
        Line::new("rayon's spawn, a channel each", by_rayon, "tasks/s"),
        Line::new("crossbeam channels, 2 threads", by_channel, "tasks/s"),
        Line::new("2 threads, round trip p50", thread_trip, "us").at_most(100.0),
        Line::new("2 processes, round trip p50", process_trip, "us").at_most(150.0),
        Line::new("rayon, round trip p50", rayon_trip, "us"),
        Line::new("crossbeam channels, round trip p50", channel_trip, "us"),
    ]
}
