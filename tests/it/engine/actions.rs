//! Stages count the actions that their work consists of.

use std::time::Duration;

use drpipe::event::ActionCounts;
use drpipe::pipeline::{Mode, Pipeline};
use drpipe::prelude::*;
use drpipe::stages::{Discard, Integers};

/// Subtracts the bias of all numbers and the dark of even ones. At 3 the flat is missing once.
#[derive(Default)]
struct Reduce {
    has_failed: bool,
}

impl Stage for Reduce {
    type In = i64;
    type Out = i64;

    fn init(&mut self, _: &Context) -> Result<()> {
        count_action("read_bias", ActionOutcome::Done, Duration::from_millis(3));
        Ok(())
    }

    fn run(&mut self, number: i64, out: &mut Emitter<'_, i64>) -> Result<()> {
        count_action("bias", ActionOutcome::Done, Duration::from_millis(2));
        let dark = if number % 2 == 0 { ActionOutcome::Done } else { ActionOutcome::Skipped };
        count_action("dark", dark, Duration::from_millis(1));
        if number == 3 && !std::mem::replace(&mut self.has_failed, true) {
            count_action("flat", ActionOutcome::Deferred, Duration::ZERO);
            return Err(Failure::retryable("no flat yet"));
        }
        out.send(number)
    }

    fn finish(&mut self, _: &mut Emitter<'_, i64>) -> Result<()> {
        count_action("report", ActionOutcome::Failed, Duration::ZERO);
        Err(Failure::permanent("no paper"))
    }
}

#[test]
fn every_mode_counts_executions_those_of_failed_calls_too() {
    for mode in [Mode::Sequential, Mode::Threads] {
        let quarantine = tempfile::tempdir().unwrap();
        let pipeline = Pipeline::builder()
            .producer("NUMBERS", || Integers::new(1, 1000))
            .stage("REDUCE", Reduce::default)
            .retries(1, Duration::ZERO)
            .consumer("END", Discard::default)
            .quarantine(quarantine.path())
            .build();
        let report = pipeline.unwrap().run(mode).unwrap();
        let step = report.step("REDUCE").unwrap();
        assert_eq!((step.counts.done, step.counts.retried), (1000, 1), "{mode:?}");
        let counts = |action: &ActionCounts| {
            let ActionCounts { name, done, skipped, failed, deferred, .. } = action;
            (name.to_string(), [*done, *skipped, *failed, *deferred])
        };
        let expected = [
            ("read_bias", [1, 0, 0, 0]),
            ("bias", [1001, 0, 0, 0]),
            ("dark", [500, 501, 0, 0]),
            ("flat", [0, 0, 0, 1]),
            ("report", [0, 0, 1, 0]),
        ];
        let expected = expected.map(|(name, counts)| (name.to_owned(), counts));
        let found: Vec<_> = step.actions.iter().map(counts).collect();
        assert_eq!(found, expected, "{mode:?}");
        assert_eq!(step.actions[1].busy, Duration::from_millis(2002));
        assert!(report.step("END").unwrap().actions.is_empty());
    }
}
