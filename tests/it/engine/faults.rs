//! Runs that go wrong: they end, with the right code, and say what happened.

use std::sync::mpsc;
use std::time::Duration;

use drpipe::event::{Cause, Event};
use drpipe::pipeline::{Builder, Mode, Pipeline, Report, Verdict};
use drpipe::plan::OnError;
use drpipe::prelude::*;

use crate::support::{Attempts, Call, Collected, Numbers};

const BOTH: [Mode; 2] = [Mode::Sequential, Mode::Threads];

/// Runs with a quarantine of its own and gives the events too.
fn run(builder: Builder, mode: Mode) -> (Report, Vec<Event>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let pipeline = builder.quarantine(directory.path()).build().unwrap();
    let handle = pipeline.start(mode).unwrap();
    let events = handle.stream().watch().events();
    let report = handle.wait().unwrap();
    for step in &report.steps {
        let counts = step.counts;
        assert_eq!(counts.received, counts.done + counts.failed + counts.dropped, "{step:?}");
    }
    (report, events.map(|told| told.event.clone()).collect(), directory)
}

fn pass(number: i64, out: &mut Emitter<i64>) -> Result<()> {
    out.send(number)
}

#[test]
fn ctapipe_a_stage_that_fails_loses_nothing_and_the_run_ends() {
    for mode in BOTH {
        let collected = Collected::default();
        let builder = Pipeline::builder()
            .producer("NUMBERS", Numbers::below(10))
            .stage("PICKY", || {
                Call(|number, out: &mut Emitter<i64>| {
                    out.send(number)?;
                    if number == 4 { Err(Failure::permanent("no fours")) } else { Ok(()) }
                })
            })
            .threads(2)
            .consumer("COLLECT", collected.collector());
        let (report, events, directory) = run(builder, mode);
        assert_eq!((report.verdict, report.exit_code), (Verdict::SomeFailed, 1));
        assert_eq!(collected.sorted(), [0, 1, 2, 3, 5, 6, 7, 8, 9]);
        assert_eq!(report.quarantined, 1);
        let entry = directory.path().join(&report.run).join("000001-PICKY");
        let reason = std::fs::read_to_string(entry.join("reason.json")).unwrap();
        let reason: serde_json::Value = serde_json::from_str(&reason).unwrap();
        assert_eq!(reason["reason"], serde_json::json!(["no fours"]));
        assert_eq!(std::fs::read(entry.join("header.bin")).unwrap(), 4_i64.to_le_bytes());
        assert!(
            events.iter().any(|event| matches!(event, Event::Failed { cause: Cause::Failed, .. }))
        );
    }
}

#[test]
fn ctapipe_a_consumer_that_fails_on_the_last_message_is_not_silent() {
    for mode in BOTH {
        let collected = Collected::default();
        let check = |number| {
            if number == 9 { Err(Failure::permanent("disk full")) } else { Ok(()) }
        };
        let builder = Pipeline::builder()
            .producer("NUMBERS", Numbers::below(10))
            .consumer("COLLECT", collected.checked(check));
        let (report, _, _directory) = run(builder, mode);
        assert_eq!((report.exit_code, report.quarantined), (1, 1));
        assert_eq!((collected.sorted().len(), collected.finished()), (9, 1));
    }
}

#[test]
fn ctapipe_a_producer_that_fails_ends_the_run_with_a_code() {
    struct Broken(i64);
    impl Producer for Broken {
        type Out = i64;
        fn next(&mut self, out: &mut Emitter<i64>) -> Result<Next> {
            if self.0 == 5 {
                return Err(Failure::permanent("the shutter is stuck"));
            }
            out.send(self.0)?;
            self.0 += 1;
            Ok(Next::More)
        }
    }
    for mode in BOTH {
        let collected = Collected::default();
        let builder = Pipeline::builder()
            .producer("BROKEN", || Broken(0))
            .stage("PASS", || Call(pass))
            .consumer("COLLECT", collected.collector());
        let (report, _, _directory) = run(builder, mode);
        assert_eq!(report.exit_code, 3);
        let Verdict::Stopped(reason) = &report.verdict else { panic!("{report:?}") };
        assert!(reason.contains("the shutter is stuck"), "{reason}");
        assert_eq!(collected.sorted(), [0, 1, 2, 3, 4], "what was produced is processed");
    }
}

