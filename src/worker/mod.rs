//! What runs the code of a step: the calls of a stage with panics caught, on
//! a thread of its own (`thread`) or on the caller's (`sequential`).

mod guard;
pub(crate) mod sequential;
pub(crate) mod thread;

use std::time::{Duration, Instant};

use crate::error::{Failure, Result};
use crate::message::{Message, Output};
use crate::registry::{Build, Task};
use crate::router::{Completion, Outcome, Production};
use crate::stage::{Context, Next, Outputs};

use guard::{Caught, guarded};

/// One instance of a stage and what it takes to make another.
pub(crate) struct Worker {
    build: Build,
    context: Context,
    /// None after a panic whose successor could not be built.
    task: Option<Box<dyn Task>>,
}

impl Worker {
    /// Builds and initialises the stage.
    ///
    /// # Errors
    /// What building or `init` failed with; a panic as a failure.
    pub(crate) fn new(build: Build, context: Context) -> Result<Self> {
        let task = Self::make(&build, &context)?;
        Ok(Self { build, context, task: Some(task) })
    }

    fn make(build: &Build, context: &Context) -> Result<Box<dyn Task>> {
        let made = guarded(|| {
            let mut task = build()?;
            task.init(context)?;
            Ok(task)
        });
        made.unwrap_or_else(|Caught(panic)| Err(panic.wrap("init panicked")))
    }

    /// Processes one message; what it emits is added to `outputs`.
    pub(crate) fn run(&mut self, message: Message, outputs: &mut Vec<Output>) -> Completion {
        let before = outputs.len();
        let start = Instant::now();
        let Message { id, origin, payload, .. } = message;
        let outcome = match self
            .guarded(origin.as_deref(), false, outputs, |task, emitted| task.run(payload, emitted))
        {
            Ok(Ok(())) => Outcome::Done,
            Ok(Err(failure)) => Outcome::Failed(failure),
            Err(Caught(panic)) => {
                self.replace_task();
                Outcome::Panicked(panic)
            }
        };
        if outcome != Outcome::Done {
            outputs.truncate(before);
        }
        let emitted = (outputs.len() - before) as u32;
        Completion { id, outcome, outputs: emitted, busy: start.elapsed() }
    }

    /// Lets the producer emit until there are `count` items, it has no more at
    /// the moment, or `slice` has passed.
    pub(crate) fn produce(&mut self, count: u32, slice: Duration) -> (Production, Vec<Output>) {
        let mut outputs = Vec::new();
        let start = Instant::now();
        let mut calls = 0;
        let result = loop {
            let before = outputs.len();
            calls += 1;
            let next = self.guarded(None, true, &mut outputs, |task, emitted| task.next(emitted));
            // A panic may have left it in any state: it is not asked again.
            let next = next.unwrap_or_else(|Caught(panic)| Err(panic.into_permanent()));
            if next.is_err() {
                outputs.truncate(before);
            }
            let full = outputs.len() >= count as usize || start.elapsed() >= slice;
            if next != Ok(Next::More) || full {
                break next;
            }
        };
        (Production { result, calls, busy: start.elapsed() }, outputs)
    }

    /// Lets the stage finish.
    pub(crate) fn finish(&mut self) -> (Result<()>, Vec<Output>) {
        let mut outputs = Vec::new();
        let finished = self.guarded(None, true, &mut outputs, |task, emitted| task.finish(emitted));
        let result = finished.unwrap_or_else(|Caught(panic)| Err(panic));
        if result.is_err() {
            outputs.clear();
        }
        (result, outputs)
    }

    fn guarded<R>(
        &mut self,
        origin: Option<&str>,
        names_origins: bool,
        gathered: &mut Vec<Output>,
        call: impl FnOnce(&mut dyn Task, &mut Outputs<'_>) -> Result<R>,
    ) -> std::result::Result<Result<R>, Caught> {
        let Some(task) = &mut self.task else {
            return Ok(Err(Failure::retryable(
                "the stage panicked before and could not be initialised again",
            )));
        };
        let mut outputs = Outputs { context: &self.context, origin, names_origins, gathered };
        guarded(|| call(task.as_mut(), &mut outputs))
    }

    /// After a panic the instance may be in any state: a new one takes over.
    fn replace_task(&mut self) {
        if let Some(task) = self.task.take() {
            // Its destructor may panic too, which changes nothing.
            let _ = guarded(|| {
                drop(task);
                Ok(())
            });
        }
        self.task = Self::make(&self.build, &self.context).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Data;
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
        let mut worker = Worker::new(build_stage(|| Picky), context()).unwrap();
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
    fn an_init_that_panics_is_a_failure() {
        let build: Build = std::sync::Arc::new(|| panic!("no lamp"));
        let error = Worker::new(build, context()).err().unwrap();
        assert!(error.to_string().contains("no lamp"), "{error}");
    }
}
