//! Steps in Python that go wrong: nothing is lost, and everything is said.

use std::fs;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Night, first_model, of, with};
use crate::support::processes::{children, disturb_until_end, eventually, is_alive, signal};
use crate::support::program::{assert_balanced, count, drpipe, files, finish, step};
use crate::support::python::plain;

/// Numbers through a step of the module `faulty`.
fn through(class: &str, more: &Value) -> [Value; 3] {
    let bad = with(of("faulty", "BAD", class), &json!({"nb_process": 2, "backoff": 0}));
    let producer = with(first_model("IN", "YieldingProducer"), &json!({"params": {"last": 40}}));
    [producer, with(bad, more), first_model("END", "Write")]
}

fn others_than_tens() -> Vec<Value> {
    let mut numbers: Vec<u64> = (0..=40).filter(|number| number % 10 != 0).collect();
    numbers.sort_by_key(u64::to_string);
    numbers.into_iter().map(|number| json!(number)).collect()
}

#[test]
fn an_exception_is_a_failed_message_with_its_traceback() {
    let Some(python) = plain("an_exception_is_a_failed_message_with_its_traceback") else { return };
    let night = Night::new(&python, &json!(through("Raises", &json!({"retries": 1}))));
    let finished = night.run(&[]).expect_code(1);
    assert_eq!(night.lines(), others_than_tens());
    let summary = night.summary();
    assert_balanced(&summary);
    let bad = step(&summary, "BAD");
    assert_eq!((count(bad, "failed"), count(bad, "retried")), (5, 5));
    for part in ["ValueError: 30 is a multiple of ten", "faulty.py", "in run"] {
        assert!(finished.err.contains(part), "{part} in {}", finished.err);
    }
    let kept = files(&night.directory.path().join("quarantine"));
    let reasons = kept.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "json"));
    let texts: Vec<_> = reasons.map(|(_, bytes)| String::from_utf8_lossy(bytes)).collect();
    assert_eq!(texts.iter().filter(|text| text.contains("Traceback")).count(), 5);
}

#[test]
fn what_is_permanent_is_not_tried_again() {
    let Some(python) = plain("what_is_permanent_is_not_tried_again") else { return };
    let night = Night::new(&python, &json!(through("GivesUp", &json!({"retries": 9}))));
    night.run(&[]).expect_code(1);
    let summary = night.summary();
    let bad = step(&summary, "BAD");
    assert_eq!((count(bad, "failed"), count(bad, "retried")), (41, 0));
}

#[test]
fn a_worker_that_dies_costs_its_own_message_only() {
    for how in ["exit", "segfault"] {
        let Some(python) = plain("a_worker_that_dies_costs_its_own_message_only") else { return };
        let more = json!({"retries": 1, "params": {"how": how}});
        let night = Night::new(&python, &json!(through("Dies", &more)));
        let finished = night.run(&[]).expect_code(1);
        assert_eq!(night.lines(), others_than_tens());
        let summary = night.summary();
        assert_balanced(&summary);
        assert_eq!(count(step(&summary, "BAD"), "failed"), 5);
        let reason = if how == "exit" { "exit code 7" } else { "SIGSEGV" };
        assert!(finished.err.contains(reason), "{}", finished.err);
        if how == "segfault" {
            assert!(finished.err.contains("faulty.py"), "where it was: {}", finished.err);
        }
    }
}

#[test]
fn a_message_that_takes_too_long_is_ended() {
    let Some(python) = plain("a_message_that_takes_too_long_is_ended") else { return };
    let more = json!({"timeout": 1, "params": {"how": "hang"}, "nb_process": 5});
    let night = Night::new(&python, &json!(through("Dies", &more)));
    let finished = night.run(&[]).expect_code(1);
    assert_eq!(night.lines(), others_than_tens());
    assert!(finished.err.contains("time limit of 1 s"), "{}", finished.err);
}

