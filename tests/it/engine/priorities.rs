//! Priorities: what is urgent overtakes what waits, and so does what descends from it.

use std::sync::{Arc, Condvar, Mutex};

use drpipe::pipeline::Verdict;
use drpipe::prelude::*;

use crate::support::{Call, Collected};

/// A number that threads wait for.
#[derive(Clone, Default)]
struct Level(Arc<(Mutex<i64>, Condvar)>);

impl Level {
    fn rise(&self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_all();
    }

    fn await_at_least(&self, least: i64) {
        let level = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(level, |level| *level < least).unwrap());
    }
}

const NORMAL: i64 = 8;
const HIGH: i64 = 4;

/// Emits 0 and 1 to 8, and, once they have passed the next step, 9 to 12 with high priority.
struct Late {
    passed: Level,
    calls: u32,
}

impl Producer for Late {
    type Out = i64;

    fn next(&mut self, out: &mut Emitter<'_, i64>) -> Result<Next> {
        self.calls += 1;
        if self.calls == 1 {
            (0..=NORMAL).try_for_each(|number| out.send(number))?;
            return Ok(Next::More);
        }
        self.passed.await_at_least(1 + NORMAL);
        out.set_priority(Priority::High);
        (1..=HIGH).try_for_each(|number| out.send(NORMAL + number))?;
        Ok(Next::Done)
    }
}

/// Passes numbers on. It says when it has passed one, and when it has finished: then everything
/// stands in the next queue.
struct Pass {
    passed: Level,
    finished: Level,
}

impl Stage for Pass {
    type In = i64;
    type Out = i64;

    fn run(&mut self, number: i64, out: &mut Emitter<'_, i64>) -> Result<()> {
        self.passed.rise();
        out.send(number)
    }

    fn finish(&mut self, _: &mut Emitter<'_, i64>) -> Result<()> {
        self.finished.rise();
        Ok(())
    }
}

#[test]
fn what_descends_from_an_urgent_message_overtakes_what_waits_at_each_step() {
    let (passed, finished, collected) = <(Level, Level, Collected)>::default();
    let of_producer = passed.clone();
    let all_wait = finished.clone();
    let report = Pipeline::builder()
        .producer("LATE", move || Late { passed: of_producer.clone(), calls: 0 })
        .stage("PASS", move || Pass { passed: passed.clone(), finished: finished.clone() })
        .stage("SLOW", move || {
            let all_wait = all_wait.clone();
            Call(move |number: i64, out: &mut Emitter<i64>| {
                all_wait.await_at_least(1);
                out.send(number)
            })
        })
        .consumer("COLLECT", collected.collector())
        .build()
        .unwrap()
        .run(Mode::Threads)
        .unwrap();
    assert_eq!(report.verdict, Verdict::Done);
    let expected: Vec<i64> =
        std::iter::once(0).chain(NORMAL + 1..=NORMAL + HIGH).chain(1..=NORMAL).collect();
    assert_eq!(collected.in_order(), expected);
}

#[test]
fn in_order_urgency_counts_for_nothing_at_the_end() {
    struct Mixed(i64);

    impl Producer for Mixed {
        type Out = i64;

        fn next(&mut self, out: &mut Emitter<'_, i64>) -> Result<Next> {
            let priority = if self.0 % 3 == 0 { Priority::High } else { Priority::Normal };
            out.set_priority(priority);
            out.send(self.0)?;
            self.0 += 1;
            Ok(if self.0 == 300 { Next::Done } else { Next::More })
        }
    }

    for mode in [Mode::Sequential, Mode::Threads] {
        let collected = Collected::default();
        let report = Pipeline::builder()
            .producer("MIXED", || Mixed(0))
            .stage("PASS", || Call(|number, out: &mut Emitter<i64>| out.send(number)))
            .threads(3)
            .queue_limit(Some(2))
            .consumer("COLLECT", collected.collector())
            .ordered()
            .build()
            .unwrap()
            .run(mode)
            .unwrap();
        assert_eq!(report.verdict, Verdict::Done);
        assert_eq!(collected.in_order(), Vec::from_iter(0..300), "{mode:?}");
    }
}
