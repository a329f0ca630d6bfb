//! Generated FITS files: what drpipe makes of them, compared with what astropy reads.

use std::fs;
use std::path::Path;
use std::process::Command;

use drpipe::stages::{Precision, ReadOptions, read_frame, write_frame};

/// What is done to the files before they are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    None,
    Random,
}

/// Makes `count` files from a seed, reads and writes each in both precisions, and returns
/// the differences that the script finds: a line each, "number kind what".
pub fn differences(python: &str, seed: u64, count: usize, damage: Damage) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let (files, products) = (folder.path().join("files"), folder.path().join("products"));
    fs::create_dir(&files).unwrap();
    fs::create_dir(&products).unwrap();
    let script = |arguments: &[&str]| {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/fits_differential.py");
        let output = Command::new(python).arg(script).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (files_name, seed) = (files.to_str().unwrap(), seed.to_string());
    script(&["make", files_name, &seed, &count.to_string()]);
    if damage == Damage::Random {
        script(&["break", files_name, &seed]);
    }
    for number in 0..count {
        let path = files.join(format!("{number}.fits"));
        for (suffix, precision) in [("f32", Precision::F32), ("f64", Precision::F64)] {
            let product = products.join(format!("{number}.{suffix}"));
            if let Err(reason) = convert(&path, precision, &product.with_added_extension("fits")) {
                fs::write(product.with_added_extension("txt"), reason).unwrap();
            }
        }
    }
    let said = script(&["compare", files_name, products.to_str().unwrap()]);
    let (compared, different): (Vec<_>, Vec<_>) =
        said.lines().map(str::to_owned).partition(|line| line.starts_with("compared "));
    assert_eq!(compared, [format!("compared {count}")], "{said}");
    different
}

fn convert(path: &Path, precision: Precision, product: &Path) -> Result<(), String> {
    let options = ReadOptions { precision, max_pixels: 1 << 24, ..ReadOptions::default() };
    let frame = read_frame(path, "x", &options).map_err(|failure| failure.to_string())?;
    let mut bytes = Vec::new();
    write_frame(&frame, &mut bytes).unwrap();
    fs::write(product, bytes).unwrap();
    Ok(())
}
