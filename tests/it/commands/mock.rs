//! `drpipe check --mock`: a pipeline's graph with mocks that go wrong.

use std::fs;

use crate::support::program::{Finished, drpipe, files, finish, package};

fn check(config: &str, args: &[&str]) -> (Finished, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let checked = finish(drpipe(directory.path()).args(["check", "--config", config]).args(args));
    (checked, directory)
}

/// The configurations that come with drpipe and that it can run by itself.
fn configurations() -> Vec<String> {
    let examples = fs::read_dir(package().join("examples")).unwrap();
    let paths = examples.map(|entry| entry.unwrap().path());
    let configs = paths.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let mut all: Vec<String> = configs
        .chain([package().join("pipeline.json")])
        .map(|path| path.to_str().unwrap().to_owned())
        .filter(|path| check(path, &[]).0.code == Some(0))
        .collect();
    all.sort();
    assert!(all.len() > 3, "the configurations were not found");
    all
}

#[test]
fn every_configuration_holds_what_it_promises_whatever_goes_wrong() {
    for config in configurations() {
        for mode in ["threads", "sequential"] {
            let faults = "fail=0.1,panic=0.05,slow=0.02,undeclared=0.01,messages=200,seed=7";
            let (checked, directory) = check(&config, &["--mock", faults, "--mode", mode]);
            let checked = checked.expect_code(0);
            assert!(checked.out.contains("the ledger is as expected"), "{}", checked.out);
            assert_eq!(checked.err, "", "{config}");
            assert!(files(directory.path()).is_empty(), "a mock wrote a file");
        }
    }
}

#[test]
fn the_policy_stop_is_expected_to_stop() {
    let config = package().join("pipeline.json");
    let config = config.to_str().unwrap();
    let args = ["--set", "CLEAN.on_error=stop", "--mock", "fail=0.2"];
    let checked = check(config, &args).0.expect_code(0);
    assert!(checked.out.contains("stopped: \"CLEAN\" failed: "), "{}", checked.out);
    assert!(checked.out.contains("the policies stopped the run as expected"), "{}", checked.out);
}

#[test]
fn the_same_seed_gives_the_same_ledger() {
    let config = package().join("pipeline.json");
    let counts = |seed: &str| -> Vec<Vec<String>> {
        let faults = format!("fail=0.3,messages=50,seed={seed}");
        let checked = check(config.to_str().unwrap(), &["--mock", &faults]).0.expect_code(0);
        let rows = checked.out.lines().skip(1).take(6);
        // The step, and what does not depend on the machine.
        rows.map(|row| row.split_whitespace().take(5).map(str::to_owned).collect()).collect()
    };
    assert_eq!(counts("1"), counts("1"));
    assert_ne!(counts("1"), counts("2"));
}

#[test]
fn faults_that_do_not_exist_are_usage_errors() {
    let config = package().join("pipeline.json");
    let config = config.to_str().unwrap();
    let wrong = check(config, &["--mock", "panik=0.1"]).0.expect_code(2);
    assert!(wrong.err.contains("did you mean \"panic\"?"), "{}", wrong.err);
    let threads = check(config, &["--mock", "abort=0.1"]).0.expect_code(2);
    assert!(threads.err.contains("would end this program"), "{}", threads.err);
    let endless =
        ["--mock", "hang=0.1", "--set", "CLEAN.nb_thread=0", "--set", "CLEAN.nb_process=2"];
    let endless = check(config, &endless).0.expect_code(2);
    assert!(endless.err.contains("with a \"timeout\""), "{}", endless.err);
    check(config, &["--mode", "sequential"]).0.expect_code(2);
}

#[test]
fn the_callers_steps_have_mocks_too() {
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("open.json");
    let text = r#"{"version": 1, "producer": {"name": "TASKS", "class": "Caller", "window": 8},
        "consumer": {"name": "WORK", "class": "Caller", "results": true, "on_error": "tell"}}"#;
    fs::write(&config, text).unwrap();
    let args = ["--mock", "fail=0.1,messages=200,seed=7"];
    let checked = check(config.to_str().unwrap(), &args).0.expect_code(0);
    assert!(checked.out.contains("the ledger is as expected"), "{}", checked.out);
}
