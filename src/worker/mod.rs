//! What runs the code of a step: the calls of a stage with panics caught, on
//! a thread of its own (`thread`) or on the caller's (`sequential`).

mod guard;
pub(crate) mod sequential;
pub(crate) mod thread;

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::message::{Message, Output};
use crate::registry::{Build, Task};
use crate::router::{Completion, Outcome, Production};
use crate::stage::{Context, Next, Outputs};

use guard::{Caught, guarded};

/// What is known of a call's input.
struct Input<'a> {
    message: u64,
    origin: Option<&'a str>,
    /// Whether each output is asked for its own origin.
    names_origins: bool,
}

/// Of a producer and in `finish`, where there is none.
const NO_INPUT: Input<'static> = Input { message: 0, origin: None, names_origins: true };

/// One instance of a stage. It goes on after a panic: what it has gathered (a sum,
/// a page) would be lost with it.
pub(crate) struct Worker {
    context: Context,
    task: Box<dyn Task>,
}

impl Worker {
    /// Builds and initialises the stage.
    ///
    /// # Errors
    /// What building or `init` failed with; a panic as a failure.
    pub(crate) fn new(build: &Build, context: Context) -> Result<Self> {
        let made = guarded(|| {
            let mut task = build()?;
            task.init(&context)?;
            Ok(task)
        });
        let task = made.unwrap_or_else(|Caught(panic)| Err(panic.wrap("init panicked")))?;
        Ok(Self { context, task })
    }

    /// Processes one message; what it emits is added to `outputs`.
    pub(crate) fn run(&mut self, message: Message, outputs: &mut Vec<Output>) -> Completion {
        let before = outputs.len();
        let start = Instant::now();
        let Message { id, origin, payload, .. } = message;
        let input = Input { message: id, origin: origin.as_deref(), names_origins: false };
        let outcome = match self.guarded(input, outputs, |task, emitted| task.run(payload, emitted))
        {
            Ok(Ok(())) => Outcome::Done,
            Ok(Err(failure)) => Outcome::Failed(failure),
            Err(Caught(panic)) => Outcome::Panicked(panic),
        };
        if outcome != Outcome::Done {
            outputs.truncate(before);
        }
        let emitted = (outputs.len() - before) as u32;
        Completion { id, outcome, outputs: emitted, busy: start.elapsed() }
    }

    /// Asks the producer up to `count` times, until there are as many items, it
    /// has no more at the moment, or `slice` has passed.
    pub(crate) fn produce(&mut self, count: u32, slice: Duration) -> (Production, Vec<Output>) {
        let mut outputs = Vec::new();
        let start = Instant::now();
        let mut calls = 0;
        let result = loop {
            let before = outputs.len();
            calls += 1;
            let next = self.guarded(NO_INPUT, &mut outputs, |task, emitted| task.next(emitted));
            // A panic may have left it in any state: it is not asked again.
            let next = next.unwrap_or_else(|Caught(panic)| Err(panic.into_permanent()));
            if next.is_err() {
                outputs.truncate(before);
            }
            let full =
                calls >= count || outputs.len() >= count as usize || start.elapsed() >= slice;
            if next != Ok(Next::More) || full {
                break next;
            }
        };
        (Production { result, calls, busy: start.elapsed() }, outputs)
    }

    /// Lets the stage finish.
    pub(crate) fn finish(&mut self) -> (Result<()>, Vec<Output>) {
        let mut outputs = Vec::new();
        let finished = self.guarded(NO_INPUT, &mut outputs, |task, emitted| task.finish(emitted));
        let result = finished.unwrap_or_else(|Caught(panic)| Err(panic));
        if result.is_err() {
            outputs.clear();
        }
        (result, outputs)
    }

    fn guarded<R>(
        &mut self,
        input: Input<'_>,
        gathered: &mut Vec<Output>,
        call: impl FnOnce(&mut dyn Task, &mut Outputs<'_>) -> Result<R>,
    ) -> std::result::Result<Result<R>, Caught> {
        let Input { message, origin, names_origins } = input;
        let mut outputs =
            Outputs { context: &self.context, origin, message, names_origins, gathered };
        guarded(|| call(self.task.as_mut(), &mut outputs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Data;
    use crate::error::Failure;
    use crate::registry::build_stage;
    use crate::stage::{Emitter, Stage};

    /// Emits its input, then panics on odd and fails on negative numbers.
    struct Picky;

    impl Stage for Picky {
        type In = i64;
        type Out = i64;
        fn run(&mut self, number: i64, out: &mut Emitter<'_, i64>) -> Result<()> {
            out.send(number)?;
            assert!(number % 2 == 0, "odd: {number}");
            if number < 0 {
                return Err(Failure::permanent("negative"));
            }
            Ok(())
        }
    }

    fn context() -> Context {
        Context { run: "r".into(), step: "S".into(), worker: 0, next_steps: vec!["T".into()] }
    }

    fn message(number: i64) -> Message {
        let payload = number.to_payload().unwrap();
        Message { id: 7, attempt: 0, origin: None, payload }
    }

    #[test]
    fn what_a_failed_or_panicked_attempt_emitted_is_dropped() {
        let mut worker = Worker::new(&build_stage(|| Picky), context()).unwrap();
        let mut outputs = Vec::new();
        assert_eq!(worker.run(message(2), &mut outputs).outcome, Outcome::Done);
        let failed = worker.run(message(-2), &mut outputs);
        assert_eq!(failed.outcome, Outcome::Failed(Failure::permanent("negative")));
        let Outcome::Panicked(panic) = worker.run(message(3), &mut outputs).outcome else {
            panic!("it should have panicked")
        };
        assert!(panic.to_string().contains("odd: 3"), "{panic}");
        assert!(panic.to_string().contains("worker/mod.rs"), "{panic}");
        assert_eq!(worker.run(message(4), &mut outputs).outputs, 1);
        assert_eq!(outputs.len(), 2);
    }

    #[test]
    fn what_a_stage_has_gathered_survives_a_panic() {
        struct Gatherer(i64);
        impl Stage for Gatherer {
            type In = i64;
            type Out = i64;
            fn run(&mut self, number: i64, _: &mut Emitter<'_, i64>) -> Result<()> {
                assert!(number != 3, "three");
                self.0 += number;
                Ok(())
            }
            fn finish(&mut self, out: &mut Emitter<'_, i64>) -> Result<()> {
                out.send(self.0)
            }
        }
        let mut worker = Worker::new(&build_stage(|| Gatherer(0)), context()).unwrap();
        for number in [1, 2, 3, 4] {
            worker.run(message(number), &mut Vec::new());
        }
        let (result, outputs) = worker.finish();
        assert_eq!(result, Ok(()));
        assert_eq!(outputs[0].payload, 7_i64.to_payload().unwrap());
    }

    #[test]
    fn an_init_that_panics_is_a_failure() {
        let build: Build = std::sync::Arc::new(|| panic!("no lamp"));
        let error = Worker::new(&build, context()).err().unwrap();
        assert!(error.to_string().contains("no lamp"), "{error}");
    }
}
