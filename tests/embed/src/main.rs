//! A program with a stage of its own on drpipe's engine, built without any of
//! its features: no command line, HTTP, SQLite or CFITSIO.

use std::error::Error;

use drpipe::pipeline::Report;
use drpipe::prelude::*;
use drpipe::stages::{Discard, Integers, Sum};

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

fn run() -> std::result::Result<Report, Box<dyn Error>> {
    let pipeline = Pipeline::builder()
        .producer("NUMBERS", || Integers::new(1, 1000))
        .stage("TRIPLE", || Triple {})
        .threads(2)
        .stage("SUM", Sum::default)
        .consumer("END", Discard::default)
        .build()?;
    Ok(pipeline.run(Mode::Threads)?)
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    for step in run()?.steps {
        println!("{}: {} received, {} done", step.name, step.counts.received, step.counts.done);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use drpipe::config::Setting;

    use super::*;

    #[test]
    fn every_number_goes_through() {
        let report = run().unwrap();
        let counts: Vec<(u64, u64)> =
            report.steps.iter().map(|step| (step.counts.received, step.counts.done)).collect();
        assert_eq!(counts, [(0, 0), (1000, 1000), (1000, 1000), (1, 1)]);
        assert_eq!(report.exit_code, 0);
    }

    #[test]
    fn a_pool_returns_what_its_function_returns() {
        let pool = drpipe::pool::Pool::of(|number: i64| Ok(number * 3)).workers(2).start().unwrap();
        let tasks: Vec<_> = (0..10).map(|number| pool.submit("", number).unwrap()).collect();
        let results: Vec<i64> = tasks.into_iter().map(|task| task.wait().unwrap()).collect();
        assert_eq!(results, (0..10).map(|number| number * 3).collect::<Vec<_>>());
        assert_eq!(pool.drain().unwrap().exit_code, 0);
    }

    /// Reads a pipeline with this stage, and `more` in the file.
    fn read(stage: &str, more: &str) -> std::result::Result<Pipeline, String> {
        let mut registry = Registry::new();
        drpipe::stages::register(&mut registry);
        registry.stage::<Triple>("Triple");
        let text = format!(
            r#"{{ "version": 1, {more}
                  "producer": {{ "name": "NUMBERS", "class": "Integers", "params": {{ "last": 9 }} }},
                  "stagers": [ {{ "name": "STAGE", {stage} }} ],
                  "consumer": {{ "name": "END", "class": "Discard" }} }}"#
        );
        let settings: [Setting; 0] = [];
        Pipeline::read(&text, "embed.json", Path::new("."), &registry, &settings)
            .map_err(|error| error.to_string())
    }

    #[track_caller]
    fn assert_lacks(result: std::result::Result<impl Sized, String>, feature: &str) {
        let error = result.err().unwrap();
        assert!(error.contains(&format!("without its feature \"{feature}\"")), "{error}");
        assert!(!error.contains("unknown"), "{error}");
    }

    #[cfg(not(feature = "config"))]
    #[test]
    fn a_configuration_is_refused() {
        assert_lacks(read(r#""class": "Triple""#, ""), "config");
    }

    #[cfg(feature = "config")]
    #[test]
    fn a_configuration_is_read() {
        let report = read(r#""class": "Triple", "nb_thread": 2"#, "").unwrap();
        let report = report.run(Mode::Sequential).unwrap();
        assert_eq!(report.exit_code, 0);
    }

    #[cfg(feature = "config")]
    #[test]
    fn what_is_not_built_is_an_error_that_names_the_feature() {
        assert_lacks(read(r#""class": "ReadFits""#, ""), "fits");
        assert_lacks(read(r#""class": "ReadFits""#, r#""ReadFits": { "hdu": 1 },"#), "fits");
        assert_lacks(read(r#""class": "SavePng""#, ""), "pictures");
        assert_lacks(read(r#""module": "lab", "class": "Flatten""#, ""), "python");
        assert_lacks(read(r#""class": "Triple""#, r#""monitor": "localhost:5565","#), "monitor");
    }

    #[test]
    fn a_journal_is_an_error_that_names_the_feature() {
        let builder = Pipeline::builder().producer("NUMBERS", || Integers::new(1, 2));
        let mut pipeline = builder.consumer("END", Discard::default).build().unwrap();
        pipeline.set_journal("embed.journal", false);
        assert_lacks(pipeline.run(Mode::Threads).map_err(|error| error.to_string()), "journal");
    }
}
