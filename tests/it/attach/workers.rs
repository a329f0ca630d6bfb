//! Attached workers: they do the work, die, are replaced, and are ended at their limits.

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use super::caller::{Caller, Frame, expected, squares, text, written};
use crate::support::program::{assert_balanced, count, step};

#[test]
fn attached_workers_do_the_work() {
    let mut caller = Caller::start(&squares(2000, &json!({})), &[]);
    let (code, report) = caller.serve();
    assert_eq!(code, 0, "{report}\n{}", caller.errors());
    assert_balanced(&report);
    assert_eq!(written(caller.directory()), expected(2000));
    assert!(matches!(caller.receive(), Frame::End), "OVER comes last");
    assert_eq!(caller.run.wait().unwrap().code(), Some(0));
    for (_, worker) in caller.workers.values_mut() {
        assert_eq!(worker.wait().unwrap().code(), Some(0), "an attached worker ends by itself");
    }
}

#[test]
fn an_attached_worker_killed_at_any_instant_loses_nothing() {
    const KILLS: u32 = 200;
    const LAST: i64 = 40_000;
    let work = json!({"lost_retries": KILLS, "params": {"busy_us": 100}});
    let mut caller = Caller::start(&squares(LAST, &work), &[]);
    let mut kills = 0;
    let (code, report) = loop {
        match caller.receive() {
            Frame::Start(start) => {
                let worker = start.worker;
                caller.tell_end(worker);
                caller.provide(start);
                // Each of them dies, at an instant that nobody chooses, until enough have.
                if kills < KILLS && caller.workers.len() == 2 {
                    kills += 1;
                    let victim = kills % 2;
                    kill(&caller, victim);
                }
            }
            Frame::Over(code, report) => break (code, report),
            other => panic!("{other:?}\n{}", caller.errors()),
        }
    };
    assert_eq!(code, 0, "{report}\n{}", caller.errors());
    assert_eq!(kills, KILLS);
    assert_balanced(&report);
    assert_eq!(written(caller.directory()), expected(LAST));
}

/// Kills the worker that comes in this place.
fn kill(caller: &Caller, place: u32) {
    let mut workers: Vec<_> = caller.workers.iter().collect();
    workers.sort_by_key(|(worker, _)| **worker);
    let (_, (_, child)) = workers[place as usize];
    kill_process_group(Pid::from_child(child), Signal::KILL).unwrap();
}

#[test]
fn a_message_that_takes_too_long_ends_the_attached_worker() {
    let work = json!({"timeout": 0.3, "grace": 0.1, "nb_process": 1, "params": {"stuck_at": 2}});
    let mut caller = Caller::start(&squares(3, &work), &[]);
    let (code, report) = caller.serve();
    assert_eq!(code, 1, "{report}\n{}", caller.errors());
    assert_eq!(count(step(&report, "WORK"), "failed"), 1);
    assert_eq!(written(caller.directory()), [1, 9]);
    assert!(caller.errors().contains("longer than the time limit of 0.3 s"));
}

#[test]
fn a_caller_that_cannot_start_workers_ends_the_run_with_its_reason() {
    let mut caller = Caller::start(&squares(3, &json!({"nb_process": 1})), &[]);
    // A lifeline that ends is a reason, too, and might be noticed first.
    let mut declined = Vec::new();
    let (code, report) = loop {
        match caller.receive() {
            Frame::Start(start) => {
                assert_eq!(start.step, "WORK");
                caller.decline(&start, "no room for another process");
                declined.push(start);
            }
            Frame::Over(code, report) => break (code, report),
            other => panic!("{other:?}\n{}", caller.errors()),
        }
    };
    assert_eq!(code, 3);
    let reason = report["reason"].as_str().unwrap();
    assert!(reason.contains("no room for another process"), "{reason}");
}

#[test]
fn a_process_that_is_gone_before_it_is_adopted_is_replaced() {
    let mut caller = Caller::start(&squares(50, &json!({"nb_process": 1})), &[]);
    let first = caller.next_start();
    // No process has this number: it is above the largest possible.
    let pid = (1_u32 << 22) + 1;
    let place = [&first.worker.to_le_bytes()[..], &first.incarnation.to_le_bytes()].concat();
    caller.send(&[&[2][..], &place, &pid.to_le_bytes(), &[1]].concat());
    let (code, report) = caller.serve();
    assert_eq!(code, 0, "{report}\n{}", caller.errors());
    assert_eq!(written(caller.directory()), expected(50));
}

#[test]
fn the_caller_may_pause_and_resume_and_set_the_number_of_workers() {
    let mut caller = Caller::start(&squares(500, &json!({"nb_process": 1})), &[]);
    let first = caller.next_start();
    caller.request(1, &[&[0][..], &text("NOBODY")].concat());
    caller.request(2, &[&[0][..], &text("WORK")].concat());
    let mut answers = Vec::new();
    for _ in 0..2 {
        match caller.receive() {
            Frame::Answer(number, error) => answers.push((number, error)),
            other => panic!("{other:?}"),
        }
    }
    let unknown = answers[0].1.as_deref().unwrap();
    assert!(answers[0].0 == 1 && unknown.contains("there is no step \"NOBODY\""), "{unknown}");
    assert_eq!(answers[1], (2, None));
    caller.provide(first);
    caller.request(3, &[&[1][..], &text("WORK")].concat());
    assert!(matches!(caller.receive(), Frame::Answer(3, None)));
    let (code, report): (u8, Value) = caller.serve();
    assert_eq!(code, 0, "{report}");
    assert_eq!(written(caller.directory()), expected(500));
}

#[test]
fn what_the_caller_asks_for_that_cannot_be_is_answered_with_the_reason() {
    let mut caller = Caller::start(&squares(3, &json!({"nb_process": 1})), &[]);
    let first = caller.next_start();
    // Integers have no names.
    caller.request(1, &[&[5][..], &text("raw/7.fits"), &[1]].concat());
    let entry = [&text("key")[..], &[0], &text("value")].concat();
    caller.send(&[&[6][..], &2_u32.to_le_bytes(), &1_u32.to_le_bytes(), &entry].concat());
    for (number, part) in
        [(1, "nothing of \"raw/7.fits\" is under way"), (2, "has none, so nothing was put in")]
    {
        match caller.receive() {
            Frame::Answer(found, Some(error)) if found == number => {
                assert!(error.contains(part), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    caller.provide(first);
    let (code, report) = caller.serve();
    assert_eq!(code, 0, "{report}");
}
