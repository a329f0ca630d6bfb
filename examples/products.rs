//! A program whose consumer writes files, each whole or absent:
//! `cargo run --example products -- DIRECTORY`
//!
//! Stop it at any moment, also with `kill -9`: no file is half-written. Run it again: it
//! replaces what it made itself and nothing else.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use drpipe::prelude::*;
use drpipe::product::{Overwrite, Products};

/// The brightness of a star, night by night.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LightCurve {
    star: String,
    /// Magnitudes, one for each night.
    magnitudes: Vec<f64>,
}

impl Data for LightCurve {
    const TYPE: &'static str = "example/LightCurve/1";
}

/// Makes light curves of `count` stars.
struct Observe {
    count: u32,
    next: u32,
}

impl Producer for Observe {
    type Out = LightCurve;

    fn next(&mut self, out: &mut Emitter<LightCurve>) -> Result<Next> {
        if self.next == self.count {
            return Ok(Next::Done);
        }
        self.next += 1;
        let phase = f64::from(self.next);
        let magnitudes = (0..30).map(|night| 9.0 + (f64::from(night) + phase).sin()).collect();
        out.send(LightCurve { star: format!("star-{}", self.next), magnitudes })?;
        Ok(Next::More)
    }
}

/// Saves each light curve as a text file.
struct SaveCurve {
    directory: PathBuf,
    products: Products,
}

impl Consumer for SaveCurve {
    type In = LightCurve;

    fn init(&mut self, context: &Context) -> Result<()> {
        let products = Products::open(&self.directory, Overwrite::Own, context)?;
        // Plain text has no place for the pipeline's mark: a record beside it has.
        self.products = products.with_suffix(".txt").with_records();
        Ok(())
    }

    fn run(&mut self, curve: LightCurve) -> Result<()> {
        self.products.write_whole(&curve.star, &curve.star, |file| {
            for (night, magnitude) in curve.magnitudes.iter().enumerate() {
                writeln!(file, "{night} {magnitude:.3}")?;
            }
            Ok(())
        })?;
        Ok(())
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).unwrap_or_else(|| "light-curves".into());
    let directory = PathBuf::from(directory);
    let report = Pipeline::builder()
        .producer("OBSERVE", || Observe { count: 12, next: 0 })
        .consumer("SAVE", move || SaveCurve {
            directory: directory.clone(),
            products: Products::default(),
        })
        .threads(2)
        .build()?
        .run(Mode::Threads)?;
    println!("{} products", report.products.values().sum::<u64>());
    Ok(ExitCode::from(report.exit_code))
}

#[cfg(test)]
mod tests {
    use drpipe::testing::TestBench;

    use super::*;

    fn curve(star: &str) -> LightCurve {
        LightCurve { star: star.to_owned(), magnitudes: vec![9.5, 9.25] }
    }

    fn save(directory: &std::path::Path) -> SaveCurve {
        SaveCurve { directory: directory.to_owned(), products: Products::default() }
    }

    #[test]
    fn a_curve_becomes_a_file_and_a_second_run_replaces_it() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let run = TestBench::new().consume(save(directory.path()), [curve("vega")]).unwrap();
            assert_eq!(std::fs::read_to_string(&run.products[0]).unwrap(), "0 9.500\n1 9.250\n");
        }
    }

    #[test]
    fn two_curves_of_one_name_never_share_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let bench = TestBench::new();
        let error = bench.consume(save(directory.path()), [curve("a/b"), curve("a_b")]);
        assert!(error.unwrap_err().to_string().contains("already made from a/b"));
    }
}
