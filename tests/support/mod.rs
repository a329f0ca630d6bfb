//! What the integration tests share: test data, and programs that may be absent.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder with the test data; none, said loudly, where it is absent.
pub fn data() -> Option<PathBuf> {
    let folder = match std::env::var_os("DRPIPE_TEST_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    };
    if folder.is_dir() {
        return Some(folder);
    }
    skip(&format!("no test data in {}: set DRPIPE_TEST_DATA", folder.display()));
    None
}

/// The FITS files below the test data, sorted.
pub fn fits_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| {
            path.to_str().is_some_and(|p| p.ends_with(".fits") || p.ends_with(".fits.gz"))
        })
        .collect();
    files.sort();
    files
}

/// A Python that has astropy; none, said loudly, where it is absent.
pub fn python_with_astropy() -> Option<&'static str> {
    let has_it = |python: &&str| {
        let mut command = Command::new(python);
        command.args(["-c", "import astropy, numpy"]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let found = ["/usr/bin/python3", "python3"].into_iter().find(has_it);
    if found.is_none() {
        skip("no Python with astropy");
    }
    found
}

/// Whether the program can be run; says so loudly if not.
pub fn has_program(name: &str) -> bool {
    let there = Command::new(name).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        skip(&format!("no program {name}"));
    }
    there
}

/// Runs a script of tests/support and returns what it prints.
pub fn run_python(python: &str, script: &str, arguments: &[&Path]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(script);
    let mut command = Command::new(python);
    let output = command.arg(script).args(arguments).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "the script failed: {:?}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn skip(reason: &str) {
    eprintln!("*** SKIPPED, NOTHING TESTED HERE: {reason} ***");
}
