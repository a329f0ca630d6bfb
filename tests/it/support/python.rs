//! The interpreter that tests of steps in Python run on.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::skipped;

/// The interpreter that `DRPIPE_TEST_PYTHON` names, or else the usual one, if it
/// can import `packages`; without one the test that asks is skipped, and says so.
pub fn interpreter(test: &str, packages: &[&str]) -> Option<PathBuf> {
    let program = std::env::var_os("DRPIPE_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let imports = format!("import {}", packages.join(", "));
    let imported = Command::new(&program)
        .args(["-c", &imports])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if imported.is_ok_and(|status| status.success()) {
        return Some(program.into());
    }
    let (program, packages) = (program.display(), packages.join(", "));
    let advice = "name one that can with DRPIPE_TEST_PYTHON";
    skipped(test, &format!("{program} cannot import {packages}; {advice}"));
    None
}

/// What every step in Python needs.
pub fn plain(test: &str) -> Option<PathBuf> {
    interpreter(test, &["msgpack"])
}
