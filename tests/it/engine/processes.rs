//! Worker processes: the same results as threads, and nothing lost, repeated or
//! left behind when they die. `DRPIPE_SEEDS=n` repeats what is random n times.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::graphs::graph;
use crate::support::processes::{children, disturb_until_end, eventually, is_alive, signal};
use crate::support::program::{
    Finished, assert_balanced, count, drpipe, example, files, finish, finished, json as read_json,
    step,
};

/// Numbers from 0 to `last` through `stagers` into the lines of a file.
fn numbers(last: u64, stagers: &Value) -> Value {
    let mut all = stagers.as_array().unwrap().clone();
    all.push(json!({"name": "FORMAT", "class": "FormatNumber"}));
    json!({
        "version": 1,
        "producer": {"name": "NUMBERS", "class": "Integers", "params": {"last": last}},
        "stagers": all,
        "consumer": {"name": "END", "class": "WriteLines", "params": {"file": "out.txt"}},
    })
}

fn write(directory: &Path, config: &Value) {
    fs::write(directory.join("pipeline.json"), config.to_string()).unwrap();
}

fn run(config: &Value, args: &[&str]) -> (Finished, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), config);
    let mut program = drpipe(directory.path());
    (finish(program.args(["--summary", "run.json"]).args(args)), directory)
}

fn start(directory: &Path, config: &Value) -> Child {
    write(directory, config);
    let mut program = drpipe(directory);
    program.args(["--summary", "run.json", "--quiet", "--log-level", "debug"]);
    program.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

/// The numbers in the file, in order of size.
fn lines(directory: &Path) -> Vec<u64> {
    let text = fs::read_to_string(directory.join("out.txt")).unwrap();
    let mut numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

fn seeds() -> u64 {
    std::env::var("DRPIPE_SEEDS").map_or(2, |seeds| seeds.parse().unwrap())
}

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
fn killed_workers_lose_nothing_and_repeat_nothing() {
    for seed in 0..seeds() {
        let process = |name: &str, class: &str| json!({"name": name, "class": class, "nb_process": 2, "retries": 50, "backoff": 0});
        let mut slow = process("B", "Sleep");
        slow["params"] = json!({"seconds": 0.0001});
        let config = numbers(8000, &json!([process("A", "Pass"), slow, process("C", "Square")]));
        let directory = tempfile::tempdir().unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut program = start(directory.path(), &config);
        let mut kills = 0;
        drain(&mut program);
        let status = disturb_until_end(&mut program, Duration::from_millis(50), |program| {
            let workers = children(program);
            // Six workers have been started: the run is under way.
            if kills > 0 || workers.len() == 6 {
                let Some(worker) = workers.get(rng.random_range(0..workers.len().max(1))) else {
                    return;
                };
                signal(*worker, Signal::KILL);
                kills += 1;
            }
        });
        let summary = read_json(&directory.path().join("run.json"));
        assert_eq!(status.code(), Some(0), "seed {seed}: {summary:#}");
        assert!(kills > 1, "seed {seed}");
        assert_balanced(&summary);
        let squares: Vec<u64> = (0..=8000).map(|number| number * number).collect();
        assert_eq!(lines(directory.path()), squares, "seed {seed}");
        assert_eq!(count(step(&summary, "END"), "received"), 8001);
    }
}

/// Reads what the program says, so that it never waits for a reader.
fn drain(program: &mut Child) {
    let mut err = program.stderr.take().unwrap();
    std::thread::spawn(move || std::io::copy(&mut err, &mut std::io::sink()));
}

#[test]
fn a_worker_that_dies_with_what_it_has_gathered_ends_the_run() {
    let mut config = numbers(
        100_000,
        &json!([{"name": "S", "class": "Sleep", "nb_thread": 1,
                                              "params": {"seconds": 0.001}}]),
    );
    config["consumer"]["nb_process"] = json!(1);
    config["consumer"]["retries"] = json!(5);
    let directory = tempfile::tempdir().unwrap();
    let mut program = start(directory.path(), &config);
    eventually("the run starts", || says(&mut program, "every worker is ready"));
    let mut err = program.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut err, &mut text).map(|_| text).unwrap()
    });
    // Killed before it has gathered anything it costs nothing: then the next one hits.
    let status = disturb_until_end(&mut program, Duration::from_millis(100), |program| {
        children(program).iter().for_each(|worker| signal(*worker, Signal::KILL));
    });
    let err = reader.join().unwrap();
    assert_eq!(status.code(), Some(3), "{err}");
    assert!(err.contains("has lost what it had gathered"), "{err}");
    assert!(!directory.path().join("out.txt").exists(), "a part of the lines as if it were all");
    assert_balanced(&read_json(&directory.path().join("run.json")));
}