#[test]
fn killed_workers_in_python_lose_nothing_and_repeat_nothing() {
    let Some(python) = plain("killed_workers_in_python_lose_nothing_and_repeat_nothing") else {
        return;
    };
    let slow = with(
        of("faulty", "SLOW", "Sleeps"),
        &json!({"nb_process": 4, "retries": 50, "backoff": 0, "params": {"seconds": 0.003}}),
    );
    let producer = with(first_model("IN", "YieldingProducer"), &json!({"params": {"last": 3000}}));
    let night = Night::new(&python, &json!([producer, slow, first_model("END", "Write")]));
    let path = night.directory.path();
    fs::write(path.join("pipeline.json"), night.config.to_string()).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut program = drpipe(path)
        .args(["--summary", "run.json", "--quiet", "--log-level", "off"])
        .spawn()
        .unwrap();
    let mut kills = 0;
    let status = disturb_until_end(&mut program, Duration::from_millis(300), |program| {
        // Producer and consumer keep something: killing those ends the run.
        // Nor one that has not begun: killed again and again, it never would.
        let at_work = |pid: &u32| is_of(*pid, "SLOW") && sockets(*pid) >= 2;
        let slow: Vec<u32> = children(program).into_iter().filter(at_work).collect();
        if !slow.is_empty() {
            signal(slow[rng.random_range(0..slow.len())], Signal::KILL);
            kills += 1;
        }
    });
    assert_eq!(status.code(), Some(0));
    assert!(kills > 1, "{kills} kills");
    let numbers: Vec<u64> = night.lines().iter().map(|line| line.as_u64().unwrap()).collect();
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..=3000).collect::<Vec<u64>>());
    assert_balanced(&night.summary());
}

/// How many sockets the process has: its lifeline, and once it has begun that of the router.
fn sockets(pid: u32) -> usize {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    let targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

/// Whether the process works for the step.
fn is_of(pid: u32, step: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|word| word == step.as_bytes())
}

#[test]
fn an_init_that_returns_false_stops_the_run() {
    let Some(python) = plain("an_init_that_returns_false_stops_the_run") else { return };
    let steps = [
        first_model("IN", "YieldingProducer"),
        first_model("NO", "Refuses"),
        first_model("END", "Write"),
    ];
    let night = Night::new(&python, &json!(steps));
    let finished = night.run(&[]).expect_code(3);
    assert!(finished.err.contains("init"), "{}", finished.err);
    assert!(finished.err.contains("False"), "{}", finished.err);
}

#[test]
fn a_producer_that_raises_ends_production_and_what_it_made_is_processed() {
    let test = "a_producer_that_raises_ends_production_and_what_it_made_is_processed";
    let Some(python) = plain(test) else { return };
    let steps = [of("faulty", "IN", "FailingProducer"), first_model("END", "Write")];
    let night = Night::new(&python, &json!(steps));
    let finished = night.run(&[]).expect_code(3);
    assert!(finished.err.contains("no more film"), "{}", finished.err);
    assert_eq!(night.lines(), [json!(1)]);
}

#[test]
fn a_next_step_that_is_not_there_is_named_with_the_nearest() {
    let Some(python) = plain("a_next_step_that_is_not_there_is_named_with_the_nearest") else {
        return;
    };
    let night = Night::new(&python, &json!(through("Astray", &json!({}))));
    let finished = night.run(&[]).expect_code(1);
    assert!(finished.err.contains("AND") && finished.err.contains("END"), "{}", finished.err);
}

#[test]
fn what_is_printed_and_logged_joins_the_log_with_step_and_worker() {
    let test = "what_is_printed_and_logged_joins_the_log_with_step_and_worker";
    let Some(python) = plain(test) else { return };
    let night = Night::new(&python, &json!(through("Talks", &json!({}))));
    let finished = night.run(&["--log-format", "json"]).expect_code(0);
    let lines: Vec<Value> =
        finished.err.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said = |level: &str, message: &str| {
        let found = lines.iter().find(|line| line["message"] == message);
        let found = found.unwrap_or_else(|| panic!("{message} in {}", finished.err));
        assert_eq!(found["level"], level);
        assert_eq!(found["step"], "BAD");
        assert!(found["worker"].as_u64().unwrap() < 2);
    };
    said("INFO", "printed 7");
    said("WARN", "complained 7");
    said("WARN", "logged\nin two lines 7");
    said("ERROR", "logged elsewhere 7");
}

