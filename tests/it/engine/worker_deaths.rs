//! The deaths of worker processes: nothing is lost, repeated or left behind.

use std::fs;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::process_runs::{drain, lines, numbers, run, says, seeds, start, step_of, write};
use crate::support::processes::{children, disturb_until_end, eventually, is_alive, signal};
use crate::support::program::{assert_balanced, count, drpipe, files, json as read_json, step};

/// Kills a worker whenever that is due, which is decided by the number of workers and of kills.
fn kill_workers_until_end(
    program: &mut Child,
    seed: u64,
    mut is_due: impl FnMut(usize, usize) -> bool,
) -> ExitStatus {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut kills = 0;
    drain(program);
    let status = disturb_until_end(program, Duration::from_millis(50), |program| {
        let workers = children(program);
        if !workers.is_empty() && is_due(workers.len(), kills) {
            signal(workers[rng.random_range(0..workers.len())], Signal::KILL);
            kills += 1;
        }
    });
    assert!(kills > 1, "seed {seed}");
    status
}

#[test]
fn killed_workers_lose_nothing_and_repeat_nothing() {
    for seed in 0..seeds() {
        let process = |name: &str, class: &str| json!({"name": name, "class": class, "nb_process": 2, "retries": 50, "backoff": 0});
        let mut slow = process("B", "Sleep");
        slow["params"] = json!({"seconds": 0.0001});
        let config = numbers(8000, &json!([process("A", "Pass"), slow, process("C", "Square")]));
        let directory = tempfile::tempdir().unwrap();
        let mut program = start(directory.path(), &config);
        // Six workers have been started: the run is under way.
        let is_due = |workers, kills| kills > 0 || workers == 6;
        let status = kill_workers_until_end(&mut program, seed, is_due);
        let summary = read_json(&directory.path().join("run.json"));
        assert_eq!(status.code(), Some(0), "seed {seed}: {summary:#}");
        assert_balanced(&summary);
        let squares: Vec<u64> = (0..=8000).map(|number| number * number).collect();
        assert_eq!(lines(directory.path()), squares, "seed {seed}");
        assert_eq!(count(step(&summary, "END"), "received"), 8001);
    }
}

#[test]
fn frames_in_memory_that_is_used_again_keep_their_pixels_when_workers_are_killed() {
    let config = |key: &str| {
        let stager = |name: &str, class: &str| json!({"name": name, "class": class, key: 2, "queue_limit": 2, "retries": 50, "backoff": 0});
        json!({
            "version": 1,
            "producer": {"name": "SYNTH", "class": "SynthFrames",
                         "params": {"count": 40, "width": 256, "height": 300, "stars": 5}},
            "stagers": [stager("CLEAN", "NoiseRemoval"), stager("PASS", "Pass")],
            "consumer": {"name": "SAVE", "class": "WriteFits", "params": {"directory": "fits"}},
        })
    };
    let (finished, there) = run(&config("nb_thread"), &[]);
    finished.expect_code(0);
    let expected = files(&there.path().join("fits"));
    assert_eq!(expected.len(), 40);
    for seed in 0..seeds() {
        let directory = tempfile::tempdir().unwrap();
        let mut program = start(directory.path(), &config("nb_process"));
        let products = directory.path().join("fits");
        let made = || fs::read_dir(&products).map_or(0, Iterator::count);
        // Those that follow a killed one do some work.
        let is_due = |_, kills| made() > 4 * kills;
        let status = kill_workers_until_end(&mut program, seed, is_due);
        let summary = read_json(&directory.path().join("run.json"));
        assert_eq!(status.code(), Some(0), "seed {seed}: {summary:#}");
        assert_balanced(&summary);
        assert_eq!(files(&products), expected, "seed {seed}");
    }
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

/// The contents of the one `reason.json` in quarantine.
fn only_reason(directory: &Path) -> Value {
    let kept = files(&directory.join("quarantine"));
    let mut reasons = kept.iter().filter(|(path, _)| path.ends_with("reason.json"));
    let (_, text) = reasons.next().expect("something is in quarantine");
    assert!(reasons.next().is_none(), "{:?}", kept.keys());
    serde_json::from_slice(text).unwrap()
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
        let known = ["times in a row before they did any work", "could not be started"];
        assert!(known.iter().any(|reason| err.contains(reason)), "{err}");
        status
    };
    assert_eq!(status.code(), Some(3));
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
