//! Sentences of docs/BEHAVIOR.md that no other test holds.

use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use drpipe::pipeline::{Mode, Pipeline, Verdict};
use drpipe::prelude::*;

use crate::support::{Call, Collected, Numbers};

/// Says that it was called, and has nothing for an hour.
struct Waits(mpsc::Sender<()>);

impl Producer for Waits {
    type Out = i64;

    fn next(&mut self, _: &mut Emitter<i64>) -> Result<Next> {
        self.0.send(())?;
        Ok(Next::Idle(Duration::from_secs(3600)))
    }
}

#[test]
fn a_run_whose_producer_idles_drains_at_once() {
    for mode in [Mode::Sequential, Mode::Threads] {
        let (called, calls) = mpsc::channel();
        let handle = Pipeline::builder()
            .producer("WAITS", move || Waits(called.clone()))
            .consumer("COLLECT", Collected::default().collector())
            .build()
            .unwrap()
            .start(mode)
            .unwrap();
        calls.recv().unwrap();
        handle.control().drain();
        assert_eq!(handle.wait().unwrap().verdict, Verdict::Interrupted);
    }
}

#[test]
fn a_call_may_emit_on_threads_that_end_with_it() {
    let on_a_thread = |number: i64, out: &mut Emitter<'_, i64>| {
        out.send(10 * number)?;
        thread::scope(|scope| scope.spawn(|| out.send(10 * number + 1)).join().unwrap())?;
        out.send(10 * number + 2)
    };
    for mode in [Mode::Sequential, Mode::Threads] {
        let collected = Collected::default();
        Pipeline::builder()
            .producer("NUMBERS", Numbers::below(3))
            .stage("SPLIT", move || Call(on_a_thread))
            .consumer("COLLECT", collected.collector())
            .build()
            .unwrap()
            .run(mode)
            .unwrap();
        assert_eq!(collected.in_order(), [0, 1, 2, 10, 11, 12, 20, 21, 22]);
    }
}

#[test]
fn nothing_waits_behind_a_long_call_while_another_worker_is_idle() {
    const MESSAGES: usize = 10_000;
    // The calls that have ended. The long call ends when it is the only one left.
    let ended = Arc::new((Mutex::new(0), Condvar::new()));
    let call = move |number: i64, out: &mut Emitter<'_, i64>| {
        let (count, changed) = &*ended;
        let mut count = count.lock().unwrap();
        if number == MESSAGES as i64 / 2 {
            let others = |count: &mut usize| *count < MESSAGES - 1;
            let limit = Duration::from_secs(60);
            let wait = changed.wait_timeout_while(count, limit, others).unwrap().1;
            assert!(!wait.timed_out(), "messages wait behind this one");
        } else {
            *count += 1;
            changed.notify_all();
        }
        out.send(number)
    };
    let collected = Collected::default();
    let report = Pipeline::builder()
        .producer("NUMBERS", Numbers::below(MESSAGES as i64))
        .stage("SOME", move || Call(call.clone()))
        .threads(2)
        .consumer("COLLECT", collected.collector())
        .build()
        .unwrap()
        .run(Mode::Threads)
        .unwrap();
    assert_eq!(report.verdict, Verdict::Done);
    assert_eq!(collected.in_order().len(), MESSAGES);
}