#[test]
fn what_is_missing_is_said_before_the_run_and_what_to_do() {
    let Some(python) = plain("what_is_missing_is_said_before_the_run_and_what_to_do") else {
        return;
    };
    let refused = |steps: &[Value], parts: &[&str]| {
        let night = Night::new(&python, &json!(steps));
        let finished = night.run(&[]).expect_code(2);
        for part in parts {
            assert!(finished.err.contains(part), "{part} in {}", finished.err);
        }
        assert!(!night.directory.path().join("out.txt").exists());
    };
    let around =
        |step: Value| [first_model("IN", "YieldingProducer"), step, first_model("END", "Write")];
    let import = around(of("broken_import", "B", "Any"));
    refused(&import, &["a_package_that_is_nowhere", "pip install"]);
    refused(&around(of("no_such_module", "B", "Any")), &["no_such_module"]);
    refused(&around(first_model("B", "ReturningSqaure")), &["did you mean \"ReturningSquare\"?"]);
    let params = json!({"params": {"gain": "high"}});
    refused(&around(with(of("faulty", "B", "Declares"), &params)), &["gain", "expected"]);
    refused(&around(of("faulty", "B", "Needs")), &["factor"]);
    let python = json!({"python": "/no/such/python"});
    refused(&around(with(first_model("B", "Named"), &python)), &["/no/such/python does not exist"]);
}

#[test]
fn an_undeclared_parameter_is_passed_with_a_warning() {
    let Some(python) = plain("an_undeclared_parameter_is_passed_with_a_warning") else { return };
    let more = json!({"params": {"gian": 2, "gain": 3}});
    let night = Night::new(&python, &json!(through("Declares", &more)));
    let finished = night.run(&[]).expect_code(0);
    assert!(finished.err.contains("did you mean \"gain\"?"), "{}", finished.err);
    assert_eq!(night.lines().len(), 41);
    assert!(night.lines().contains(&json!(120.0)));
}

#[test]
fn no_worker_in_python_outlives_a_program_that_was_killed() {
    let Some(python) = plain("no_worker_in_python_outlives_a_program_that_was_killed") else {
        return;
    };
    let more = json!({"params": {"how": "hang"}});
    let night = Night::new(&python, &json!(through("Dies", &more)));
    let path = night.directory.path();
    fs::write(path.join("pipeline.json"), night.config.to_string()).unwrap();
    let mut program = drpipe(path).args(["--quiet", "--log-level", "off"]).spawn().unwrap();
    let id = program.id();
    let workers =
        eventually("four workers", || Some(children(id)).filter(|workers| workers.len() == 4));
    program.kill().unwrap();
    program.wait().unwrap();
    eventually("all have ended", || (!workers.iter().any(|pid| is_alive(*pid))).then_some(()));
}

#[test]
fn one_that_prints_without_end_is_ended_by_its_time_limit() {
    let Some(python) = plain("one_that_prints_without_end_is_ended_by_its_time_limit") else {
        return;
    };
    let more = json!({"timeout": 1, "nb_process": 5});
    let night = Night::new(&python, &json!(through("Floods", &more)));
    let finished = night.run(&["--log-level", "warn"]).expect_code(1);
    assert_eq!(night.lines(), others_than_tens());
    assert!(finished.err.contains("time limit of 1 s"), "{}", finished.err);
}

#[test]
fn a_forked_child_ends_where_the_step_ends() {
    let Some(python) = plain("a_forked_child_ends_where_the_step_ends") else { return };
    let night = Night::new(&python, &json!(through("Forks", &json!({}))));
    night.run(&[]).expect_code(0);
    let mut expected: Vec<Value> = (0..=40).map(|number| json!([number, 3])).collect();
    expected.sort_by_key(|line| format!("[{}, 3]", line[0]));
    assert_eq!(night.lines(), expected);
}

#[test]
fn what_is_said_at_the_very_end_is_heard() {
    let Some(python) = plain("what_is_said_at_the_very_end_is_heard") else { return };
    let producer = with(first_model("IN", "YieldingProducer"), &json!({"params": {"last": 5}}));
    for mode in ["threads", "sequential"] {
        let night = Night::new(&python, &json!([producer, of("faulty", "END", "LastWords")]));
        let finished = night.run(&["--mode", mode]).expect_code(0);
        assert_eq!(finished.err.matches(" said ").count(), 5000, "{mode}");
        assert!(finished.err.contains("the last line"), "{mode}");
    }
}

#[test]
fn a_constructor_that_takes_anything_gets_its_parameters() {
    let Some(python) = plain("a_constructor_that_takes_anything_gets_its_parameters") else {
        return;
    };
    let night = Night::new(&python, &json!(through("Builds", &json!({"params": {"a": 2}}))));
    night.run(&[]).expect_code(0);
    assert!(night.lines().contains(&json!(160)));
}