#[test]
fn a_producer_that_panics_ends_the_run_with_a_code() {
    struct Panicking;
    impl Producer for Panicking {
        type Out = i64;
        fn next(&mut self, _: &mut Emitter<i64>) -> Result<Next> {
            panic!("out of cryogen")
        }
    }
    for mode in BOTH {
        let collected = Collected::default();
        let builder = Pipeline::builder()
            .producer("PANICKING", || Panicking)
            .retries(5, Duration::ZERO)
            .consumer("COLLECT", collected.collector());
        let (report, _, _directory) = run(builder, mode);
        let Verdict::Stopped(reason) = &report.verdict else { panic!("{report:?}") };
        assert!(reason.contains("out of cryogen"), "{reason}");
    }
}

#[test]
fn a_producer_is_asked_again_as_often_as_its_retries_say() {
    struct Flaky(u32);
    impl Producer for Flaky {
        type Out = i64;
        fn next(&mut self, out: &mut Emitter<i64>) -> Result<Next> {
            self.0 += 1;
            match self.0 {
                1 | 2 | 4 => Err(Failure::retryable("busy")),
                7 => Ok(Next::Done),
                _ => out.send(i64::from(self.0)).map(|()| Next::More),
            }
        }
    }
    for mode in BOTH {
        let collected = Collected::default();
        let builder = Pipeline::builder()
            .producer("FLAKY", || Flaky(0))
            .retries(2, Duration::from_millis(1))
            .consumer("COLLECT", collected.collector());
        let (report, _, _directory) = run(builder, mode);
        assert_eq!(report.exit_code, 0);
        assert_eq!(collected.in_order(), [3, 5, 6]);
    }
}

#[test]
fn ctapipe_an_init_that_fails_does_not_hang() {
    struct NoLamp;
    impl Stage for NoLamp {
        type In = i64;
        type Out = i64;
        fn init(&mut self, context: &Context) -> Result<()> {
            // One of its workers could start.
            if context.worker() == 0 { Ok(()) } else { Err(Failure::permanent("no lamp")) }
        }
        fn run(&mut self, number: i64, out: &mut Emitter<i64>) -> Result<()> {
            out.send(number)
        }
    }
    for mode in BOTH {
        let collected = Collected::default();
        let builder = Pipeline::builder()
            .producer("NUMBERS", Numbers::below(10))
            .stage("NOLAMP", || NoLamp)
            .threads(2)
            .consumer("COLLECT", collected.collector());
        let (report, events, _directory) = run(builder, mode);
        assert_eq!(report.exit_code, 3);
        let Verdict::Stopped(reason) = &report.verdict else { panic!("{report:?}") };
        assert!(reason.contains("\"NOLAMP\"") && reason.contains("no lamp"), "{reason}");
        assert!(collected.in_order().is_empty(), "work began though an init failed");
        assert!(!events.contains(&Event::Started));
    }
}

#[test]
fn a_panic_fails_one_message_and_says_where() {
    for mode in BOTH {
        let collected = Collected::default();
        let builder = Pipeline::builder()
            .producer("NUMBERS", Numbers::below(100))
            .stage("PANICKY", || {
                Call(|number, out: &mut Emitter<i64>| {
                    assert!(number % 10 != 3, "unlucky {number}");
                    out.send(number)
                })
            })
            .threads(2)
            .consumer("COLLECT", collected.collector());
        let (report, events, _directory) = run(builder, mode);
        assert_eq!((report.exit_code, report.quarantined), (1, 10));
        assert_eq!(collected.sorted().len(), 90);
        let panicked = events.iter().any(|event| match event {
            Event::Failed { cause: Cause::Panicked, failure, .. } => {
                let text = failure.to_string();
                text.contains("faults.rs") && text.contains("unlucky")
            }
            _ => false,
        });
        assert!(panicked, "{events:?}");
    }
}

