//! Producers that wait until everything that they have emitted has ended.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use drpipe::pipeline::{Builder, Mode, Pipeline, Verdict};
use drpipe::plan::OnError;
use drpipe::prelude::*;

use crate::support::{Call, Collected};

const ROUNDS: usize = 20;
/// The numbers of a round. One of them fails.
const EACH: usize = 6;

#[derive(Serialize, Deserialize)]
struct Number(usize);

impl Data for Number {
    const TYPE: &'static str = "tests/Number/1";
    fn origin(&self) -> Option<String> {
        Some(self.0.to_string())
    }
}

/// Emits some numbers a round, and waits for their end before the next one.
struct Rounds {
    made: usize,
    arrived: Arc<AtomicUsize>,
    /// How many values arrive at the end of the pipeline for each round.
    per_round: usize,
}

impl Producer for Rounds {
    type Out = Number;

    fn next(&mut self, out: &mut Emitter<'_, Number>) -> Result<Next> {
        if self.made.is_multiple_of(EACH) {
            let expected = self.made / EACH * self.per_round;
            assert_eq!(self.arrived.load(Ordering::SeqCst), expected, "it is asked too early");
        }
        if self.made == ROUNDS * EACH {
            return Ok(Next::Done);
        }
        out.send(Number(self.made))?;
        self.made += 1;
        Ok(if self.made.is_multiple_of(EACH) { Next::Barrier } else { Next::More })
    }
}

/// Emits each number twice, and fails on one of each round.
struct Twice;

impl Stage for Twice {
    type In = Number;
    type Out = Number;
    fn run(&mut self, Number(number): Number, out: &mut Emitter<'_, Number>) -> Result<()> {
        if number % EACH == 1 {
            return Err(Failure::permanent("as asked for"));
        }
        out.send(Number(number))?;
        out.send(Number(number))
    }
}

struct Count(Arc<AtomicUsize>);

impl Consumer for Count {
    type In = Number;
    fn run(&mut self, _: Number) -> Result<()> {
        std::thread::sleep(Duration::from_micros(100));
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// A run of rounds of which this many values a round arrive, and their number.
fn rounds(per_round: usize) -> (Builder, Arc<AtomicUsize>) {
    let arrived = Arc::<AtomicUsize>::default();
    let (producer, consumer) = (Arc::clone(&arrived), Arc::clone(&arrived));
    let builder = Pipeline::builder()
        .producer("ROUNDS", move || Rounds { made: 0, arrived: Arc::clone(&producer), per_round })
        .stage("TWICE", || Twice)
        .threads(3)
        .on_error(OnError::Skip)
        .consumer("COUNT", move || Count(Arc::clone(&consumer)))
        .queue_limit(Some(2));
    (builder, arrived)
}

#[test]
fn behind_a_barrier_everything_has_ended() {
    let per_round = 2 * (EACH - 1);
    for mode in [Mode::Sequential, Mode::Threads] {
        let (builder, arrived) = rounds(per_round);
        let report = builder.build().unwrap().run(mode).unwrap();
        assert_eq!(report.verdict, Verdict::SomeFailed, "{mode:?}");
        assert_eq!(arrived.load(Ordering::SeqCst), ROUNDS * per_round);
    }
}

#[test]
fn what_a_resumed_run_leaves_out_holds_up_no_barrier() {
    let directory = tempfile::tempdir().unwrap();
    let run = |per_round| {
        let (builder, _) = rounds(per_round);
        let journaled = builder.journal(directory.path().join("journal"), true);
        journaled.build().unwrap().run(Mode::Threads).unwrap()
    };
    assert_eq!(run(2 * (EACH - 1)).skipped, 0);
    let again = run(0);
    assert_eq!((again.verdict, again.skipped), (Verdict::SomeFailed, (ROUNDS * (EACH - 1)) as u64));
}

#[test]
fn a_run_that_drains_waits_for_no_barrier() {
    struct Once(mpsc::Sender<()>);
    impl Producer for Once {
        type Out = i64;
        fn next(&mut self, out: &mut Emitter<'_, i64>) -> Result<Next> {
            self.0.send(())?;
            out.send(1).map(|()| Next::Barrier)
        }
    }
    let (called, calls) = mpsc::channel();
    let (release, wait) = mpsc::channel::<()>();
    let wait = Arc::new(std::sync::Mutex::new(wait));
    let collected = Collected::default();
    let handle = Pipeline::builder()
        .producer("ONCE", move || Once(called.clone()))
        .stage("WAIT", move || {
            let wait = Arc::clone(&wait);
            Call(move |number: i64, out: &mut Emitter<'_, i64>| {
                wait.lock().unwrap().recv()?;
                out.send(number)
            })
        })
        .consumer("COLLECT", collected.collector())
        .build()
        .unwrap()
        .start(Mode::Threads)
        .unwrap();
    calls.recv().unwrap();
    handle.control().drain();
    release.send(()).unwrap();
    assert_eq!(handle.wait().unwrap().verdict, Verdict::Interrupted);
    assert_eq!((collected.in_order(), calls.try_iter().count()), (vec![1], 0));
}
