//! A run that another program drives ends with it.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::program::{drpipe, finished};

#[test]
fn a_run_ends_with_the_process_that_drives_it() {
    let directory = tempfile::tempdir().unwrap();
    let config = json!({
        "version": 1,
        "producer": {"name": "IN", "class": "Integers", "params": {"last": 1_000_000_000}},
        "stagers": [{"name": "SLEEP", "class": "Sleep", "params": {"seconds": 0.001}}],
        "consumer": {"name": "END", "class": "Discard"},
    });
    std::fs::write(directory.path().join("pipeline.json"), config.to_string()).unwrap();
    let private = directory.path().join("private");
    std::fs::create_dir_all(private.join("deeper")).unwrap();
    // It reads until its input ends.
    let mut driver = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let run = |driver: u32| {
        let mut command = drpipe(directory.path());
        command.args(["run", "--quiet", "--driver", &driver.to_string()]);
        command.arg("--driver-directory").arg(&private);
        command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut attended = run(driver.id());
    assert!(private.exists());
    driver.kill().unwrap();
    driver.wait().unwrap();
    let status = attended.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(!private.exists());
    // One that has died before it could be watched.
    let orphan = finished(run(driver.id()).wait_with_output().unwrap());
    orphan.expect_code(130);
}