#[test]
fn a_retry_succeeds_and_emits_once() {
    for mode in BOTH {
        let (collected, attempts) = (Collected::default(), Attempts::default());
        let builder = Pipeline::builder()
            .producer("NUMBERS", Numbers::below(60))
            .stage("FLAKY", move || {
                let attempts = attempts.clone();
                Call(move |number, out: &mut Emitter<i64>| {
                    out.send(number)?;
                    match (number % 3, attempts.count(number)) {
                        (1, 1) => Err(Failure::retryable("busy")),
                        (2, 1 | 2) => panic!("very busy"),
                        _ => Ok(()),
                    }
                })
            })
            .threads(2)
            .retries(2, Duration::from_millis(1))
            .consumer("COLLECT", collected.collector());
        let (report, _, _directory) = run(builder, mode);
        assert_eq!(report.exit_code, 0);
        assert_eq!(collected.sorted(), (0..60).collect::<Vec<_>>());
        assert_eq!(report.step("FLAKY").unwrap().counts.retried, 20 + 40);
    }
}

#[test]
fn a_permanent_failure_is_not_retried() {
    let attempts = Attempts::default();
    let seen = attempts.clone();
    let builder = Pipeline::builder()
        .producer("NUMBERS", Numbers::below(1))
        .stage("HOPELESS", move || {
            let attempts = attempts.clone();
            Call(move |number, _: &mut Emitter<i64>| {
                attempts.count(number);
                Err(Failure::permanent("truncated"))
            })
        })
        .retries(5, Duration::from_secs(1000))
        .consumer("COLLECT", Collected::default().collector());
    let (report, _, _directory) = run(builder, Mode::Threads);
    assert_eq!(report.exit_code, 1);
    assert_eq!(seen.count(0), 2, "tried once, and counted once here");
}

