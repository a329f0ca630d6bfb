//! The same tasks by hand.

use rayon::prelude::*;

use super::run::{Mark, Pace, Tasks, work};
use crate::peers;

fn paced(count: usize, run: impl FnOnce()) -> Pace {
    let start = Mark::now();
    run();
    start.pace(count, Mark::now())
}

/// From one thread through workers to another.
pub fn channel(tasks: Tasks, workers: usize) -> Pace {
    let work = |micros| {
        work(micros);
        micros
    };
    paced(tasks.count, || {
        peers::crossbeam(tasks.count, workers, |_| tasks.micros, work);
    })
}

/// A loop on rayon's threads.
pub fn rayon(tasks: Tasks, workers: usize) -> Pace {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(workers).build().unwrap();
    paced(tasks.count, || {
        pool.install(|| (0..tasks.count).into_par_iter().for_each(|_| work(tasks.micros)));
    })
}

/// What the cores can do: each thread has its part of the tasks from the start.
pub fn nothing_between(tasks: Tasks, workers: usize) -> Pace {
    let count = tasks.count / workers;
    paced(count * workers, || {
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| (0..count).for_each(|_| work(tasks.micros)));
            }
        });
    })
}
