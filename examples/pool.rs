//! Functions on workers, and what they return: `cargo run --example pool`
//!
//! Worker processes are this program, started anew: `serve_worker` comes first in `main`.

use std::error::Error;
use std::time::Duration;

use drpipe::pipeline;
use drpipe::pool::{Pool, Submission, TaskError};
use drpipe::prelude::*;

/// Counts of one exposure, in ADU.
#[derive(Serialize, Deserialize)]
struct Frame {
    counts: Buffer<f32>,
}

impl Data for Frame {
    const TYPE: &'static str = "example/Frame/1";
}

fn frame(level: f32) -> Frame {
    Frame { counts: vec![level; 10_000].into() }
}

/// Returns the mean of a frame.
fn mean(frame: &Frame) -> Result<f64> {
    let sum: f64 = frame.counts.iter().map(|count| f64::from(*count)).sum();
    if sum < 0.0 {
        return Err(Failure::permanent(format!("the sum is {sum} ADU, expected 0 or more")));
    }
    Ok(sum / frame.counts.len() as f64)
}

/// The same, for worker processes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Mean {}

impl Stage for Mean {
    type In = Frame;
    type Out = f64;

    fn run(&mut self, input: Frame, out: &mut Emitter<f64>) -> Result<()> {
        let mean = mean(&input)?;
        if mean > 1000.0 {
            // What no thread would survive.
            std::process::abort();
        }
        out.send(mean)
    }
}

fn on_threads() -> Result<(), Box<dyn Error>> {
    let pool = Pool::of(|frame: Frame| mean(&frame)).name("mean").workers(1..=2).start()?;
    let good = pool.submit("n7_0001", frame(100.0))?;
    let bad = pool.submit("n7_0002", frame(-1.0))?;
    println!("n7_0001: {}", good.wait()?);
    if let Err(error) = bad.wait() {
        println!("n7_0002: {error}");
    }
    let report = pool.drain()?;
    println!("exit code {}", report.exit_code);
    Ok(())
}

fn in_processes(registry: &Registry) -> Result<(), Box<dyn Error>> {
    let pool = Pool::processes::<Mean>(registry).workers(2).timeout(Duration::from_secs(60));
    let (pool, results) = pool.start_with_results()?;
    for (number, level) in (1..).zip([100.0, 2000.0, 300.0]) {
        let task = Submission::new(frame(level)).name(format!("n7_000{number}"));
        pool.submit_with(task.timeout(Duration::from_secs(10)))?;
    }
    pool.close();
    // In the order in which they end.
    let mut finished: Vec<_> = results.collect();
    finished.sort_by(|a, b| a.name.cmp(&b.name));
    for task in finished {
        let name = task.name.unwrap_or_default();
        match task.result {
            Ok(mean) => println!("{name}: {mean}"),
            Err(TaskError::Lost(_)) => println!("{name}: its worker died"),
            Err(error) => println!("{name}: {error}"),
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::new();
    registry.stage::<Mean>("Mean");
    pipeline::serve_worker(&registry);
    on_threads()?;
    in_processes(&registry)
}
