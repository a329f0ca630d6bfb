//! What many workers and steps cost that have nothing to do.

use super::counters::Costs;
use super::median;
use super::run::{Queue, Tasks, costs};
use crate::Line;

const STEPS: usize = 900;
const WORKERS: usize = 1000;
/// Steps and workers of the pipeline that works.
const OWN: (usize, usize) = (3, 4);

pub fn idle() -> Vec<Line> {
    // One worker each, and the first has the rest.
    let mut many = vec![1; STEPS - OWN.0];
    many[0] += WORKERS - OWN.1 - many.len();
    let mut lines = Vec::new();
    for (queue, limit, count) in
        [(Queue::One, "one message at a time", 10_000), (Queue::Default, "default queue", 100_000)]
    {
        let tasks = Tasks { micros: 0, count };
        let (mut few, mut all) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            few.push(costs(2, queue, tasks, &[]));
            all.push(costs(2, queue, tasks, &many));
        }
        let router = |of: &[Costs]| median(of.iter().map(|costs| costs.of("router").cpu).collect());
        let total = |of: &[Costs]| median(of.iter().map(|costs| costs.total().cpu).collect());
        let what = format!("{limit}, 2 workers, 3 steps: router");
        lines.push(Line::new(what, router(&few), "us/message"));
        let what = format!("  {WORKERS} workers, {STEPS} steps: router");
        lines.push(Line::new(what, router(&all), "us/message"));
        lines.push(Line::new("  ratio", router(&all) / router(&few), "").at_most(1.5));
        lines.push(Line::new("  ratio of all threads", total(&all) / total(&few), ""));
    }
    lines
}
