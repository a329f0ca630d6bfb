//! `ordered`: the last steps get their messages in the order of production.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use drpipe::pipeline::{Builder, Verdict};
use drpipe::prelude::*;

use crate::support::{Attempts, Call, Collected, Numbers};

const COUNT: i64 = 400;

/// Keeps its worker busy for a time that depends on the number.
fn jitter(number: i64) {
    let time = Duration::from_micros(number.unsigned_abs().wrapping_mul(7919) % 300);
    let start = Instant::now();
    while start.elapsed() < time {}
}

fn chain(threads: usize, collected: &Collected) -> Builder {
    Pipeline::builder()
        .producer("NUMBERS", Numbers::below(COUNT))
        .stage("TRIPLE", || {
            Call(|number, out: &mut Emitter<i64>| {
                jitter(number);
                (0..number % 4).try_for_each(|part| out.send(number * 10 + part))
            })
        })
        .threads(threads)
        .queue_limit(Some(3))
        .stage("PASS", || {
            Call(|number: i64, out: &mut Emitter<i64>| {
                jitter(-number);
                out.send(number)
            })
        })
        .threads(threads)
        .consumer("COLLECT", collected.collector())
        .queue_limit(Some(2))
        .ordered()
}

#[test]
fn every_mode_and_number_of_workers_gives_the_same_order() {
    let expected: Vec<i64> =
        (0..COUNT).flat_map(|number| (0..number % 4).map(move |part| number * 10 + part)).collect();
    for (mode, threads) in
        [(Mode::Sequential, 1), (Mode::Threads, 1), (Mode::Threads, 2), (Mode::Threads, 8)]
    {
        let collected = Collected::default();
        let report = chain(threads, &collected).build().unwrap().run(mode).unwrap();
        assert_eq!(report.verdict, Verdict::Done);
        assert_eq!(collected.in_order(), expected, "{mode:?} on {threads} threads");
    }
}

/// Opens when somebody says so.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let closed = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(closed, |open| !*open).unwrap());
    }
}

/// Without the order, 1 would always come before 0.
#[test]
fn what_is_overtaken_on_the_way_still_comes_first() {
    let (gate, collected) = (Gate::default(), Collected::default());
    let report = Pipeline::builder()
        .producer("NUMBERS", Numbers::below(2))
        .stage("OVERTAKE", move || {
            let gate = gate.clone();
            Call(move |number: i64, out: &mut Emitter<i64>| {
                if number == 0 {
                    gate.pass()
                } else {
                    gate.open()
                }
                out.send(number)
            })
        })
        .threads(2)
        .consumer("COLLECT", collected.collector())
        .ordered()
        .build()
        .unwrap()
        .run(Mode::Threads)
        .unwrap();
    assert_eq!(report.verdict, Verdict::Done);
    assert_eq!(collected.in_order(), [0, 1]);
}

#[test]
fn retries_keep_their_place_and_failures_hold_nothing_up() {
    for mode in [Mode::Sequential, Mode::Threads] {
        let (collected, attempts) = (Collected::default(), Attempts::default());
        let directory = tempfile::tempdir().unwrap();
        let report = Pipeline::builder()
            .producer("NUMBERS", Numbers::below(100))
            .stage("FAIL", move || {
                let attempts = attempts.clone();
                Call(move |number: i64, out: &mut Emitter<i64>| {
                    jitter(number);
                    if number % 10 == 7 {
                        return Err(Failure::permanent("never"));
                    }
                    if number % 10 == 3 && attempts.count(number) < 3 {
                        return Err(Failure::retryable("not yet"));
                    }
                    out.send(number)
                })
            })
            .threads(4)
            .retries(2, Duration::from_millis(1))
            .consumer("COLLECT", collected.collector())
            .quarantine(directory.path())
            .ordered()
            .build()
            .unwrap()
            .run(mode)
            .unwrap();
        assert_eq!((report.verdict, report.quarantined), (Verdict::SomeFailed, 10));
        let expected: Vec<i64> = (0..100).filter(|number| number % 10 != 7).collect();
        assert_eq!(collected.in_order(), expected);
    }
}

#[test]
fn branches_that_join_again_are_in_order() {
    for mode in [Mode::Sequential, Mode::Threads] {
        let collected = Collected::default();
        let report = Pipeline::builder()
            .producer("NUMBERS", Numbers::below(COUNT))
            .next_step("SWITCH")
            .stage("SWITCH", || {
                Call(|number: i64, out: &mut Emitter<i64>| {
                    out.send_to(if number % 3 == 0 { "LONG" } else { "COLLECT" }, number)
                })
            })
            .threads(3)
            .next_step("LONG")
            .next_step("COLLECT")
            .stage("LONG", || {
                Call(|number: i64, out: &mut Emitter<i64>| {
                    jitter(number);
                    out.send(number)
                })
            })
            .threads(2)
            .queue_limit(Some(1))
            .next_step("COLLECT")
            .consumer("COLLECT", collected.collector())
            .threads(2)
            .queue_limit(Some(1))
            .ordered()
            .build()
            .unwrap()
            .run(mode)
            .unwrap();
        assert_eq!(report.verdict, Verdict::Done);
        assert_eq!(collected.in_order(), (0..COUNT).collect::<Vec<_>>(), "{mode:?}");
    }
}
