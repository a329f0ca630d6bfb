//! A program of its own with worker processes: `serve_worker` first thing in
//! `main`, because each worker is this program, started anew.

use std::error::Error;
use std::path::Path;

use drpipe::pipeline::{self, Mode, Pipeline};
use drpipe::prelude::*;

/// Multiplies each number by three.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Triple {}

impl Stage for Triple {
    type In = i64;
    type Out = i64;

    fn run(&mut self, number: i64, out: &mut Emitter<i64>) -> Result<()> {
        out.send(number * 3)
    }
}

/// Prints each text.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Print {}

impl Consumer for Print {
    type In = String;

    fn run(&mut self, text: String) -> Result<()> {
        println!("{text}");
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::new();
    drpipe::stages::register(&mut registry);
    registry.stage::<Triple>("Triple");
    registry.consumer::<Print>("Print");
    pipeline::serve_worker(&registry);

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/worker_processes.json");
    let report = Pipeline::load(&file, &registry, &[])?.run(Mode::Threads)?;
    assert_eq!(report.exit_code, 0);
    Ok(())
}