#[test]
fn the_policy_skip_drops_and_says_so() {
    for mode in BOTH {
        let collected = Collected::default();
        let builder = Pipeline::builder()
            .producer("NUMBERS", Numbers::below(10))
            .stage("PICKY", || {
                Call(|number, out: &mut Emitter<i64>| match number {
                    7 => Err(Failure::permanent("no sevens")),
                    _ => out.send(number),
                })
            })
            .on_error(OnError::Skip)
            .consumer("COLLECT", collected.collector());
        let (report, _, directory) = run(builder, mode);
        let counts = report.step("PICKY").unwrap().counts;
        assert_eq!((counts.done, counts.failed, counts.dropped), (9, 0, 1));
        assert_eq!((report.exit_code, report.quarantine), (1, None));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn the_policy_stop_ends_the_run_names_the_first_error_and_closes_the_files() {
    for mode in BOTH {
        let collected = Collected::default();
        let builder = Pipeline::builder()
            .producer("NUMBERS", Numbers::below(1_000_000))
            .stage("STRICT", || {
                Call(|number, out: &mut Emitter<i64>| match number {
                    50 => Err(Failure::permanent("fifty")),
                    _ => out.send(number),
                })
            })
            .threads(2)
            .on_error(OnError::Stop)
            .consumer("COLLECT", collected.collector());
        let (report, _, _directory) = run(builder, mode);
        assert_eq!(report.exit_code, 3);
        let Verdict::Stopped(reason) = &report.verdict else { panic!("{report:?}") };
        assert_eq!(reason, "\"STRICT\" failed: fifty");
        assert_eq!(collected.finished(), 1, "finish was not called");
        assert_eq!(report.quarantined, 1, "the input that stopped the run is kept");
    }
}

#[test]
fn a_finish_that_fails_is_not_silent() {
    struct Unfinished;
    impl Consumer for Unfinished {
        type In = i64;
        fn run(&mut self, _: i64) -> Result<()> {
            Ok(())
        }
        fn finish(&mut self) -> Result<()> {
            Err(Failure::permanent("cannot write the page"))
        }
    }
    for mode in BOTH {
        let builder = Pipeline::builder()
            .producer("NUMBERS", Numbers::below(3))
            .consumer("UNFINISHED", || Unfinished);
        let (report, events, _directory) = run(builder, mode);
        assert_eq!(report.exit_code, 1);
        assert!(events.iter().any(|event| matches!(event, Event::FinishFailed { .. })));
    }
}

#[test]
fn an_undeclared_next_step_fails_the_message_and_names_the_nearest() {
    let collected = Collected::default();
    let builder = Pipeline::builder()
        .producer("NUMBERS", Numbers::below(1))
        .stage("LOST", || Call(|number, out: &mut Emitter<i64>| out.send_to("COLECT", number)))
        .consumer("COLLECT", collected.collector());
    let (report, events, _directory) = run(builder, Mode::Threads);
    assert_eq!(report.exit_code, 1);
    let said = events.iter().any(|event| match event {
        Event::Failed { failure, .. } => failure.to_string().contains("did you mean \"COLLECT\"?"),
        _ => false,
    });
    assert!(said, "{events:?}");
}

/// Emits for ever.
struct Endless(i64);

impl Producer for Endless {
    type Out = i64;
    fn next(&mut self, out: &mut Emitter<i64>) -> Result<Next> {
        self.0 += 1;
        out.send(self.0)?;
        Ok(Next::More)
    }
}

#[test]
fn a_drained_run_processes_what_it_has_taken() {
    for mode in BOTH {
        let collected = Collected::default();
        let handle = Pipeline::builder()
            .producer("ENDLESS", || Endless(0))
            .stage("PASS", || Call(pass))
            .threads(2)
            .consumer("COLLECT", collected.collector())
            .build()
            .unwrap()
            .start(mode)
            .unwrap();
        assert!(handle.stream().watch().events().any(|told| told.event == Event::Started));
        handle.control().drain();
        let report = handle.wait().unwrap();
        assert_eq!((&report.verdict, report.exit_code), (&Verdict::Interrupted, 130));
        let produced = report.step("ENDLESS").unwrap().counts.emitted as i64;
        assert_eq!(collected.sorted(), (1..=produced).collect::<Vec<_>>());
        assert_eq!(collected.finished(), 1);
    }
}

#[test]
fn a_backoff_does_not_outlive_a_drain() {
    for mode in BOTH {
        let directory = tempfile::tempdir().unwrap();
        let handle = Pipeline::builder()
            .producer("NUMBERS", Numbers::below(1))
            .stage("BUSY", || {
                Call(|_, _: &mut Emitter<i64>| Err(Failure::retryable("the archive is busy")))
            })
            .retries(5, Duration::from_secs(100_000))
            .consumer("COLLECT", Collected::default().collector())
            .quarantine(directory.path())
            .build()
            .unwrap()
            .start(mode)
            .unwrap();
        let mut events = handle.stream().watch().events();
        assert!(events.any(|told| matches!(told.event, Event::Retrying { .. })));
        handle.control().drain();
        let report = handle.wait().unwrap();
        assert_eq!((&report.verdict, report.quarantined), (&Verdict::Interrupted, 1));
        let counts = report.step("BUSY").unwrap().counts;
        assert_eq!((counts.failed, counts.dropped), (1, 0));
        let entry = directory.path().join(&report.run).join("000001-BUSY");
        let reason = std::fs::read_to_string(entry.join("reason.json")).unwrap();
        let reason: serde_json::Value = serde_json::from_str(&reason).unwrap();
        assert_eq!(reason["attempts"], 1);
        assert_eq!(reason["reason"][1], "the archive is busy");
    }
}

#[test]
fn a_stopped_run_ends_though_a_stage_hangs() {
    let (entered, hanging) = mpsc::channel();
    let handle = Pipeline::builder()
        .producer("ENDLESS", || Endless(0))
        .stage("HANG", move || {
            let entered = entered.clone();
            Call(move |_, _: &mut Emitter<i64>| {
                entered.send(()).unwrap();
                loop {
                    std::thread::park();
                }
            })
        })
        .consumer("COLLECT", Collected::default().collector())
        .build()
        .unwrap()
        .start(Mode::Threads)
        .unwrap();
    hanging.recv().unwrap();
    handle.control().drain();
    handle.control().stop_now();
    let report = handle.wait().unwrap();
    assert_eq!(report.verdict, Verdict::Interrupted);
    for step in &report.steps {
        assert_eq!(step.counts.open(), 0, "{step:?}");
    }
}

#[test]
fn inputs_that_cannot_be_kept_are_reported_as_lost() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let report = Pipeline::builder()
        .producer("NUMBERS", Numbers::below(3))
        .stage("FAIL", || Call(|_, _: &mut Emitter<i64>| Err(Failure::permanent("no"))))
        .consumer("COLLECT", Collected::default().collector())
        .quarantine(file.path())
        .build()
        .unwrap()
        .run(Mode::Threads)
        .unwrap();
    assert_eq!(report.exit_code, 3);
    let Verdict::Stopped(reason) = &report.verdict else { panic!("{report:?}") };
    assert!(reason.contains("cannot keep a failed input"), "{reason}");
}
