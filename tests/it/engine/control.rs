//! A run is steered while it goes on: pauses, the number of workers, failed inputs
//! that are tried again, early ends. Whatever is done to it, nothing is lost.

mod retry;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use drpipe::event::{Event, Snapshot, StepStatus};
use drpipe::pipeline::{Builder, Control, Handle, Mode, Pipeline, Report, SteerError, Verdict};
use drpipe::prelude::*;
use drpipe::status::stream::{Seen, Watcher};

use crate::support::processes::LIMIT;
use crate::support::{Call, Collected};

const BOTH: [Mode; 2] = [Mode::Sequential, Mode::Threads];

/// Emits the whole numbers below `end`, and goes on until it is told that it is enough.
struct Endless {
    next: i64,
    end: i64,
    enough: Arc<AtomicBool>,
}

impl Producer for Endless {
    type Out = i64;

    fn next(&mut self, out: &mut Emitter<i64>) -> Result<Next> {
        if self.enough.load(Ordering::SeqCst) {
            return Ok(Next::Done);
        }
        if self.next == self.end {
            return Ok(Next::Idle(Duration::from_millis(1)));
        }
        out.send(self.next)?;
        self.next += 1;
        Ok(Next::More)
    }
}

/// A run that goes on until it is told to end.
struct Run {
    handle: Handle,
    watcher: Watcher,
    enough: Arc<AtomicBool>,
    collected: Collected,
    directory: tempfile::TempDir,
}

fn pass(number: i64, out: &mut Emitter<i64>) -> Result<()> {
    out.send(number)
}

/// NUMBERS, the stages that `stages` adds, COLLECT.
fn start(mode: Mode, stages: impl FnOnce(Builder) -> Builder) -> Run {
    start_below(i64::MAX, mode, stages)
}

/// A run of few numbers, which all fit into a queue.
fn start_few(mode: Mode, stages: impl FnOnce(Builder) -> Builder) -> Run {
    start_below(9, mode, stages)
}

fn start_below(end: i64, mode: Mode, stages: impl FnOnce(Builder) -> Builder) -> Run {
    let (enough, collected) = (Arc::new(AtomicBool::new(false)), Collected::default());
    let producer = {
        let enough = Arc::clone(&enough);
        move || Endless { next: 0, end, enough: Arc::clone(&enough) }
    };
    let directory = tempfile::tempdir().unwrap();
    let builder = stages(Pipeline::builder().producer("NUMBERS", producer));
    let builder = builder.consumer("COLLECT", collected.collector()).quarantine(directory.path());
    let handle = builder.build().unwrap().start(mode).unwrap();
    let watcher = handle.stream().watch();
    Run { handle, watcher, enough, collected, directory }
}

fn with_pass(mode: Mode) -> Run {
    start(mode, |builder| builder.stage("PASS", || Call(pass)))
}

impl Run {
    fn control(&self) -> Control {
        self.handle.control()
    }

    /// Waits for an event from which `wanted` makes something.
    fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            match self.watcher.next(Some(LIMIT)) {
                Seen::Event(told) => {
                    if let Some(found) = wanted(&told.event) {
                        return found;
                    }
                }
                Seen::Missed(_) => {}
                Seen::Nothing | Seen::End => break,
            }
        }
        panic!("{what}: it did not happen")
    }

    fn until_numbers(&mut self, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        self.until(what, |event| match event {
            Event::Progress(snapshot) if wanted(snapshot) => Some(snapshot.clone()),
            _ => None,
        })
    }

    /// Waits until more has been collected than at present.
    fn goes_on(&mut self) {
        let so_far = self.collected.in_order().len() as u64;
        self.until_numbers("more is collected", |now| step(now, "COLLECT").counts.done > so_far);
    }

    /// Ends production, and checks that all that was produced has arrived once.
    fn end(self) -> (Report, tempfile::TempDir) {
        self.enough.store(true, Ordering::SeqCst);
        let (report, collected, directory) = self.wait();
        let emitted = report.step("NUMBERS").unwrap().counts.emitted as i64;
        assert_eq!(collected, (0..emitted).collect::<Vec<_>>());
        (report, directory)
    }

    fn wait(self) -> (Report, Vec<i64>, tempfile::TempDir) {
        let report = self.handle.wait().unwrap();
        for step in &report.steps {
            let counts = step.counts;
            assert_eq!(counts.received, counts.done + counts.failed + counts.dropped, "{step:?}");
        }
        (report, self.collected.sorted(), self.directory)
    }
}

fn step<'a>(snapshot: &'a Snapshot, name: &str) -> &'a StepStatus {
    snapshot.steps.iter().find(|step| &*step.name == name).unwrap()
}

