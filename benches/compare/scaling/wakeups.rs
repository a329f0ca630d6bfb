//! Which threads wait and are woken, and what a message costs each of them.

use super::counters::Use;
use super::run::{Queue, Tasks, costs};
use super::table;
use crate::Line;

pub fn wakeups() -> Vec<Line> {
    let columns = ["SEND", "router", "WORK", "END", "other", "all"];
    let of = |what: &str| table::row(what, columns.iter().map(|name| (*name).to_owned()));
    let mut lines = Vec::new();
    for (micros, count) in [(0, 200_000), (10, 40_000)] {
        for (queue, limit) in [(Queue::Default, "default queue"), (Queue::Wide, "4096")] {
            of(&format!("{micros} us, {limit}: by thread, a message"));
            for workers in [1, 2, 16] {
                let costs = costs(workers, queue, Tasks { micros, count }, &[]);
                let row = |what: &str, of: fn(&Use) -> f64| {
                    let cell = |name: &&str| match *name {
                        "all" => costs.total(),
                        name => costs.of(name),
                    };
                    let label = format!("  {workers} workers, {what}");
                    table::values(&label, columns.iter().map(|name| Some(of(&cell(name)))));
                };
                row("waits", |used| used.waits);
                row("preemptions", |used| used.preemptions);
                row("processor time in us", |used| used.cpu);
                if queue == Queue::Default {
                    let what = format!("{micros} us, default queue, {workers} workers: waits");
                    lines.push(Line::new(what, costs.total().waits, "/message"));
                }
            }
        }
    }
    lines
}
