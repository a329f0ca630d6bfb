//! The program's manners: exit codes, messages, files, signals.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::program::{
    Finished, Logged, assert_balanced, count, drpipe, files, finish, finished, json, package, step,
};

/// Numbers that go through `stagers` (the inside of a JSON list) and end.
fn numbers(last: &str, stagers: &str) -> String {
    format!(
        r#"{{ "version": 1,
  "producer": {{ "name": "NUMBERS", "class": "Integers", "params": {{ "first": 1, "last": {last} }} }},
  "stagers": [ {stagers} ],
  "consumer": {{ "name": "END", "class": "Discard" }} }}"#
    )
}

fn run(config: &str, args: &[&str]) -> (Finished, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("pipeline.json"), config).unwrap();
    let finished = finish(drpipe(directory.path()).args(args));
    (finished, directory)
}

#[test]
fn ctapipe_a_missing_config_is_a_usage_error() {
    let directory = tempfile::tempdir().unwrap();
    let run = finish(drpipe(directory.path()).args(["--config", "night.json"])).expect_code(2);
    assert!(run.err.contains("cannot read night.json"), "{}", run.err);
    assert!(run.err.contains("--config FILE"), "{}", run.err);
}

#[test]
fn ctapipe_bad_json_and_an_unknown_class_are_usage_errors() {
    let (bad, _directory) = run("{ \"producer\": ", &[]);
    bad.expect_code(2);
    let (unknown, _directory) = run(&numbers("3", r#"{ "name": "S", "class": "Sqare" }"#), &[]);
    let unknown = unknown.expect_code(2);
    assert!(unknown.err.contains("pipeline.json:3:"), "{}", unknown.err);
    assert!(unknown.err.contains("did you mean \"Square\"?"), "{}", unknown.err);
}

#[test]
fn wrong_arguments_are_usage_errors_and_help_is_not() {
    let directory = tempfile::tempdir().unwrap();
    finish(drpipe(directory.path()).arg("--no-such-option")).expect_code(2);
    finish(drpipe(directory.path()).args(["--set", "nonsense"])).expect_code(2);
    let help = finish(drpipe(directory.path()).arg("--help")).expect_code(0);
    assert!(help.out.contains("Examples:") && help.out.contains("130"), "{}", help.out);
    let version = finish(drpipe(directory.path()).arg("--version")).expect_code(0);
    assert!(version.out.starts_with("drpipe "), "{}", version.out);
}

/// What a program says that is given this configuration on its standard input.
fn piped(config: &str, args: &[&str]) -> Finished {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("given"), config).unwrap();
    let given = fs::File::open(directory.path().join("given")).unwrap();
    finish(drpipe(directory.path()).args(args).stdin(given))
}

#[test]
fn a_configuration_may_come_from_standard_input() {
    let good = numbers("3", r#"{ "name": "S", "class": "Square" }"#);
    let checked = piped(&good, &["check", "--config", "-"]).expect_code(0);
    assert!(checked.out.starts_with("<stdin>: the configuration is valid"), "{}", checked.out);
    piped(&good, &["-c", "-", "-q"]).expect_code(0);
    let bad = piped(&good.replace("Square", "Sqare"), &["--config", "-"]).expect_code(2);
    assert!(bad.err.starts_with("<stdin>:3:"), "{}", bad.err);
    let yaml = piped("producer:\n  class: Integers\n", &["check", "-c", "-"]).expect_code(2);
    assert!(yaml.err.starts_with("<stdin>:1:1: error: not JSON, but YAML"), "{}", yaml.err);
}

#[test]
fn paths_may_begin_in_the_home_directory() {
    let directory = tempfile::tempdir().unwrap();
    let config = r#"{ "producer": { "name": "N", "class": "Integers", "params": { "last": 1 } },
      "stagers": [ { "name": "T", "class": "FormatNumber" } ],
      "consumer": { "name": "W", "class": "WriteLines", "params": { "file": "~/out/lines" } } }"#;
    fs::write(directory.path().join("numbers.json"), config).unwrap();
    let mut command = drpipe(directory.path());
    command.args(["--config=~/numbers.json", "--summary=~/run.json", "-q"]);
    finish(command.env("HOME", directory.path())).expect_code(0);
    assert_eq!(fs::read_to_string(directory.path().join("out/lines")).unwrap(), "0\n1\n");
    assert!(directory.path().join("run.json").exists());
}

#[test]
fn a_sequential_mode_in_the_file_is_kept_unless_the_command_line_says_another() {
    let config = r#"{ "Flow": { "mode": "sequential",
      "producer_conf": { "name": "N", "class": "Integers", "nb_thread": 1 },
      "stagers_conf": [ { "name": "F", "class": "Fault", "nb_process": 2 } ],
      "consumer_conf": { "name": "E", "class": "Discard" } },
      "Integers": { "last": 3 }, "Fault": { "fault": "exit", "code": 7 } }"#;
    // On the run's own thread the fault ends the program; a process is replaced.
    let (sequential, _directory) = run(config, &["-q"]);
    let (threads, _directory) = run(config, &["-q", "--mode", "threads"]);
    sequential.expect_code(7);
    threads.expect_code(1);
}