#[test]
fn what_a_step_has_started_ends_with_a_program_that_was_killed() {
    let test = "what_a_step_has_started_ends_with_a_program_that_was_killed";
    let Some(python) = plain(test) else { return };
    starts_and_ends(&python, |program| program.kill().unwrap());
}

#[test]
fn what_a_step_has_started_ends_with_a_run_that_was_stopped() {
    let test = "what_a_step_has_started_ends_with_a_run_that_was_stopped";
    let Some(python) = plain(test) else { return };
    starts_and_ends(&python, |program| {
        // The second signal after the first has been noticed.
        while program.try_wait().unwrap().is_none() {
            signal(program.id(), Signal::TERM);
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}

/// A run whose workers have started programs in every way ends by `end`, and they with it.
fn starts_and_ends(python: &std::path::Path, end: impl Fn(&mut std::process::Child)) {
    let night = Night::new(python, &json!(through("Starts", &json!({}))));
    let path = night.directory.path();
    fs::write(path.join("pipeline.json"), night.config.to_string()).unwrap();
    let temporary = path.join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut command = drpipe(path);
    command.env("TMPDIR", &temporary).args(["--quiet", "--log-level", "off"]);
    let mut program = command.spawn().unwrap();
    let started = eventually("both workers have started programs", || {
        let files = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        let is_list = |file: &std::path::PathBuf| {
            file.file_name().unwrap().to_str().unwrap().starts_with("started-")
        };
        let texts = files.filter(is_list).map(|file| fs::read_to_string(file).unwrap());
        let numbers: Vec<u32> = texts
            .flat_map(|text| {
                text.split(' ').filter_map(|number| number.parse().ok()).collect::<Vec<_>>()
            })
            .collect();
        (numbers.len() == 8).then_some(numbers)
    });
    assert!(started.iter().all(|process| is_alive(*process)));
    let workers = children(program.id());
    end(&mut program);
    program.wait().unwrap();
    let all: Vec<u32> = started.into_iter().chain(workers).collect();
    eventually("all of them end", || all.iter().all(|one| !is_alive(*one)).then_some(()));
    eventually("the private directory goes", || {
        fs::read_dir(&temporary).unwrap().next().is_none().then_some(())
    });
}

#[test]
fn a_package_that_was_spoilt_is_mended() {
    let Some(python) = plain("a_package_that_was_spoilt_is_mended") else { return };
    let night = Night::new(&python, &json!(through("Sleeps", &json!({}))));
    let path = night.directory.path();
    let cache = path.join("cache");
    let run = || {
        fs::write(path.join("pipeline.json"), night.config.to_string()).unwrap();
        let mut command = drpipe(path);
        finish(command.env("XDG_CACHE_HOME", &cache).arg("--quiet")).expect_code(0)
    };
    run();
    let all = || files(&cache).into_keys().collect::<Vec<_>>();
    let find = |name: &str| {
        let found = all().into_iter().find(|file| file.to_str().unwrap().contains(name));
        cache.join(found.unwrap_or_else(|| panic!("no {name} in {:?}", all())))
    };
    for spoilt in ["drpipe/protocol/wire.py", "__pycache__/wire."] {
        fs::write(find(spoilt), "").unwrap();
        run();
    }
    fs::remove_file(find("drpipe/protocol/wire.py")).unwrap();
    run();
}

#[test]
fn an_interpreter_that_is_asked_ends_with_the_program() {
    let Some(python) = plain("an_interpreter_that_is_asked_ends_with_the_program") else { return };
    let night = Night::new(&python, &json!(through("Sleeps", &json!({}))));
    let path = night.directory.path();
    let mut config = night.config.clone();
    config["stagers"][0]["module"] = json!("slow_to_import");
    config["pythonpath"] = json!(path);
    fs::write(path.join("pipeline.json"), config.to_string()).unwrap();
    let text = "import os, time\nopen('asked', 'w').write(str(os.getpid()))\ntime.sleep(600)\n";
    fs::write(path.join("slow_to_import.py"), text).unwrap();
    let mut program = drpipe(path).stderr(std::process::Stdio::null()).spawn().unwrap();
    let asked = eventually("the interpreter is asked", || {
        fs::read_to_string(path.join("asked")).ok()?.parse().ok()
    });
    program.kill().unwrap();
    program.wait().unwrap();
    eventually("the interpreter ends", || (!is_alive(asked)).then_some(()));
}
