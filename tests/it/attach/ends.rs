//! What becomes of the others when the run, its caller or a worker ends.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::caller::{Caller, Frame, squares, text, written};
use crate::support::processes::{eventually, is_alive, signal};

/// A run that stands at a message that never ends, and its private directory.
fn standing() -> (Caller, PathBuf) {
    let work = json!({"params": {"stuck_at": 1}});
    let mut caller = Caller::start(&squares(10, &work), &[]);
    for _ in 0..2 {
        let start = caller.next_start();
        caller.provide(start);
    }
    let marker = caller.directory().join("stuck");
    eventually("the worker stands still", || marker.exists().then_some(()));
    let private = caller.private.clone();
    assert!(private.is_dir());
    (caller, private)
}

#[track_caller]
fn expect_gone(caller: &mut Caller, private: &std::path::Path) {
    let pids: Vec<u32> = caller.workers.values().map(|(_, child)| child.id()).collect();
    for (_, child) in caller.workers.values_mut() {
        child.wait().unwrap();
    }
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    eventually("the private directory is gone", || (!private.exists()).then_some(()));
}

#[test]
fn a_caller_that_leaves_takes_the_run_along() {
    let (mut caller, private) = standing();
    let start = Instant::now();
    caller.leave();
    assert_eq!(caller.run.wait().unwrap().code(), Some(3), "{}", caller.errors());
    expect_gone(&mut caller, &private);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(caller.errors().contains("the program that started this run has ended"));
}

#[test]
fn a_caller_that_leaves_while_nothing_is_open_drains_the_run() {
    let options = ["--log-level", "debug", "--summary", "summary.json"];
    let mut caller = Caller::start(&squares(10, &json!({})), &options);
    let starts = [caller.next_start(), caller.next_start()];
    // Nothing is open: the producer brings nothing.
    caller.request(1, &[0, 255, 255, 255, 255]);
    assert!(matches!(caller.receive(), Frame::Answer(1, None)));
    starts.into_iter().for_each(|start| caller.provide(start));
    let log = caller.directory().join("errors");
    eventually("the run has begun", || {
        fs::read_to_string(&log).unwrap().contains("every worker is ready").then_some(())
    });
    let private = caller.private.clone();
    caller.leave();
    assert_eq!(caller.run.wait().unwrap().code(), Some(130), "{}", caller.errors());
    expect_gone(&mut caller, &private);
    let report = fs::read_to_string(caller.directory().join("summary.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["verdict"], "interrupted", "{report}");
    assert_eq!(report["finish_failures"], json!([]), "{report}");
    assert_eq!(written(caller.directory()), [0_i64; 0], "the last step has finished its file");
    assert!(caller.errors().contains("the program that started this run has ended"));
    assert!(!caller.errors().contains("was lost"), "{}", caller.errors());
}

#[test]
fn a_run_that_dies_tells_its_caller() {
    let (mut caller, private) = standing();
    signal(caller.run.id(), Signal::KILL);
    assert!(matches!(caller.receive(), Frame::End));
    expect_gone(&mut caller, &private);
}

#[test]
fn a_caller_that_breaks_the_protocol_is_left() {
    let (mut caller, private) = standing();
    caller.send(&[99]);
    match caller.receive() {
        Frame::Over(3, report) => {
            let reason = report["reason"].as_str().unwrap();
            assert!(reason.contains("broke the protocol: frame kind 99"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(caller.run.wait().unwrap().code(), Some(3));
    expect_gone(&mut caller, &private);
}

/// The processor time that a process has used, in hundredths of a second.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn an_idle_attached_run_uses_no_cpu() {
    let mut caller =
        Caller::start(&squares(10, &json!({"timeout": 60})), &["--log-level", "debug"]);
    let starts = [caller.next_start(), caller.next_start()];
    caller.request(1, &[&[0][..], &text("WORK")].concat());
    assert!(matches!(caller.receive(), Frame::Answer(1, None)));
    starts.into_iter().for_each(|start| caller.provide(start));
    let log = caller.directory().join("errors");
    eventually("the run has begun", || {
        fs::read_to_string(&log).unwrap().contains("every worker is ready").then_some(())
    });
    // The claim is about time that passes: nothing happens in it that could be waited for.
    eventually("the run uses no processor time in 3 s", || {
        let before = ticks(caller.run.id());
        std::thread::sleep(Duration::from_secs(3));
        (ticks(caller.run.id()) - before <= 1).then_some(())
    });
}