#[test]
fn check_runs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let config = package().join("pipeline.json");
    let check = finish(drpipe(directory.path()).arg("check").arg("--config").arg(config));
    assert!(check.expect_code(0).out.contains("the configuration is valid"));
    assert!(files(directory.path()).is_empty());
}

#[test]
fn stages_lists_and_describes_every_class() {
    let directory = tempfile::tempdir().unwrap();
    let list = finish(drpipe(directory.path()).args(["stages", "--json"])).expect_code(0);
    let classes: Vec<Value> = serde_json::from_str(&list.out).unwrap();
    assert!(classes.len() > 10);
    for class in classes {
        let name = class["name"].as_str().unwrap();
        let shown = finish(drpipe(directory.path()).args(["stages", name])).expect_code(0).out;
        assert!(shown.starts_with(name), "{shown}");
        assert!(shown.contains("\n\n"), "{name} has no description");
        let parameters = class["parameters"]["properties"].as_object();
        for (parameter, schema) in parameters.into_iter().flatten() {
            assert!(shown.contains(&format!("  {parameter}: ")), "{shown}");
            assert!(schema["description"].is_string(), "{name}.{parameter} is not described");
        }
    }
    let unknown = finish(drpipe(directory.path()).args(["stages", "NoiseRemova"])).expect_code(2);
    assert!(unknown.err.contains("did you mean \"NoiseRemoval\"?"), "{}", unknown.err);
}

#[test]
fn the_schema_is_json_and_completions_are_printed() {
    let directory = tempfile::tempdir().unwrap();
    let schema = finish(drpipe(directory.path()).arg("schema")).expect_code(0);
    let schema: Value = serde_json::from_str(&schema.out).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&json(&package().join("pipeline.json"))));
    let script = finish(drpipe(directory.path()).args(["completions", "bash"])).expect_code(0);
    assert!(script.out.contains("complete"), "{}", script.out);
}

#[test]
fn failures_are_counted_kept_and_end_with_code_1() {
    let config = numbers(
        "30",
        r#"{ "name": "FAIL", "class": "Fail", "params": { "every": 10, "how": "permanent" } }"#,
    );
    let (finished, directory) = run(&config, &["--summary", "summary.json"]);
    let finished = finished.expect_code(1);
    let summary = json(&directory.path().join("summary.json"));
    assert_balanced(&summary);
    assert_eq!(
        (summary["exit_code"].as_u64(), summary["quarantined"].as_u64()),
        (Some(1), Some(3))
    );
    let kept = directory.path().join(summary["quarantine"].as_str().unwrap());
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 3);
    assert!(finished.out.contains("quarantine: 3 failed inputs in "), "{}", finished.out);
}

