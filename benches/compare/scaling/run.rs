//! The pipeline that is measured: tasks, their workers, arrivals.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use drpipe::pipeline::{Mode, Pipeline, Verdict};
use drpipe::prelude::*;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use super::counters::{Costs, Counters};
use crate::{in_python, processes, rate};

/// Where the workers are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Place {
    Threads,
    Processes,
    Python,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Queue {
    Default,
    Wide,
    One,
}

/// The pipeline: workers of the step that does the tasks, and what stands around it.
#[derive(Debug, Clone, Copy)]
struct Setup<'a> {
    place: Place,
    workers: usize,
    queue: Queue,
    /// Whether the threads' use of the processor is counted.
    counted: bool,
    /// The workers of the steps beside the pipeline, which get nothing.
    idle: &'a [usize],
}

/// So many tasks of one length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tasks {
    pub micros: i64,
    pub count: usize,
}

/// Uses the processor for so long. Time in which others had it does not count, so that
/// the tasks of a run are the same work on any number of threads.
pub fn work(micros: i64) {
    if micros > 0 {
        let end = spent(ClockId::ThreadCPUTime) + Duration::from_micros(micros.unsigned_abs());
        while spent(ClockId::ThreadCPUTime) < end {
            std::hint::spin_loop();
        }
    }
}

/// What tasks took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// Messages a second.
    pub rate: f64,
    /// Processor time of this program for a message, in microseconds.
    pub cpu: f64,
}

/// An instant, by the clock and by the processor time of this program.
#[derive(Clone, Copy)]
pub struct Mark {
    at: Instant,
    cpu: Duration,
}

impl Mark {
    pub fn now() -> Self {
        Self { at: Instant::now(), cpu: spent(ClockId::ProcessCPUTime) }
    }

    /// The pace of so many messages from here to the other mark.
    pub fn pace(self, count: usize, end: Self) -> Pace {
        let cpu = (end.cpu - self.cpu).as_secs_f64() * 1e6 / count as f64;
        Pace { rate: rate(count, end.at - self.at), cpu }
    }
}

