//! The collection of real and broken FITS files, where there is one.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::skipped;

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

/// The FITS files below a folder, sorted.
pub fn fits_files(folder: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap);
    let is_fits = |path: &PathBuf| {
        path.to_str().is_some_and(|p| p.ends_with(".fits") || p.ends_with(".fits.gz"))
    };
    let mut files: Vec<PathBuf> =
        entries.map(walkdir::DirEntry::into_path).filter(is_fits).collect();
    files.sort();
    files
}

/// A Python that has astropy. Where none has the caller is to return.
pub fn python_with_astropy(test: &str) -> Option<&'static str> {
    let has_it = |python: &&str| {
        let mut command = Command::new(python);
        command.args(["-c", "import astropy, numpy"]);
        command.output().is_ok_and(|output| output.status.success())
    };
    let found = ["/usr/bin/python3", "python3"].into_iter().find(has_it);
    if found.is_none() {
        skipped(test, "no Python with astropy; README names its package");
    }
    found
}

/// Runs a script of tests/it/support and returns what it prints.
pub fn run_python(python: &str, script: &str, arguments: &[&Path]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support").join(script);
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the script failed: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a program that a test compares with is installed.
pub fn installed(test: &str, program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        skipped(test, &format!("{program} is not installed; README names its package"));
    }
    found
}
