//! What more workers gain: tasks of several lengths on 1 to 64 workers, against a channel and
//! a loop on rayon with as many threads.

mod counters;
mod idle;
mod peers;
pub mod run;
mod share;
mod table;
mod wakeups;

use run::{Pace, Place, Queue, Tasks};

use crate::{Line, in_python, python};

pub use idle::idle;
pub use share::share;
pub use wakeups::wakeups;

const WORKERS: [usize; 6] = [1, 2, 4, 8, 16, 64];
/// The length of a task in microseconds.
const TASKS: [i64; 4] = [0, 10, 100, 1000];
/// How long a measurement of tasks lasts if no time is lost, in microseconds.
const TIME: i64 = 100_000;
const ROUNDS: usize = 3;

/// The pace of one task on a number of workers.
#[derive(Debug, Clone, Copy)]
struct Cell {
    default: Pace,
    wide: Pace,
    channel: Pace,
    /// None for tasks of no length, which a loop does not even begin.
    rayon: Option<Pace>,
}

fn cores() -> usize {
    std::thread::available_parallelism().unwrap().get()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn tasks(micros: i64, workers: usize, empty: usize) -> Tasks {
    let at_once = workers.min(cores()) as i64;
    let count = (at_once * TIME).checked_div(micros).map_or(empty, |count| count as usize);
    Tasks { micros, count }
}

/// Measures every task on so many workers.
fn measure(place: Place, workers: usize, rounds: usize) -> Vec<Cell> {
    let empty = if place == Place::Python { 50_000 } else { 200_000 };
    let tasks = TASKS.map(|micros| tasks(micros, workers, empty));
    let mut samples = vec![Vec::new(); TASKS.len()];
    for _ in 0..rounds {
        let through = |queue, tasks: &[Tasks]| run::paces(place, workers, queue, tasks);
        // An interpreter takes longer to start than all tasks take: one run does them all.
        let all = (place == Place::Python)
            .then(|| [Queue::Default, Queue::Wide].map(|queue| through(queue, &tasks)));
        for (n, task) in tasks.iter().enumerate() {
            let alone = |queue| through(queue, &[*task])[0];
            let [default, wide] = match &all {
                Some([default, wide]) => [default[n], wide[n]],
                None => [alone(Queue::Default), alone(Queue::Wide)],
            };
            let channel = peers::channel(*task, workers);
            let rayon = (task.micros > 0).then(|| peers::rayon(*task, workers));
            samples[n].push(Cell { default, wide, channel, rayon });
        }
    }
    samples.into_iter().map(middle).collect()
}

fn middle(samples: Vec<Cell>) -> Cell {
    let of = |pace: fn(&Cell) -> Pace| middle_pace(samples.iter().map(pace).collect());
    let rayon: Option<Vec<Pace>> = samples.iter().map(|cell| cell.rayon).collect();
    Cell {
        default: of(|cell| cell.default),
        wide: of(|cell| cell.wide),
        channel: of(|cell| cell.channel),
        rayon: rayon.map(middle_pace),
    }
}

fn middle_pace(paces: Vec<Pace>) -> Pace {
    let of = |value: fn(&Pace) -> f64| median(paces.iter().map(value).collect());
    Pace { rate: of(|pace| pace.rate), cpu: of(|pace| pace.cpu) }
}

/// The cells of a task for each number of workers.
struct Results {
    workers: Vec<usize>,
    /// By number of workers, then by task.
    cells: Vec<Vec<Cell>>,
}

impl Results {
    fn of(place: Place, workers: &[usize], rounds: usize) -> Self {
        let cells = workers.iter().map(|workers| measure(place, *workers, rounds)).collect();
        let results = Self { workers: workers.to_vec(), cells };
        table::print(&results, place == Place::Threads);
        results
    }

    fn at(&self, workers: usize, micros: i64) -> Cell {
        let column = self.workers.iter().position(|known| *known == workers).unwrap();
        let row = TASKS.iter().position(|known| *known == micros).unwrap();
        self.cells[column][row]
    }

    /// How much faster one number of workers does tasks of no length than another.
    fn gain(&self, what: &str, workers: usize, against: usize, bar: f64) -> Line {
        let ratio = self.at(workers, 0).default.rate / self.at(against, 0).default.rate;
        let what = format!("0 us, default queue: {workers} {what} against {against}");
        Line::new(what, ratio, "").at_least(bar)
    }
}

pub fn threads() -> Vec<Line> {
    let results = Results::of(Place::Threads, &WORKERS, ROUNDS);
    let mut lines: Vec<Line> =
        [2, 16, 64].map(|workers| results.gain("threads", workers, 1, 0.9)).into();
    let whole = tasks(10, cores(), 0);
    let rayon = median((0..ROUNDS).map(|_| peers::rayon(whole, cores()).rate).collect());
    let what = format!("10 us, default queue, 16 threads: against rayon on {} threads", cores());
    lines.push(Line::new(what, results.at(16, 10).default.rate / rayon, "").at_least(0.85));
    for workers in [8, 16] {
        let cell = results.at(workers, 0);
        let what = format!("0 us, queue_limit 4096, {workers} threads: against crossbeam-channel");
        let line = Line::new(what, cell.wide.rate / cell.channel.rate, "");
        lines.push(if cores() >= workers { line.at_least(1.0) } else { line });
    }
    lines
}

pub fn processes() -> Vec<Line> {
    let results = Results::of(Place::Processes, &WORKERS, ROUNDS);
    [2, 16].map(|workers| results.gain("processes", workers, 1, 0.85)).into()
}

/// One round: most of the time goes into the start of interpreters.
pub fn steps_in_python() -> Vec<Line> {
    if !in_python::imports("zmq, msgpack") || python::version().is_none() {
        println!("  skipped: {} lacks pyzmq or msgpack", in_python::interpreter().display());
        return Vec::new();
    }
    let results = Results::of(Place::Python, &WORKERS, 1);
    vec![results.gain("Python workers", 16, 4, 0.9)]
}
