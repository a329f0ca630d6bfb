//! The pipeline against what it is measured by, side by side in one run:
//! `cargo bench`, or `cargo bench -- tiny latency` for some of the cases.
//! Only ratios within one run count; docs/PERFORMANCE.md has results.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark may stop on any error")]

mod cases;
mod in_python;
mod keck;
mod peers;
mod pool;
mod processes;
mod python;
mod scaling;
mod stages;
mod watched;

use std::time::Duration;

/// Runs of each competitor, in turn.
const RUNS: usize = 5;

/// One line of the result.
pub(crate) struct Line {
    what: String,
    value: f64,
    unit: &'static str,
    /// The bar, and whether at least or at most that is wanted.
    bar: Option<(char, f64)>,
}

impl Line {
    pub(crate) fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit, bar: None }
    }

    pub(crate) fn at_least(mut self, bar: f64) -> Self {
        self.bar = Some(('>', bar));
        self
    }

    pub(crate) fn at_most(mut self, bar: f64) -> Self {
        self.bar = Some(('<', bar));
        self
    }

    fn print(&self) {
        let verdict = match self.bar {
            None => String::new(),
            Some((sign, bar)) => {
                let met = if sign == '>' { self.value >= bar } else { self.value <= bar };
                format!("  {} ({sign}= {})", if met { "met" } else { "MISSED" }, digits(bar))
            }
        };
        println!("  {:<58} {:>12} {:<9}{verdict}", self.what, digits(self.value), self.unit);
    }
}

/// Three or more digits.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// The median of each competitor's results, run in turn so that a change of
/// the machine's speed hits all of them.
pub(crate) fn medians<const N: usize>(competitors: [&dyn Fn() -> f64; N]) -> [f64; N] {
    let mut results = [const { Vec::new() }; N];
    for _ in 0..RUNS {
        for (result, competitor) in results.iter_mut().zip(competitors) {
            result.push(competitor());
        }
    }
    results.map(|mut result| {
        result.sort_by(f64::total_cmp);
        result[result.len() / 2]
    })
}

/// Messages a second.
pub(crate) fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn main() {
    processes::serve_worker();
    let args: Vec<String> = std::env::args().skip(1).collect();
    // A case that measures a whole process starts this program again.
    if let Some(frames) = args.iter().position(|arg| arg == "memory-of") {
        return cases::print_peak_memory(args[frames + 1].parse().unwrap());
    }
    if let Some(file) = args.iter().position(|arg| arg == "run-of") {
        return in_python::run(args[file + 1].as_ref());
    }
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    // `scaling` means all of its parts.
    let means = |wanted: &str, name: &str| {
        name.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    for (name, case) in cases::ALL {
        if wanted.is_empty() || wanted.iter().any(|wanted| means(wanted, name)) {
            println!("{name}");
            case().iter().for_each(Line::print);
        }
    }
}