#[test]
fn a_message_whose_worker_is_killed_is_kept_as_lost() {
    let step = json!([{"name": "S", "class": "Sleep", "params": {"seconds": 600}, "nb_process": 1,
                "lost_retries": 0}]);
    let directory = tempfile::tempdir().unwrap();
    let mut program = start(directory.path(), &numbers(0, &step));
    eventually("the run starts", || says(&mut program, "every worker is ready"));
    drain(&mut program);
    // A kill before the message was begun costs nothing: then the next one hits.
    let status = disturb_until_end(&mut program, Duration::from_millis(30), |program| {
        children(program).iter().for_each(|worker| signal(*worker, Signal::KILL));
    });
    assert_eq!(status.code(), Some(1));
    let reason = only_reason(directory.path());
    assert_eq!((&reason["cause"], &reason["step"]), (&json!("lost"), &json!("S")));
    assert!(reason["reason"][0].as_str().unwrap().contains("signal 9 (SIGKILL)"), "{reason}");
}

/// One of the program's log lines, once it is there; up to it all are read.
fn says(program: &mut Child, text: &str) -> Option<()> {
    use std::io::Read;
    let err = program.stderr.as_mut().unwrap();
    let mut seen = String::new();
    let mut byte = [0];
    while !seen.contains(text) {
        let read = err.read(&mut byte).unwrap();
        assert!(read > 0, "it ended: {seen}");
        seen.push(char::from(byte[0]));
    }
    Some(())
}