#[test]
fn a_quarantine_elsewhere_is_a_matter_of_one_option() {
    let config = numbers("1", r#"{ "name": "FAIL", "class": "Fail", "params": { "every": 1 } }"#);
    let (finished, directory) = run(&config, &["--quarantine", "bad/night7"]);
    finished.expect_code(1);
    assert_eq!(fs::read_dir(directory.path().join("bad/night7")).unwrap().count(), 1);
}

#[test]
fn the_first_error_is_named_not_the_cascade() {
    let config = numbers(
        "100000",
        r#"{ "name": "FAIL", "class": "Fail", "on_error": "stop", "params": { "every": 5 } }"#,
    );
    let (finished, _directory) = run(&config, &[]);
    let finished = finished.expect_code(3);
    assert!(finished.out.contains("stopped: \"FAIL\" failed: "), "{}", finished.out);
}

#[test]
fn log_lines_are_json_on_request() {
    let config = numbers("3", r#"{ "name": "FAIL", "class": "Fail", "params": { "every": 1 } }"#);
    let (finished, _directory) = run(&config, &["--log-format", "json", "--quiet"]);
    let finished = finished.expect_code(1);
    assert_eq!(finished.out, "");
    let mut failures = 0;
    for line in finished.err.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        failures += usize::from(line["step"] == "FAIL");
    }
    assert_eq!(failures, 3);
}

#[test]
fn sequential_mode_gives_the_same_files() {
    let produce = |args: &[&str]| {
        let directory = tempfile::tempdir().unwrap();
        let config = package().join("pipeline.json");
        let mut command = drpipe(directory.path());
        command.arg("--config").arg(config).args(["--set", "SynthFrames.count=6"]).args(args);
        finish(&mut command).expect_code(0);
        files(directory.path())
    };
    let expected = produce(&["--mode", "sequential"]);
    assert_eq!(expected.len(), 13);
    for threads in ["1", "2", "8"] {
        let names = ["CLEAN", "WRITE", "EQUALIZE", "SAVE"];
        let settings = names.map(|name| format!("{name}.nb_thread={threads}"));
        let args: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        assert!(produce(&args) == expected, "other files with {threads} threads");
    }
}

#[test]
fn a_log_that_cannot_be_written_does_not_end_the_run() {
    let config = numbers("50", r#"{ "name": "FAIL", "class": "Fail", "params": { "every": 1 } }"#);
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("pipeline.json"), config).unwrap();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = drpipe(directory.path()).stderr(full()).output().unwrap();
    finished(run).expect_code(1);
    fs::write(directory.path().join("pipeline.json"), "{").unwrap();
    finished(drpipe(directory.path()).stderr(full()).output().unwrap()).expect_code(2);
}

#[test]
fn what_cannot_be_printed_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    for command in [&["schema"][..], &["stages"], &["completions", "bash"], &["--help"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let run = drpipe(directory.path()).args(command).stdout(full).output().unwrap();
        let run = finished(run).expect_code(3);
        assert!(run.err.contains("cannot write to standard output"), "{}", run.err);
    }
}

#[test]
fn a_summary_that_cannot_be_written_is_refused_before_the_run() {
    let (run, directory) = run(&numbers("3", ""), &["--summary", "missing/summary.json"]);
    let run = run.expect_code(2);
    assert!(run.err.contains("the directory missing does not exist"), "{}", run.err);
    assert_eq!(files(directory.path()).len(), 1);
}

#[test]
fn a_summary_can_be_read_by_others_and_goes_into_pipes() {
    use std::os::unix::fs::PermissionsExt;
    let (piped, directory) = run(&numbers("3", ""), &["--quiet", "--summary", "/dev/stdout"]);
    let summary: Value = serde_json::from_str(&piped.expect_code(0).out).unwrap();
    assert_eq!(summary["verdict"], "done");
    finish(drpipe(directory.path()).args(["--summary", "summary.json"])).expect_code(0);
    let mode = fs::metadata(directory.path().join("summary.json")).unwrap().permissions().mode();
    let usual = fs::metadata(directory.path().join("pipeline.json")).unwrap().permissions().mode();
    assert_eq!(mode, usual);
}

#[test]
fn a_log_level_that_does_not_exist_is_a_usage_error() {
    let (run, _directory) = run(&numbers("3", ""), &["--log-level", "nonsense"]);
    assert!(run.expect_code(2).err.contains("expected error, warn, info"));
}

#[test]
fn an_option_before_a_command_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let run = finish(drpipe(directory.path()).args(["--config", "x", "check"])).expect_code(2);
    assert!(run.err.contains("drpipe check --config FILE"), "{}", run.err);
}

#[test]
fn more_workers_than_a_run_can_have_are_a_usage_error() {
    let stagers = r#"{ "name": "A", "class": "Square", "nb_thread": 600 },
        { "name": "B", "class": "Square", "nb_thread": 600 }"#;
    let (run, _directory) = run(&numbers("3", stagers), &[]);
    assert!(run.expect_code(2).err.contains("found 1202 workers in all"));
}

#[test]
fn five_hundred_workers_are_no_trouble() {
    let stagers = r#"{ "name": "A", "class": "Square", "nb_thread": 500 }"#;
    let (run, _directory) = run(&numbers("2000", stagers), &[]);
    run.expect_code(0);
}

