//! Sentences of docs/BEHAVIOR.md that no other test holds.

use std::sync::mpsc;
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
