//! Worker processes: the same results as threads, and an end that signals and limits bring about.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::process_runs::{drain, lines, numbers, run, says, seeds, start, step_of, write};
use crate::support::graphs::graph;
use crate::support::processes::{children, disturb_until_end, eventually, is_alive, signal};
use crate::support::program::{
    assert_balanced, count, drpipe, example, files, finish, finished, json as read_json, step,
};

#[test]
fn processes_give_the_same_results_as_threads() {
    let square = |key: &str| numbers(3000, &json!([{"name": "S", "class": "Square", key: 3}]));
    let (threads, here) = run(&square("nb_thread"), &[]);
    let (processes, there) = run(&square("nb_process"), &[]);
    threads.expect_code(0);
    processes.expect_code(0);
    assert_eq!(lines(here.path()), lines(there.path()));
    let squares: Vec<u64> = (0..=3000).map(|number| number * number).collect();
    assert_eq!(lines(there.path()), squares);
}

#[test]
fn threads_and_processes_serve_one_step_together() {
    let both = json!([{"name": "S", "class": "Square", "nb_thread": 4, "nb_process": 2}]);
    let (finished, directory) = run(&numbers(5000, &both), &[]);
    finished.expect_code(0);
    assert_eq!(lines(directory.path()).len(), 5001);
    let summary = read_json(&directory.path().join("run.json"));
    assert_eq!(count(step(&summary, "S"), "workers"), 6);
}

#[test]
fn large_arrays_cross_processes_unchanged() {
    let products = |key: &str| {
        let config = json!({
            "version": 1,
            "producer": {"name": "SYNTH", "class": "SynthFrames",
                         "params": {"count": 4, "width": 600, "height": 500}},
            "stagers": [{"name": "CLEAN", "class": "NoiseRemoval", key: 2}],
            "consumer": {"name": "SAVE", "class": "WriteFits", key: 2,
                         "params": {"directory": "fits"}},
        });
        let (finished, directory) = run(&config, &[]);
        finished.expect_code(0);
        files(&directory.path().join("fits"))
    };
    let threads = products("nb_thread");
    assert_eq!(threads.len(), 4);
    assert!(threads.values().all(|file| file.len() > 1_000_000), "large enough to be shared");
    assert_eq!(threads, products("nb_process"));
}

#[test]
fn a_message_that_takes_too_long_is_ended_and_the_rest_goes_on() {
    // Half of the numbers wait for ten minutes each.
    let stagers = json!([
        {"name": "SPLIT", "class": "EvenOdd", "params": {"even": "SLOW", "odd": "FAST"},
         "next_steps": ["SLOW", "FAST"]},
        {"name": "SLOW", "class": "Sleep", "params": {"seconds": 600}, "nb_process": 2,
         "timeout": 0.2, "next_steps": "FORMAT"},
        {"name": "FAST", "class": "Pass", "next_steps": "FORMAT"},
    ]);
    let mut config = numbers(9, &stagers);
    config["producer"]["next_steps"] = json!("SPLIT");
    config["stagers"][3]["next_steps"] = json!("END");
    let (finished, directory) = run(&config, &[]);
    let finished = finished.expect_code(1);
    assert!(finished.err.contains("longer than the time limit of 0.2 s"), "{}", finished.err);
    assert_eq!(lines(directory.path()), [1, 3, 5, 7, 9]);
    let summary = read_json(&directory.path().join("run.json"));
    assert_balanced(&summary);
    assert_eq!(count(step(&summary, "SLOW"), "failed"), 5);
    let kept = files(&directory.path().join("quarantine"));
    let reasons = kept.iter().filter(|(path, _)| path.ends_with("reason.json"));
    for (_, text) in reasons {
        let reason: Value = serde_json::from_slice(text).unwrap();
        assert_eq!(reason["cause"], "timed out");
    }
}

#[test]
fn signals_end_worker_processes_too() {
    for signals in [1, 2] {
        let step = json!([{"name": "S", "class": "Sleep", "params": {"seconds": 0.2}, "nb_process": 2,
                    "queue_limit": 20}]);
        let directory = tempfile::tempdir().unwrap();
        let mut program = start(directory.path(), &numbers(100_000, &step));
        eventually("the run starts", || says(&mut program, "every worker is ready"));
        let workers = children(program.id());
        signal(program.id(), Signal::TERM);
        if signals == 2 {
            eventually("it drains", || says(&mut program, "interrupted"));
            signal(program.id(), Signal::TERM);
        } else {
            drain(&mut program);
        }
        assert_eq!(eventually("it ends", || program.try_wait().unwrap()).code(), Some(130));
        assert!(workers.iter().all(|worker| !is_alive(*worker)), "a worker is left");
        assert_balanced(&read_json(&directory.path().join("run.json")));
    }
}