#[test]
fn a_sequential_run_is_stopped_by_signals_too() {
    let directory = tempfile::tempdir().unwrap();
    let config =
        numbers("9", r#"{ "name": "SLEEP", "class": "Sleep", "params": { "seconds": 100000 } }"#);
    fs::write(directory.path().join("pipeline.json"), config).unwrap();
    let mut run = Logged::start(drpipe(directory.path()).args(["--mode", "sequential"]));
    run.wait_for("every worker is ready");
    run.signal(Signal::TERM);
    run.signal(Signal::INT);
    run.expect_code(130);
}

/// Starts a run of endless sleeping work.
fn start_endless(directory: &std::path::Path, seconds: &str) -> Logged {
    let stagers = format!(
        r#"{{ "name": "SLEEP", "class": "Sleep", "params": {{ "seconds": {seconds} }} }},
           {{ "name": "FAIL", "class": "Fail", "params": {{ "every": 1 }} }}"#
    );
    fs::write(directory.join("pipeline.json"), numbers("1000000000", &stagers)).unwrap();
    Logged::start(drpipe(directory).args(["--summary", "summary.json"]))
}

/// Starts a run whose messages never end. The first one is at SLEEP when the second one is
/// quarantined, so a test knows that there is work in progress.
fn start_sleepers(directory: &std::path::Path, last: &str, args: &[&str]) -> Logged {
    let stagers = r#"{ "name": "FAIL", "class": "Fail", "params": { "every": 2, "how": "permanent" } },
           { "name": "SLEEP", "class": "Sleep", "params": { "seconds": 100000 } }"#;
    fs::write(directory.join("pipeline.json"), numbers(last, stagers)).unwrap();
    Logged::start(drpipe(directory).args(args))
}

#[test]
fn the_first_signal_drains() {
    for signal in [Signal::TERM, Signal::INT] {
        let directory = tempfile::tempdir().unwrap();
        let mut run = start_endless(directory.path(), "0.002");
        run.wait_for("quarantined");
        run.signal(Signal::HUP);
        run.signal(signal);
        run.expect_code(130);
        let summary = json(&directory.path().join("summary.json"));
        assert_balanced(&summary);
        let produced = count(step(&summary, "NUMBERS"), "emitted");
        assert_eq!(count(step(&summary, "FAIL"), "failed"), produced, "all that was taken is done");
    }
}

#[test]
fn the_second_signal_stops_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = start_sleepers(directory.path(), "1000000000", &["--summary", "summary.json"]);
    run.wait_for("quarantined");
    run.signal(Signal::TERM);
    run.wait_for("the run takes no more input");
    run.signal(Signal::TERM);
    run.expect_code(130);
    let summary = json(&directory.path().join("summary.json"));
    assert_balanced(&summary);
    assert!(count(step(&summary, "SLEEP"), "dropped") > 0);
}

#[test]
fn the_drain_limit_ends_a_drain() {
    let directory = tempfile::tempdir().unwrap();
    let args = ["--drain-limit", "0.1", "--summary", "summary.json"];
    let mut run = start_sleepers(directory.path(), "9", &args);
    run.wait_for("quarantined");
    run.signal(Signal::TERM);
    run.expect_code(130);
    let summary = json(&directory.path().join("summary.json"));
    assert_balanced(&summary);
    assert!(count(step(&summary, "SLEEP"), "dropped") > 0);
}

#[test]
fn a_report_that_cannot_be_written_costs_nothing_else() {
    let options = ["--report", "/dev/full", "--summary", "summary.json"];
    let (finished, directory) = run(&numbers("3", ""), &options);
    let finished = finished.expect_code(3);
    assert!(finished.err.contains("cannot write the report /dev/full"), "{}", finished.err);
    assert_balanced(&json(&directory.path().join("summary.json")));
    assert!(finished.out.contains("done in"), "{}", finished.out);
    let options = ["--summary", "/dev/full", "--report", "report.html"];
    let (finished, directory) = run(&numbers("3", ""), &options);
    let finished = finished.expect_code(3);
    assert!(directory.path().join("report.html").exists());
    assert!(finished.out.contains("done in"), "{}", finished.out);
}

#[test]
fn a_summary_may_go_to_standard_output() {
    let (finished, directory) = run(&numbers("3", ""), &["--summary", "-"]);
    let finished = finished.expect_code(0);
    assert_balanced(&serde_json::from_str(&finished.out).unwrap());
    assert!(finished.err.contains("done in"), "{}", finished.err);
    assert!(!directory.path().join("-").exists());
    let (refused, _) = run(&numbers("3", ""), &["--summary", "-", "--report", "-"]);
    assert!(refused.expect_code(2).err.contains("--summary uses this file too"));
}
