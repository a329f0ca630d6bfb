//! Pools that need a program of their own, for tests/it/pool/processes.rs: worker processes are the
//! program itself, started anew, which a test cannot be; and what is counted of a process must not
//! be another test's. The argument names what it does.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "it fails by panicking, and its test reads why"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use drpipe::pipeline;
use drpipe::pool::{Builder, Pool, Submission, Task, TaskError};
use drpipe::prelude::*;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything takes.
const FOREVER: Duration = Duration::from_secs(600);

/// Does what the task says.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Obedient {
    /// Why it cannot begin.
    #[serde(default)]
    broken: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
enum Order {
    Return(i64),
    /// Works for so many microseconds, then returns the number.
    Work(u64, i64),
    /// Writes the number of its process to the file, and never returns.
    Hang(String),
    /// As `Hang`, unless the file is there: then it returns 1.
    HangOnce(String),
    /// Takes so many bytes of memory, and then hangs.
    Fill(usize),
    Emit(Vec<i64>),
    Sum(Buffer<u8>),
}

impl Data for Order {
    const TYPE: &'static str = "tests/Order/1";
}

impl Stage for Obedient {
    type In = Order;
    type Out = i64;

    fn init(&mut self, _: &Context) -> Result<()> {
        self.broken.take().map_or(Ok(()), |why| Err(Failure::permanent(why)))
    }