fn is_quiet(snapshot: &Snapshot) -> bool {
    snapshot.steps.iter().all(|step| step.busy == 0)
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(result: Result<T, SteerError>) -> String {
    match result {
        Err(error @ SteerError::Refused(_)) => error.to_string(),
        other => panic!("it should have been refused: {other:?}"),
    }
}

#[test]
fn a_paused_run_begins_nothing_new_until_it_goes_on() {
    for mode in BOTH {
        let mut run = with_pass(mode);
        run.goes_on();
        run.control().pause(None).unwrap();
        let first = run.until_numbers("all in hand is done", |now| now.paused && is_quiet(now));
        for _ in 0..5 {
            let later = run.until_numbers("the run tells where it stands", |_| true);
            for (before, after) in first.steps.iter().zip(&later.steps) {
                assert_eq!(before.counts, after.counts, "{}", before.name);
            }
        }
        run.control().resume(None).unwrap();
        run.goes_on();
        let (report, _directory) = run.end();
        assert_eq!(report.exit_code, 0);
    }
}

#[test]
fn a_run_that_is_paused_does_not_end() {
    for mode in BOTH {
        let mut run = start_few(mode, |builder| builder.stage("PASS", || Call(pass)));
        run.control().pause(Some("COLLECT")).unwrap();
        run.enough.store(true, Ordering::SeqCst);
        let finished = |now: &Snapshot| step(now, "PASS").finished && is_quiet(now);
        run.until_numbers("the steps before it finish", finished);
        let later = run.until_numbers("the run tells where it stands", |_| true);
        assert!(step(&later, "COLLECT").paused && !step(&later, "COLLECT").finished);
        run.control().resume(Some("COLLECT")).unwrap();
        let (report, _directory) = run.end();
        assert_eq!(report.exit_code, 0);
    }
}

#[test]
fn a_paused_step_holds_back_those_before_it_and_no_others() {
    let mut run = start(Mode::Threads, |builder| {
        builder.stage("A", || Call(pass)).stage("B", || Call(pass)).queue_limit(Some(7))
    });
    run.goes_on();
    run.control().pause(Some("B")).unwrap();
    let full = run.until_numbers("the queue is full", |now| {
        // More than fit, if its worker had many in hand and gave them back.
        step(now, "B").queued >= 7 && step(now, "B").busy == 0 && step(now, "COLLECT").queued == 0
    });
    assert!(step(&full, "B").paused && !full.paused && !step(&full, "A").paused);
    run.control().resume(Some("B")).unwrap();
    run.goes_on();
    run.end();
}

#[test]
fn pausing_twice_is_pausing_once() {
    let mut run = with_pass(Mode::Threads);
    run.goes_on();
    for _ in 0..3 {
        run.control().pause(None).unwrap();
    }
    run.control().resume(None).unwrap();
    run.control().resume(None).unwrap();
    run.goes_on();
    let events = run.handle.stream().watch().events();
    run.end();
    let (mut paused, mut resumed) = (0, 0);
    events.for_each(|told| match told.event {
        Event::Paused { .. } => paused += 1,
        Event::Resumed { .. } => resumed += 1,
        _ => {}
    });
    assert_eq!((paused, resumed), (1, 1));
}

#[test]
fn a_step_of_a_paused_run_stays_as_it_is() {
    let mut run = with_pass(Mode::Threads);
    run.goes_on();
    let control = run.control();
    control.pause(Some("PASS")).unwrap();
    control.pause(None).unwrap();
    let why = refusal(control.resume(Some("PASS")));
    assert!(why.contains("the whole run is paused"), "{why}");
    control.resume(None).unwrap();
    let now = run.until_numbers("the run goes on", |now| !now.paused && is_quiet(now));
    assert!(step(&now, "PASS").paused, "a refusal changes nothing");
    control.resume(Some("PASS")).unwrap();
    run.goes_on();
    run.end();
}

#[test]
fn a_step_that_is_not_there_is_unknown() {
    let run = with_pass(Mode::Threads);
    let control = run.control();
    let told = [control.pause(Some("PAS")), control.resume(Some("PAS"))];
    for result in told.into_iter().chain([control.set_workers("PAS", 2)]) {
        let Err(error @ SteerError::UnknownStep { .. }) = result else { panic!("{result:?}") };
        let why = error.to_string();
        assert!(why.contains("did you mean \"PASS\"?") && why.contains("NUMBERS"), "{why}");
    }
    run.end();
}

#[test]
fn a_paused_run_can_be_drained_and_stopped() {
    for mode in BOTH {
        for step in [None, Some("PASS"), Some("NUMBERS")] {
            let mut run = with_pass(mode);
            run.goes_on();
            let control = run.control();
            control.pause(step).unwrap();
            control.drain();
            run.until("it drains", |event| matches!(event, Event::Stopping { .. }).then_some(()));
            // It may be over by now, which is said in other words.
            assert!(control.pause(None).is_err(), "it could not end");
            let (report, collected, _directory) = run.wait();
            assert_eq!((report.verdict.clone(), report.exit_code), (Verdict::Interrupted, 130));
            let emitted = report.step("NUMBERS").unwrap().counts.emitted as i64;
            assert_eq!(collected, (0..emitted).collect::<Vec<_>>(), "what was taken is done");
        }
        let mut run = with_pass(mode);
        run.goes_on();
        run.control().pause(None).unwrap();
        run.control().stop_now();
        let (report, ..) = run.wait();
        assert_eq!(report.verdict, Verdict::Interrupted);
    }
}

#[test]
fn a_run_that_is_over_says_so() {
    for mode in BOTH {
        let run = with_pass(mode);
        let control = run.control();
        run.end();
        for told in [control.pause(None), control.resume(None), control.set_workers("PASS", 2)] {
            let Err(error @ SteerError::Ended) = told else { panic!("{told:?}") };
            assert_eq!(error.to_string(), "the run is over");
        }
    }
}

#[test]
fn a_step_that_has_finished_cannot_be_steered() {
    let mut run = start_few(Mode::Threads, |builder| builder.stage("PASS", || Call(pass)));
    let control = run.control();
    control.pause(Some("COLLECT")).unwrap();
    run.enough.store(true, Ordering::SeqCst);
    run.until_numbers("PASS finishes", |now| step(now, "PASS").finished);
    for result in [control.pause(Some("PASS")), control.set_workers("PASS", 3)] {
        let why = refusal(result);
        assert!(why.contains("\"PASS\" has finished"), "{why}");
    }
    control.resume(Some("COLLECT")).unwrap();
    run.end();
}

#[test]
fn workers_come_and_go_under_load_and_nothing_is_lost() {
    let mut run = start(Mode::Threads, |builder| {
        builder.stage("A", || Call(pass)).stage("B", || Call(pass)).threads(3)
    });
    run.goes_on();
    for workers in [4, 1, 7, 2, 32, 1, 3] {
        let others = 8 - workers.min(7);
        run.control().set_workers("A", workers).unwrap();
        run.control().set_workers("B", others).unwrap();
        run.until_numbers("there are so many", |now| {
            step(now, "A").workers == workers && step(now, "B").workers == others
        });
        run.goes_on();
    }
    // One after the other, without waiting for what they lead to.
    for round in 0..60 {
        run.control().set_workers("A", 1 + round * 7 % 5).unwrap();
    }
    let (report, _directory) = run.end();
    assert_eq!(report.exit_code, 0);
    for step in &report.steps {
        assert!((0.0..=101.0).contains(&step.busy_percent), "{step:?}");
    }
    assert_eq!(report.step("A").unwrap().workers, 32, "the most that it had");
}

/// Counts its messages and tells how many they were when it finishes.
struct Tally(i64);

impl Stage for Tally {
    type In = i64;
    type Out = i64;
    const STATEFUL: bool = true;

    fn run(&mut self, _: i64, _: &mut Emitter<i64>) -> Result<()> {
        self.0 += 1;
        Ok(())
    }

    fn finish(&mut self, out: &mut Emitter<i64>) -> Result<()> {
        out.send(self.0)
    }
}

#[test]
fn a_worker_that_goes_gives_out_what_it_has_gathered() {
    let mut run = start(Mode::Threads, |builder| builder.stage("TALLY", || Tally(0)).threads(4));
    let tallied = |now: &Snapshot| step(now, "TALLY").counts.done > 100;
    run.until_numbers("something is gathered", tallied);
    run.control().set_workers("TALLY", 1).unwrap();
    run.until_numbers("three have gone", |now| step(now, "COLLECT").counts.received == 3);
    run.control().set_workers("TALLY", 2).unwrap();
    run.enough.store(true, Ordering::SeqCst);
    let (report, tallies, _directory) = run.wait();
    assert_eq!(report.exit_code, 0);
    assert_eq!(tallies.len(), 5);
    let emitted = report.step("NUMBERS").unwrap().counts.emitted as i64;
    assert_eq!(tallies.iter().sum::<i64>(), emitted);
}

#[test]
fn a_number_of_workers_that_cannot_be_is_refused() {
    struct Alone;
    impl Stage for Alone {
        type In = i64;
        type Out = i64;
        const SINGLETON: bool = true;
        fn run(&mut self, number: i64, out: &mut Emitter<i64>) -> Result<()> {
            out.send(number)
        }
    }
    let stages = |builder: Builder| builder.stage("ALONE", || Alone).stage("PASS", || Call(pass));
    let mut run = start(Mode::Threads, stages);
    run.goes_on();
    for (step, workers, part) in [
        ("NUMBERS", 2, "is a producer"),
        ("ALONE", 2, "one worker only"),
        ("PASS", 0, "to stop the step, pause it"),
        ("PASS", 257, "expected 1 to 256 workers, found 257"),
    ] {
        let why = refusal(run.control().set_workers(step, workers));
        assert!(why.contains(part), "{why}");
    }
    run.control().set_workers("ALONE", 1).unwrap();
    run.end();

    let mut run = start(Mode::Sequential, stages);
    run.goes_on();
    let why = refusal(run.control().set_workers("PASS", 2));
    assert!(why.contains("sequential"), "{why}");
    run.end();
}
