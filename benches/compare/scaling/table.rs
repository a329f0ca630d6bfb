//! Prints results with a column for each number of workers.

use super::run::Pace;
use super::{Cell, Results, TASKS};
use crate::digits;

/// The width of a table's first column.
const LABEL: usize = 44;

/// What is compared, of a cell.
type Competitor = fn(&Cell) -> Option<Pace>;

/// `has_cpu` says whether this program has done the work, so that its processor time counts.
pub fn print(results: &Results, has_cpu: bool) {
    row("workers", results.workers.iter().map(|workers| workers.to_string()));
    for micros in TASKS {
        let cells: Vec<Cell> =
            results.workers.iter().map(|workers| results.at(*workers, micros)).collect();
        println!("  tasks of {micros} us");
        print_task(&cells, has_cpu);
    }
}

fn print_task(cells: &[Cell], has_cpu: bool) {
    let all: [(&str, Competitor); 4] = [
        ("default queue", |cell| Some(cell.default)),
        ("queue_limit 4096", |cell| Some(cell.wide)),
        ("crossbeam-channel", |cell| Some(cell.channel)),
        ("rayon", |cell| cell.rayon),
    ];
    let each = |what: &str, value: &dyn Fn(&Cell) -> Option<f64>| {
        values(&format!("  {what}"), cells.iter().map(value));
    };
    for (name, of) in all {
        each(&format!("{name}, /s"), &|cell| Some(of(cell)?.rate));
    }
    for (peer, against) in &all[2..] {
        for (name, of) in &all[..2] {
            let ratio = |cell: &Cell| Some(of(cell)?.rate / against(cell)?.rate);
            each(&format!("{name} / {peer}"), &ratio);
        }
    }
    each("default queue / queue_limit 4096", &|cell| Some(cell.default.rate / cell.wide.rate));
    let first = cells.first().map_or(f64::NAN, |cell| cell.default.rate);
    each("default queue / its first column", &|cell| Some(cell.default.rate / first));
    for (name, of) in all.iter().filter(|_| has_cpu) {
        each(&format!("{name}, processor us a message"), &|cell| Some(of(cell)?.cpu));
    }
}

pub fn values(label: &str, values: impl Iterator<Item = Option<f64>>) {
    row(label, values.map(|value| value.map_or("-".to_owned(), digits)));
}

pub fn row(label: &str, cells: impl Iterator<Item = String>) {
    let cells: String = cells.map(|cell| format!("{cell:>11}")).collect();
    println!("  {label:<LABEL$}{cells}");
}