    fn run(&mut self, order: Order, out: &mut Emitter<'_, i64>) -> Result<()> {
        match order {
            Order::Return(number) => out.send(number),
            Order::Work(microseconds, number) => {
                let (start, time) = (Instant::now(), Duration::from_micros(microseconds));
                while start.elapsed() < time {}
                out.send(number)
            }
            Order::HangOnce(file) if Path::new(&file).exists() => out.send(1),
            Order::Hang(file) | Order::HangOnce(file) => {
                let whole = format!("{file}.new");
                fs::write(&whole, std::process::id().to_string())?;
                fs::rename(whole, file)?;
                hang()
            }
            Order::Fill(bytes) => {
                let filled = vec![1_u8; bytes];
                std::hint::black_box(&filled);
                hang()
            }
            Order::Emit(numbers) => numbers.into_iter().try_for_each(|number| out.send(number)),
            Order::Sum(bytes) => out.send(bytes.iter().map(|byte| i64::from(*byte)).sum()),
        }
    }
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

fn pool() -> Builder<Order, i64> {
    Pool::processes::<Obedient>(&registry())
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.stage::<Obedient>("Obedient");
    registry
}

/// The number that a task has written to the file.
fn written(file: &str) -> i32 {
    let start = Instant::now();
    loop {
        if let Ok(text) = fs::read_to_string(file) {
            return text.parse().unwrap();
        }
        assert!(start.elapsed() < FOREVER, "{file} was not written");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn kill(process: i32) {
    // It may have gone already.
    let _ = kill_process(Pid::from_raw(process).unwrap(), Signal::KILL);
}

fn ended(task: Task<i64>) -> std::result::Result<i64, TaskError> {
    task.wait_for(FOREVER).unwrap()
}

fn killed() {
    let pool = pool().workers(2).start().unwrap();
    let hung = pool.submit("", Order::Hang("a".into())).unwrap();
    let others: Vec<_> = (0..50).map(|n| pool.submit("", Order::Return(n)).unwrap()).collect();
    kill(written("a"));
    let Err(TaskError::Lost(reason)) = ended(hung) else { panic!("it should be lost") };
    assert!(reason.contains("SIGKILL"), "{reason}");
    for (number, task) in (0..).zip(others) {
        assert_eq!(ended(task), Ok(number));
    }
    assert_eq!(pool.drain().unwrap().exit_code, 1);
}

fn retried() {
    let pool = pool().workers(1).retries(1, Duration::ZERO).start().unwrap();
    let task = pool.submit("", Order::HangOnce("a".into())).unwrap();
    kill(written("a"));
    assert_eq!(ended(task), Ok(1));
    assert_eq!(pool.drain().unwrap().exit_code, 0);
}

fn limits() {
    let second = Duration::from_secs(1);
    let pool = pool().workers(2).timeout(second).grace(Duration::ZERO).start().unwrap();
    let hang = |file: &str| Submission::new(Order::Hang(file.into()));
    let short = Duration::from_millis(50);
    let own = pool.submit_with(hang("a").timeout(short)).unwrap();
    assert_eq!(ended(own), Err(TaskError::TimedOut(short)));
    let longer = pool.submit_with(hang("b").timeout(FOREVER)).unwrap();
    assert_eq!(ended(longer), Err(TaskError::TimedOut(second)), "the pool's limit holds too");
    let good = pool.submit_with(Submission::new(Order::Return(7)).timeout(FOREVER)).unwrap();
    assert_eq!(ended(good), Ok(7));
}

fn memory() {
    let pool = pool().workers(1).memory_limit(64 << 20).grace(Duration::ZERO).start().unwrap();
    let task = pool.submit("", Order::Fill(256 << 20)).unwrap();
    let Err(TaskError::Lost(reason)) = ended(task) else { panic!("it should be lost") };
    assert!(reason.contains("MiB"), "{reason}");
    assert_eq!(ended(pool.submit("", Order::Return(7)).unwrap()), Ok(7));
}

fn cancelled() {
    let pool = pool().workers(1).grace(Duration::ZERO).start().unwrap();
    let task = pool.submit("", Order::Hang("a".into())).unwrap();
    written("a");
    assert!(!task.cancel());
    task.cancel_running();
    assert_eq!(ended(task), Err(TaskError::Cancelled));
    assert_eq!(ended(pool.submit("", Order::Return(7)).unwrap()), Ok(7));
}

fn emitted() {
    let pool = pool().workers(1).start().unwrap();
    for numbers in [vec![], vec![1, 2]] {
        let count = numbers.len();
        let task = pool.submit("", Order::Emit(numbers)).unwrap();
        let Err(TaskError::Failed(failure)) = ended(task) else { panic!("it should fail") };
        assert!(failure.to_string().contains(&format!("{count} values, expected 1")), "{failure}");
    }
    assert_eq!(ended(pool.submit("", Order::Emit(vec![0])).unwrap()), Ok(0));
}

fn arrays() {
    const SIZE: usize = 1 << 20;
    let pool = pool().workers(2).queue(8).start().unwrap();
    let order = |byte| Order::Sum(vec![byte; SIZE].into());
    let tasks: Vec<_> = (0..100).map(|byte| pool.submit("", order(byte)).unwrap()).collect();
    for (byte, task) in (0..).zip(tasks) {
        assert_eq!(ended(task), Ok(byte * SIZE as i64));
    }
}

fn broken() {
    let params = serde_json::json!({"broken": "no lamp"});
    let pool = pool().workers(1).params(params).start().unwrap();
    let task = pool.submit("", Order::Return(1));
    // The run may have ended already.
    let reason = match task {
        Ok(task) => ended(task).err().unwrap().to_string(),
        Err(error) => error.to_string(),
    };
    assert!(reason.contains("no lamp"), "{reason}");
    assert_eq!(pool.drain().unwrap().exit_code, 3);
    let unknown = serde_json::json!({"brokn": "no lamp"});
    let error = self::pool().params(unknown).start().err().unwrap().to_string();
    assert!(error.contains("the parameters of \"Obedient\"") && error.contains("brokn"), "{error}");
}

fn children() -> Vec<i32> {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let lists = threads.flatten().map(|thread| fs::read_to_string(thread.path().join("children")));
    let lists: Vec<String> = lists.flatten().collect();
    let numbers = lists.iter().flat_map(|list| list.split_whitespace());
    numbers.filter_map(|number| number.parse().ok()).collect()
}

/// Kills a random worker every 50 ms while 20 000 tasks are done.
fn many() {
    const TASKS: i64 = 20_000;
    let pool = pool().workers(2..=6).queue(500);
    let (pool, results) = pool.start_with_results().unwrap();
    let is_over = AtomicBool::new(false);
    let (mut done, mut lost) = (BTreeSet::new(), BTreeSet::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..TASKS {
                pool.submit(number.to_string(), Order::Work(200, number)).unwrap();
            }
            pool.close();
        });
        scope.spawn(|| {
            let mut random = ChaCha8Rng::seed_from_u64(u64::from(std::process::id()));
            while !is_over.load(Ordering::SeqCst) {
                let children = children();
                if !children.is_empty() {
                    kill(children[random.random_range(0..children.len())]);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        for finished in results {
            let number: i64 = finished.name.unwrap().parse().unwrap();
            match finished.result {
                Ok(result) => assert!(result == number && done.insert(number)),
                Err(TaskError::Lost(_)) => assert!(lost.insert(number)),
                Err(other) => panic!("{number}: {other}"),
            }
        }
        is_over.store(true, Ordering::SeqCst);
    });
    assert!(done.is_disjoint(&lost));
    assert_eq!((done.len() + lost.len()) as i64, TASKS);
    let progress = pool.progress();
    assert_eq!((progress.done, progress.failed), (done.len() as u64, lost.len() as u64));
    println!("{} done, {} lost", done.len(), lost.len());
    pool.drain().unwrap();
    assert_eq!(children(), [0; 0]);
}

/// The number of descriptors and threads of this process.
fn held() -> (usize, usize) {
    let count = |what: &str| fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    (count("fd"), count("task"))
}

/// The memory of this process in KiB.
fn resident() -> u64 {
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

/// Pools of threads leave no descriptor, no thread and no memory behind.
fn leaks() {
    use_pools(100);
    let (before, memory_before) = (held(), resident());
    use_pools(1000);
    let after = held();
    assert!(after.0 <= before.0 && after.1 <= before.1, "{before:?}, {after:?}");
    let grown = resident().saturating_sub(memory_before);
    assert!(grown < 8 << 10, "{grown} KiB more than {memory_before} KiB");
}

fn main() {
    pipeline::serve_worker(&registry());
    match std::env::args().nth(1).as_deref() {
        Some("killed") => killed(),
        Some("retried") => retried(),
        Some("limits") => limits(),
        Some("memory") => memory(),
        Some("cancelled") => cancelled(),
        Some("emitted") => emitted(),
        Some("arrays") => arrays(),
        Some("broken") => broken(),
        Some("many") => many(),
        Some("leaks") => leaks(),
        other => panic!("unknown: {other:?}"),
    }
}