fn spent(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// When tasks of one length begin and end, in the run under way.
#[derive(Default)]
struct Marks {
    starts: Vec<Mark>,
    ends: Vec<Mark>,
    counters: Vec<Counters>,
}

static MARKS: Mutex<Marks> =
    Mutex::new(Marks { starts: Vec::new(), ends: Vec::new(), counters: Vec::new() });

/// Sends the length of each task; tasks of another length only after those before have arrived.
#[derive(Deserialize, JsonSchema)]
pub struct SendTasks {
    tasks: Vec<Tasks>,
    counted: bool,
    #[serde(skip)]
    sent: usize,
    #[serde(skip)]
    over: usize,
}

impl Producer for SendTasks {
    type Out = i64;

    fn next(&mut self, out: &mut Emitter<i64>) -> Result<Next> {
        let Some(tasks) = self.tasks.get(self.over) else { return Ok(Next::Done) };
        if self.sent == tasks.count {
            let last = self.over + 1 == self.tasks.len();
            if !last && MARKS.lock().unwrap().ends.len() == self.over {
                return Ok(Next::Idle(Duration::from_micros(200)));
            }
            (self.over, self.sent) = (self.over + 1, 0);
            return Ok(Next::More);
        }
        if self.sent == 0 {
            let mut marks = MARKS.lock().unwrap();
            if self.counted {
                marks.counters.push(Counters::read());
            }
            marks.starts.push(Mark::now());
        }
        self.sent += 1;
        out.send(tasks.micros)?;
        Ok(Next::More)
    }
}

/// Does what a message asks for.
#[derive(Deserialize, JsonSchema)]
pub struct Work {}

impl Stage for Work {
    type In = i64;
    type Out = i64;

    fn run(&mut self, micros: i64, out: &mut Emitter<i64>) -> Result<()> {
        work(micros);
        out.send(micros)
    }
}

/// Sees that all tasks of one length have been done.
#[derive(Deserialize, JsonSchema)]
pub struct Arrive {
    tasks: Vec<Tasks>,
    counted: bool,
    #[serde(skip)]
    arrived: usize,
    #[serde(skip)]
    over: usize,
}

impl Arrive {
    /// After so many arrivals all workers are still at work.
    fn counted(count: usize) -> usize {
        count - count / 5
    }
}

impl Consumer for Arrive {
    type In = i64;

    fn run(&mut self, _: i64) -> Result<()> {
        self.arrived += 1;
        let count = self.tasks[self.over].count;
        if self.counted && self.arrived == Self::counted(count) {
            MARKS.lock().unwrap().counters.push(Counters::read());
        }
        if self.arrived == count {
            MARKS.lock().unwrap().ends.push(Mark::now());
            (self.over, self.arrived) = (self.over + 1, 0);
        }
        Ok(())
    }
}

pub fn register(registry: &mut Registry) {
    registry.producer::<SendTasks>("ScalingSend");
    registry.stage::<Work>("ScalingWork");
    registry.consumer::<Arrive>("ScalingArrive");
}

/// The same as [`Work`].
const MODULE: &str = "
from time import thread_time_ns

class Work:
    def run(self, micros: int) -> int:
        if micros:
            end = thread_time_ns() + 1000 * micros
            while thread_time_ns() < end:
                pass
        return micros
";

/// The pace of the tasks of each length.
pub fn paces(place: Place, workers: usize, queue: Queue, tasks: &[Tasks]) -> Vec<Pace> {
    let marks = run(&Setup { place, workers, queue, counted: false, idle: &[] }, tasks);
    let times = marks.starts.iter().zip(&marks.ends);
    tasks.iter().zip(times).map(|(tasks, (start, end))| start.pace(tasks.count, *end)).collect()
}

/// What each message costs, by thread: on worker threads, with `idle` steps beside the pipeline
/// that have so many workers and get nothing.
pub fn costs(workers: usize, queue: Queue, tasks: Tasks, idle: &[usize]) -> Costs {
    let setup = Setup { place: Place::Threads, workers, queue, counted: true, idle };
    let marks = run(&setup, &[tasks]);
    marks.counters[1].since(&marks.counters[0], Arrive::counted(tasks.count))
}

fn run(setup: &Setup<'_>, tasks: &[Tasks]) -> Marks {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("scaling_work.py"), MODULE).unwrap();
    let file = folder.path().join("pipeline.json");
    let text = config(folder.path(), setup, &json!(tasks));
    std::fs::write(&file, text.to_string()).unwrap();
    *MARKS.lock().unwrap() = Marks::default();
    let pipeline = Pipeline::load(&file, &processes::registry(), &[]).unwrap();
    assert_eq!(pipeline.run(Mode::Threads).unwrap().verdict, Verdict::Done);
    std::mem::take(&mut MARKS.lock().unwrap())
}

fn config(folder: &Path, setup: &Setup<'_>, tasks: &Value) -> Value {
    let Setup { place, workers, queue, counted, idle } = *setup;
    let limited = |mut step: Value| {
        match queue {
            Queue::Default => (),
            Queue::Wide => step["queue_limit"] = json!(4096),
            Queue::One => step["queue_limit"] = json!(1),
        }
        step
    };
    let mut stage = json!({ "name": "WORK", "class": "ScalingWork", "next_steps": ["END"] });
    match place {
        Place::Threads => stage["nb_thread"] = json!(workers),
        Place::Processes => stage["nb_process"] = json!(workers),
        Place::Python => {
            stage["nb_process"] = json!(workers);
            stage["module"] = json!("scaling_work");
            stage["class"] = json!("Work");
        }
    }
    let first: &[&str] = if idle.is_empty() { &["WORK"] } else { &["WORK", "IDLE0"] };
    let params = json!({ "tasks": tasks, "counted": counted });
    let mut stages = vec![limited(stage)];
    for (n, workers) in idle.iter().enumerate() {
        let last = n + 1 == idle.len();
        let next = if last { "END".to_owned() } else { format!("IDLE{}", n + 1) };
        stages.push(json!({ "name": format!("IDLE{n}"), "class": "ScalingWork",
                            "nb_thread": workers, "next_steps": [next] }));
    }
    json!({
        "python": in_python::interpreter(), "pythonpath": folder,
        "producer": { "name": "SEND", "class": "ScalingSend", "params": params, "next_steps": first },
        "stagers": stages,
        "consumer": limited(json!({ "name": "END", "class": "ScalingArrive", "params": params })),
    })
}