/// As a service manager or a batch system does it: everybody is told to end.
#[test]
fn a_signal_to_the_workers_too_fails_no_message() {
    let step = json!([{"name": "S", "class": "Sleep", "params": {"seconds": 0.5}, "nb_process": 2,
                "queue_limit": 20}]);
    let directory = tempfile::tempdir().unwrap();
    let mut program = start(directory.path(), &numbers(100_000, &step));
    eventually("the run starts", || says(&mut program, "every worker is ready"));
    drain(&mut program);
    let workers = children(program.id());
    signal(program.id(), Signal::TERM);
    workers.iter().for_each(|worker| signal(*worker, Signal::TERM));
    assert_eq!(eventually("it ends", || program.try_wait().unwrap()).code(), Some(130));
    let summary = read_json(&directory.path().join("run.json"));
    assert_balanced(&summary);
    let step = step_of(&summary);
    assert_eq!((count(step, "failed"), count(step, "dropped")), (0, 0), "{summary:#}");
}

#[test]
fn a_pool_grows_when_messages_wait() {
    let pool = json!({"min": 1, "max": 3});
    let sleep = json!([{"name": "S", "class": "Sleep", "params": {"seconds": 0.05},
                        "nb_process": pool}]);
    let directory = tempfile::tempdir().unwrap();
    let mut program = start(directory.path(), &numbers(60, &sleep));
    drain(&mut program);
    let mut most = 0;
    let status = disturb_until_end(&mut program, Duration::from_millis(2), |program| {
        most = most.max(children(program).len());
    });
    assert_eq!((status.code(), most), (Some(0), 3));
    assert_eq!(lines(directory.path()), (0..=60).collect::<Vec<_>>());
}

/// Mocks know their whole ledger beforehand: none may be lost, none may hang.
#[test]
fn random_graphs_of_threads_and_processes_keep_their_ledger() {
    for seed in 0..seeds() * 8 {
        let directory = tempfile::tempdir().unwrap();
        let graph = graph(seed);
        write(directory.path(), &graph);
        let text = graph.to_string();
        let deaths = if text.contains("timeout") { ",abort=0.02,hang=0.002" } else { "" };
        let faults =
            format!("fail=0.05,panic=0.05,undeclared=0.02,messages=150,seed={seed}{deaths}");
        let mut program = drpipe(directory.path());
        let run = finish(program.args(["check", "--mock", &faults, "--log-level", "off"]));
        assert_eq!(run.code, Some(0), "seed {seed}: {}\n{}\n{graph:#}", run.out, run.err);
    }
}

#[test]
fn two_runs_side_by_side_in_one_directory_do_not_touch_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let square = json!([{"name": "S", "class": "Square", "nb_process": 2}]);
    write(directory.path(), &numbers(20_000, &square));
    let one = |file: &str| {
        let mut command = drpipe(directory.path());
        command.args(["--set", &format!("END.file={file}"), "--quiet"]).spawn().unwrap()
    };
    let runs = ["one.txt", "two.txt"].map(one);
    for run in runs {
        finished(run.wait_with_output().unwrap()).expect_code(0);
    }
    let read = |file: &str| {
        let text = fs::read_to_string(directory.path().join(file)).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(read("one.txt").len(), 20_001);
    assert_eq!(read("one.txt"), read("two.txt"));
}

#[test]
fn a_program_that_embeds_drpipe_has_worker_processes_too() {
    let directory = tempfile::tempdir().unwrap();
    let run = finish(&mut example("worker_processes", directory.path())).expect_code(0);
    let expected: i64 = (1..=1000).map(|number: i64| number * 3).sum();
    assert!(run.out.contains(&expected.to_string()), "{}", run.out);
}

#[test]
fn the_sequential_mode_keeps_to_limits() {
    let directory = tempfile::tempdir().unwrap();
    let config = json!({
        "version": 1,
        "producer": { "name": "N", "class": "Integers", "params": { "first": 1, "last": 2 } },
        "stagers": [{ "name": "SLOW", "class": "Sleep", "nb_process": 2, "timeout": 0.3,
            "params": { "seconds": 600.0 } }],
        "consumer": { "name": "END", "class": "Discard" }
    });
    fs::write(directory.path().join("c.json"), config.to_string()).unwrap();
    let mut command = drpipe(directory.path());
    command.args(["c.json", "--mode", "sequential", "--quiet", "--summary", "s.json"]);
    finish(&mut command).expect_code(1);
    let summary = read_json(&directory.path().join("s.json"));
    assert_balanced(&summary);
    let slow = step(&summary, "SLOW");
    assert_eq!(count(slow, "failed"), 2);
}
