//! Differential fuzzing: generated FITS files, whole and damaged, read by drpipe and by
//! astropy: `cargo bench --bench fits`, or with the first seed, the number of seeds and
//! that of files behind `--`. docs/FITS.md says which differences are meant.
//! `DRPIPE_TEST_PYTHON` names a Python with astropy 7 or newer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure ends it")]

#[path = "../../tests/it/support/fits_differential.rs"]
mod fits_differential;

use fits_differential::{Damage, differences};

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let number = |index: usize, default: u64| numbers.get(index).copied().unwrap_or(default);
    let (first, seeds, count) = (number(0, 1), number(1, 5), number(2, 400));
    let python = std::env::var("DRPIPE_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let mut failed = false;
    for seed in first..first + seeds {
        for (what, damage) in [("whole", Damage::None), ("damaged", Damage::Random)] {
            let different = differences(&python, seed, count as usize, damage);
            // Of damaged files it is a matter of taste which are still read.
            let wrong: Vec<_> = different
                .iter()
                .filter(|line| damage == Damage::None || line.contains("pixels differ"))
                .collect();
            println!("seed {seed}: {count} {what} files, {} differences", wrong.len());
            for line in &wrong {
                println!("  {line}");
            }
            failed |= !wrong.is_empty();
        }
    }
    assert!(!failed, "there are differences");
}
