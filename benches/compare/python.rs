//! Python's process pools, by the `python3` of the PATH.

use std::process::{Command, Stdio};

/// The interpreter's version, or nothing if there is no interpreter.
pub fn version() -> Option<String> {
    let output = Command::new("python3").arg("--version").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// So many integers through one of the pools of `python_pools.py`; integers a second.
pub fn pool(name: &str, count: usize) -> f64 {
    let output = Command::new("python3")
        .args(["benches/compare/python_pools.py", name, &count.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{name} failed");
    let seconds = String::from_utf8(output.stdout).unwrap();
    count as f64 / seconds.trim().parse::<f64>().unwrap()
}