/// The contents of the one `reason.json` in quarantine.
fn only_reason(directory: &Path) -> Value {
    let kept = files(&directory.join("quarantine"));
    let mut reasons = kept.iter().filter(|(path, _)| path.ends_with("reason.json"));
    let (_, text) = reasons.next().expect("something is in quarantine");
    assert!(reasons.next().is_none(), "{:?}", kept.keys());
    serde_json::from_slice(text).unwrap()
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
fn no_worker_outlives_a_program_that_was_killed() {
    let step =
        json!([{"name": "S", "class": "Sleep", "params": {"seconds": 600}, "nb_process": 3}]);
    let directory = tempfile::tempdir().unwrap();
    let temporary = directory.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    write(directory.path(), &numbers(9, &step));
    let mut command = drpipe(directory.path());
    let mut program = command
        .env("TMPDIR", &temporary)
        .args(["--quiet", "--log-level", "debug"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the run starts", || says(&mut program, "every worker is ready"));
    let workers = children(program.id());
    assert_eq!(workers.len(), 3);
    program.kill().unwrap();
    program.wait().unwrap();
    eventually("the workers end", || workers.iter().all(|worker| !is_alive(*worker)).then_some(()));
    eventually("the private directory goes", || files(&temporary).is_empty().then_some(()));
}

#[test]
fn signals_end_worker_processes_too() {
    for signals in [1, 2] {
        let step =
            json!([{"name": "S", "class": "Sleep", "params": {"seconds": 0.2}, "nb_process": 2}]);
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

/// Where memory runs out the system takes the one that offers itself.
#[test]
fn a_worker_is_taken_before_the_program_where_memory_runs_out() {
    let step =
        json!([{"name": "S", "class": "Sleep", "params": {"seconds": 600}, "nb_process": 2}]);
    let directory = tempfile::tempdir().unwrap();
    let mut program = start(directory.path(), &numbers(9, &step));
    eventually("the run starts", || says(&mut program, "every worker is ready"));
    drain(&mut program);
    let offered = |pid: u32| -> i32 {
        let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
        text.trim().parse().unwrap()
    };
    let workers = children(program.id());
    assert_eq!(workers.len(), 2);
    assert!(workers.iter().all(|worker| offered(*worker) > offered(program.id())));
    program.kill().unwrap();
    program.wait().unwrap();
}

/// As a service manager or a batch system does it: everybody is told to end.
#[test]
fn a_signal_to_the_workers_too_fails_no_message() {
    let step =
        json!([{"name": "S", "class": "Sleep", "params": {"seconds": 0.5}, "nb_process": 2}]);
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
fn workers_that_end_before_they_do_any_work_end_the_run() {
    // Killed as soon as they are seen, again and again.
    let step = json!([{"name": "S", "class": "Sleep", "params": {"seconds": 0.05}, "nb_process": 2,
                       "retries": 1000, "backoff": 0}]);
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &numbers(100_000, &step));
    let mut command = drpipe(directory.path());
    let mut program = command.args(["--quiet"]).stderr(Stdio::piped()).spawn().unwrap();
    let status = {
        let err = program.stderr.take().unwrap();
        let reader = std::thread::spawn(move || std::io::read_to_string(err).unwrap());
        let status = disturb_until_end(&mut program, Duration::from_micros(100), |program| {
            children(program).iter().for_each(|worker| signal(*worker, Signal::KILL));
        });
        let err = reader.join().unwrap();
        let known = ["end before they do any work", "could not be started"];
        assert!(known.iter().any(|reason| err.contains(reason)), "{err}");
        status
    };
    assert_eq!(status.code(), Some(3));
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
fn every_way_to_die_costs_its_own_message_only() {
    for fault in ["abort", "segfault", "exit", "hang", "ignore_sigterm"] {
        let step = json!([{"name": "S", "class": "Fault", "nb_process": 2, "timeout": 1,
                           "params": {"fault": fault, "numbers": 10}}]);
        let (finished, directory) = run(&numbers(29, &step), &["--log-level", "error"]);
        finished.expect_code(1);
        let good: Vec<u64> = (0..30).filter(|number| number % 10 != 0).collect();
        assert_eq!(lines(directory.path()), good, "{fault}");
        let summary = read_json(&directory.path().join("run.json"));
        assert_balanced(&summary);
        assert_eq!(count(step_of(&summary), "failed"), 3, "{fault}");
    }
}

fn step_of(summary: &Value) -> &Value {
    step(summary, "S")
}

/// A worker that leaks is replaced between two messages, at nobody's cost.
#[test]
fn a_worker_that_has_leaked_is_replaced() {
    let step = json!([{"name": "S", "class": "Fault", "nb_process": 1, "memory_limit": "100 MiB",
                       "params": {"fault": "leak", "numbers": 10, "bytes": 150 << 20}}]);
    let (finished, directory) = run(&numbers(39, &step), &["--log-level", "error"]);
    let summary = read_json(&directory.path().join("run.json"));
    assert_balanced(&summary);
    // Whether a leaking message is done before its memory is looked at is a matter of time;
    // no other one suffers.
    let failed = count(step_of(&summary), "failed");
    let good: Vec<u64> = (0..40).filter(|number| number % 10 != 0).collect();
    assert!(good.iter().all(|number| lines(directory.path()).contains(number)), "{failed}");
    assert_eq!(finished.code, Some(i32::from(failed > 0)), "{}", finished.err);
    assert!(finished.err.contains("memory"), "{}", finished.err);
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
