//! The collection of real and broken FITS files, where there is one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The collection's folder: `DRPIPE_TEST_DATA`, by default `../shared/data`.
/// Where it is absent the caller is to return: the test is skipped.
pub fn collection(test: &str) -> Option<PathBuf> {
    let named = std::env::var_os("DRPIPE_TEST_DATA").map(PathBuf::from);
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = named.unwrap_or(default);
    if folder.join("keck").is_dir() {
        return folder.canonicalize().ok();
    }
    let place = folder.display();
    skipped(test, &format!("no test data in {place}; set DRPIPE_TEST_DATA to its folder"));
    None
}

/// Whether a program that a test compares with is installed.
pub fn installed(test: &str, program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        skipped(test, &format!("{program} is not installed; README names its package"));
    }
    found
}

/// Not through `eprintln!`: the test harness would hide it.
pub fn skipped(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "\nSKIPPED {test}: {reason}");
}
