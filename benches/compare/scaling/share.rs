//! How much of the cores two workers use for their tasks, with input always waiting.

use super::run::{Pace, Place, Queue, Tasks, costs, paces};
use super::{median, peers};
use crate::{Line, RUNS};

const WORKERS: usize = 2;
/// How long the cores need, in microseconds: so long that the start of a run counts for less than a
/// hundredth.
const TIME: i64 = 1_200_000;

pub fn share() -> Vec<Line> {
    let mut lines = Vec::new();
    for (micros, bar) in [(10, 0.90), (100, 0.97), (300, 0.98), (1000, 0.99)] {
        let tasks = Tasks { micros, count: (WORKERS as i64 * TIME / micros) as usize };
        let ours = |queue| paces(Place::Threads, WORKERS, queue, &[tasks])[0];
        let mut shares = [const { Vec::new() }; 6];
        for _ in 0..RUNS {
            let cores = peers::nothing_between(tasks, WORKERS);
            let of_cores = |pace: Pace| pace.rate / cores.rate;
            let [busy, of_all] = in_tasks(tasks);
            let round = [
                of_cores(ours(Queue::Default)),
                of_cores(ours(Queue::Wide)),
                of_cores(peers::channel(tasks, WORKERS)),
                of_cores(peers::rayon(tasks, WORKERS)),
                busy,
                of_all,
            ];
            shares.iter_mut().zip(round).for_each(|(shares, share)| shares.push(share));
        }
        let [default, wide, channel, rayon, busy, of_all] = shares.map(median);
        let what = format!("{micros} us on 2 threads, share of what the cores can do");
        lines.push(Line::new(what, default, "").at_least(bar));
        for (what, share) in [
            ("with queue_limit 4096", wide),
            ("crossbeam-channel (bounded 100)", channel),
            ("rayon", rayon),
            ("in tasks, of the workers' time but that others had", busy),
            ("in tasks, of the processor time of all threads", of_all),
        ] {
            lines.push(Line::new(format!("  {what}"), share, ""));
        }
    }
    lines
}

/// The part of two times that went into tasks: of the workers' time, without that in which they were
/// kept from running (what is missing they have waited for input, or used for something else),
/// and of the processor time of all threads.
fn in_tasks(tasks: Tasks) -> [f64; 2] {
    let costs = costs(WORKERS, Queue::Default, tasks, &[]);
    let workers = costs.wall * WORKERS as f64 - costs.of("WORK").queued;
    [workers, costs.total().cpu].map(|time| tasks.micros as f64 / time)
}
