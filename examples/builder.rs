//! A pipeline without a configuration file: `cargo run --example builder`

use std::error::Error;

use drpipe::prelude::*;
use drpipe::stages::{Discard, Integers, Square, Sum};

fn main() -> Result<(), Box<dyn Error>> {
    let report = Pipeline::builder()
        .producer("NUMBERS", || Integers::new(1, 1000))
        .stage("SQUARE", Square::default)
        .threads(2)
        .queue_limit(Some(16))
        .stage("SUM", Sum::default)
        .consumer("END", Discard::default)
        .build()?
        .run(Mode::Threads)?;
    for step in &report.steps {
        println!("{}: {} received, {} done", step.name, step.counts.received, step.counts.done);
    }
    Ok(())
}
